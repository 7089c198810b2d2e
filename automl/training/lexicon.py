"""What a model's settings want to know of the words in the data: their pretrained vectors and their n-grams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from automl.data import Prepared, Rows
from automl.data.subwords import subword_numbers
from automl.data.vectors import look_up_vectors
from automl.models import Lexicon


def make_lexicon(model: Mapping[str, Any], prepared: Prepared) -> tuple[Lexicon, dict[str, Any]]:
    """The lexicon for a configuration's `model` section, and a report of the words whose vectors were found.

    Of images, their statistics and no report.

    A word without a vector gets a random one with the deviation of the others (Kim 2014, section 3.2, has them
    likewise), drawn from torch's generator. The report is empty where no vectors are asked for; else `vectors` in it
    has found, words (padding and unknown aside) and token_share (of the train rows' tokens, those found). Raises
    UserError where the vectors cannot be read.
    """
    if "mean" in prepared.profile:
        return Lexicon(
            mean=torch.tensor(prepared.profile["mean"]), deviation=torch.tensor(prepared.profile["deviation"])
        ), {}
    ((_, settings),) = model.items()
    vectors, subwords = settings.get("vectors"), settings.get("subwords")
    if not isinstance(vectors, Mapping | None) or not isinstance(subwords, Mapping | None):
        return Lexicon(), {}  # a user's own family may call its settings so
    if vectors is None and subwords is None:
        return Lexicon(), {}
    words = prepared.words()
    report: dict[str, Any] = {}
    values = numbers = None
    if vectors is not None:
        array, found = look_up_vectors(vectors, words, prepared.path.parent)
        values = torch.from_numpy(array)
        deviation = float(array[found].std()) if found.any() else 0.1
        missing = torch.from_numpy(~found)
        missing[0] = False
        values[missing] = torch.randn(int(missing.sum()), values.shape[1]) * deviation
        report["vectors"] = {"found": int(found.sum()), "words": len(words) - 2, "token_share": _share(prepared, found)}
    if subwords is not None:
        numbers = torch.from_numpy(subword_numbers(words, **subwords))
    return Lexicon(values, numbers), report


def _share(prepared: Prepared, found: Any) -> float:
    rows = prepared.rows("train")
    if not isinstance(rows, Rows) or not len(rows.tokens):
        return 0.0
    counts = np.bincount(rows.tokens, minlength=len(found))
    return round(float(counts[found].sum() / counts.sum()), 4)
