"""The linear floor: what a model without any depth reaches on the same rows.

Logistic regression, of texts on TF-IDF, of images on their pixels, of series on their steps.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from automl.data import DenseRows, Encoder, Prepared, clean_texts
from automl.data.encode import fixed_clean
from automl.data.files import replace_folder
from automl.space import UserError
from automl.space.safe_files import MAX_VALUES, read_as
from automl.training.dense_floor import (
    DENSE_NAMES,
    DENSE_PENALTIES,
    DenseLinear,
    dense_features,
    fit_standardised,
    load_dense_linear,
    load_regression,
)
from automl.training.metrics import compute_metrics
from automl.training.tensor_files import read_header, write_tensors

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

MOST_BYTES = 1024**3  # of linear.json
VALUES_OF_A_TERM = 5  # in JSON: its comma, and those that it has itself
INVERSE_PENALTIES = (0.5, 1.0, 2.0, 4.0)
NAME = "TF-IDF and logistic regression"
# Thai and Lao, Burmese, Khmer, kana, and Han: scripts without spaces between words
SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
SPACELESS_SHARE = 0.3  # of the characters of texts whose features are characters
LOOKED_AT = 1000  # train rows, for their script
NGRAMS = {"word": (1, 2), "char": (1, 3)}


@dataclass(frozen=True)
class Linear:
    """A fitted linear model with all that it does to raw texts."""

    clean: Mapping[str, Any]
    vectorizer: TfidfVectorizer
    regression: LogisticRegression
    classes: int

    def predict_probabilities(self, texts: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Probabilities float32 [texts, classes] of raw texts; 0 for a class that no train row had."""
        return _of_features(self, self.vectorizer.transform(clean_texts(texts, self.clean)))

    def save(self, folder: Path) -> None:
        """Write the folder with linear.json (cleaning, terms) and linear.safetensors, whole or not at all."""
        with replace_folder(folder) as temporary:
            vocabulary = self.vectorizer.vocabulary_
            content = {
                "clean": dict(self.clean),
                "classes": self.classes,
                "analyzer": self.vectorizer.analyzer,
                "terms": sorted(vocabulary, key=vocabulary.__getitem__),
            }
            (temporary / "linear.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            weights = {
                "idf": self.vectorizer.idf_,
                "coefficients": self.regression.coef_,
                "intercepts": self.regression.intercept_,
                "classes": self.regression.classes_,
            }
            write_tensors(temporary / "linear.safetensors", weights)


class _LinearFile(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    clean: dict[str, bool | str]
    classes: Annotated[int, Field(ge=1)]
    analyzer: Literal["word", "char"] = "word"
    terms: Annotated[list[str], Field(min_length=1)]


def load_linear(folder: Path) -> Linear | DenseLinear:
    """What a linear model's `save` wrote. Raises UserError where it is damaged, OSError where a file is missing."""
    path = folder / "linear.json"
    if not path.exists():
        return load_dense_linear(folder)
    idf = read_header(folder / "linear.safetensors").get("idf")  # as many numbers as there are terms
    count = 0 if idf is None else idf.numel()
    content = read_as(path, _LinearFile, MOST_BYTES, max(MAX_VALUES, VALUES_OF_A_TERM * count))
    if len(set(content.terms)) < len(content.terms):
        raise UserError(f"{path} is damaged: a term is there twice")
    regression, others = load_regression(folder, content.classes, len(content.terms))
    weights = others.get("idf")
    if weights is None or weights.shape != (len(content.terms),) or not np.isfinite(weights).all():
        raise UserError(f"{folder} is damaged: its idf do not fit its terms")
    vectorizer = _vectorizer(content.analyzer, content.terms)
    vectorizer.idf_ = weights
    return Linear(fixed_clean(content.clean, path), vectorizer, regression, content.classes)


def _analyzer(texts: Iterable[str]) -> str:
    """`word`, or `char` where texts are in a script without spaces between words."""
    sample = "".join("".join(text.split()) for text in texts)
    return "char" if len(SPACELESS.findall(sample)) > SPACELESS_SHARE * len(sample) else "word"


def _vectorizer(analyzer: str, terms: Sequence[str] | None = None) -> TfidfVectorizer:
    """Unigrams and bigrams of words and runs of punctuation, or characters, two and three; logarithmic frequencies."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=NGRAMS[analyzer],
        min_df=2 if terms is None else 1,
        sublinear_tf=True,
        lowercase=False,
        token_pattern=r"(?u)\b\w+\b|[^\w\s]+" if analyzer == "word" else None,
        vocabulary=terms,
    )


def _of_features(linear: Linear | DenseLinear, features: Any) -> npt.NDArray[np.float32]:
    probabilities = np.zeros((features.shape[0], linear.classes), dtype=np.float32)
    probabilities[:, linear.regression.classes_] = linear.regression.predict_proba(features)
    return probabilities


def fit_floor(
    prepared: Prepared, clean: Mapping[str, Any] | None, *, metric: str, maximize: bool
) -> tuple[Linear | DenseLinear, dict[str, Any]]:
    """Fit the floor on the train rows, choose its penalty on validation, measure it on validation and test.

    Of texts, word unigrams and bigrams that occur at least twice, or one to three characters where words have no spaces
    between them, logarithmic term frequencies; they are cleaned with the `clean` settings, as the searched models' are.
    Of images and series, `dense_features`. Gives the model, and name, validation, test (None without test rows),
    parameters, train_seconds and settings.
    """
    from sklearn.linear_model import LogisticRegression

    clock = time.perf_counter()
    of_text = clean is not None
    vectorizer, features = _text_features(prepared, clean) if clean is not None else (None, dict(_dense(prepared)))
    labels = {split: prepared.labels(split) for split in features}

    def measured(linear: Linear | DenseLinear, split: str) -> dict[str, float]:
        return compute_metrics(_of_features(linear, features[split]), labels[split])

    best: tuple[float, Linear | DenseLinear, dict[str, float]] | None = None
    for penalty in INVERSE_PENALTIES if of_text else DENSE_PENALTIES:
        regression = LogisticRegression(C=penalty, max_iter=300)
        if of_text:
            regression.fit(features["train"], labels["train"])
        else:
            fit_standardised(regression, features["train"], labels["train"])
        classes = len(prepared.classes)
        linear: Linear | DenseLinear
        if clean is not None and vectorizer is not None:
            linear = Linear(clean, vectorizer, regression, classes)
        else:
            encoder = prepared.encoder()
            assert not isinstance(encoder, Encoder)
            linear = DenseLinear(encoder, regression, classes)
        figures = measured(linear, "validation")
        score = figures[metric] if maximize else -figures[metric]
        if best is None or score > best[0]:
            best = (score, linear, figures)
    assert best is not None
    _, linear, validation = best
    return linear, {
        "name": NAME if of_text else DENSE_NAMES["image" if len(prepared.profile["shape"]) == 3 else "series"],
        "validation": validation,
        "test": measured(linear, "test") if "test" in features else None,
        "parameters": int(linear.regression.coef_.size + linear.regression.intercept_.size),
        "train_seconds": time.perf_counter() - clock,
        "settings": {**_settings(vectorizer), "C": linear.regression.C},
    }


def _text_features(prepared: Prepared, clean: Mapping[str, Any]) -> tuple[TfidfVectorizer, dict[str, Any]]:
    """What was fitted on the train rows, and the features of each split that there is."""
    train = prepared.texts("train") or []
    vectorizer = _vectorizer(_analyzer(clean_texts(train[:LOOKED_AT], clean)))
    features = {"train": vectorizer.fit_transform(clean_texts(train, clean))}
    for split in ("validation", "test"):
        texts = prepared.texts(split)
        if texts is not None:
            features[split] = vectorizer.transform(clean_texts(texts, clean))
    return vectorizer, features


def _settings(vectorizer: TfidfVectorizer | None) -> dict[str, Any]:
    if vectorizer is None:
        return {}
    return {"of": vectorizer.analyzer, "ngrams": list(vectorizer.ngram_range), "min_count": vectorizer.min_df}


def _dense(prepared: Prepared) -> Iterator[tuple[str, Any]]:
    for split in ("train", "validation", "test"):
        rows = prepared.rows(split)
        if isinstance(rows, DenseRows):
            yield split, dense_features(rows)
