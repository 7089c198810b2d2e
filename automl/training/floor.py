"""The linear floor: what a model without any depth reaches on the same rows (TF-IDF and logistic regression)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from automl.data import Prepared, clean_texts
from automl.training.metrics import compute_metrics

INVERSE_PENALTIES = (0.5, 1.0, 2.0, 4.0)
NAME = "TF-IDF and logistic regression"


def fit_floor(prepared: Prepared, clean: Mapping[str, Any], *, metric: str, maximize: bool) -> dict[str, Any]:
    """Fit the floor on the train rows, choose its penalty on validation, measure it on validation and test.

    Word unigrams and bigrams that occur at least twice, logarithmic term frequencies. Texts are cleaned with the
    `clean` settings, as the searched models' are. Gives name, validation, test (None without test rows), parameters,
    train_seconds and settings.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    clock = time.perf_counter()
    features = {}
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=2,
        sublinear_tf=True,
        lowercase=False,
        token_pattern=r"(?u)\b\w+\b|[^\w\s]+",
    )
    for split in ("train", "validation", "test"):
        texts = prepared.texts(split)
        if texts is None:
            continue
        cleaned = clean_texts(texts, clean)
        features[split] = vectorizer.fit_transform(cleaned) if split == "train" else vectorizer.transform(cleaned)
    labels = {split: prepared.labels(split) for split in features}
    classes = len(prepared.classes)

    def measured(model: Any, split: str) -> dict[str, float]:
        probabilities = np.zeros((len(labels[split]), classes), dtype=np.float32)
        probabilities[:, model.classes_] = model.predict_proba(features[split])
        return compute_metrics(probabilities, labels[split])

    best: tuple[float, Any, dict[str, float]] | None = None
    for penalty in INVERSE_PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=300).fit(features["train"], labels["train"])
        figures = measured(model, "validation")
        score = figures[metric] if maximize else -figures[metric]
        if best is None or score > best[0]:
            best = (score, model, figures)
    assert best is not None
    _, model, validation = best
    return {
        "name": NAME,
        "validation": validation,
        "test": measured(model, "test") if "test" in features else None,
        "parameters": int(model.coef_.size + model.intercept_.size),
        "train_seconds": time.perf_counter() - clock,
        "settings": {"ngrams": [1, 2], "min_count": 2, "C": model.C},
    }
