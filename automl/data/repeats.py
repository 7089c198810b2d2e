"""Rows whose inputs are the same (of texts, but for white space and case): within a split, across splits, at odds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from automl.data.modalities import MODALITIES, Modality
from automl.data.parts import Part, parts_of
from automl.data.workers import Map

Hashes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
LATER = {"train": ("validation", "test"), "validation": ("test",), "test": ()}


@dataclass(frozen=True)
class Conflicts:
    """Inputs that stand with different labels: how many, their rows, and one row (from 0) of each of the first."""

    inputs: int
    rows: int
    first: list[list[int]]
    """Row numbers of some of them: two with different labels each."""


def hash_inputs(path: Path, kind: Modality, apply: Map) -> Hashes:
    """int64 [rows] of a split on disk, alike where two inputs are the same."""
    parts = list(apply(partial(_hash_part, kind.name), parts_of(path)))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def first_ones(hashes: Mapping[str, Hashes]) -> dict[str, Mask]:
    """Of each split, bool [rows], true at the first row of each input that no later split (test last) has."""
    kept = {}
    for split, those in hashes.items():
        mask = np.zeros(len(those), dtype=bool)
        mask[np.unique(those, return_index=True)[1]] = True
        for later in LATER[split]:
            if later in hashes:
                mask &= ~_found_in(those, hashes[later])
        kept[split] = mask
    return kept


def count_repeats(hashes: Mapping[str, Hashes]) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of each split whose input an earlier row of the split has, and, train aside, those that train has too."""
    within = {split: len(those) - len(np.unique(those)) for split, those in hashes.items()}
    across = {
        split: int(_found_in(those, hashes["train"]).sum()) for split, those in hashes.items() if split != "train"
    }
    return within, across


def find_conflicts(hashes: Hashes, labels: npt.NDArray[np.int32], shown: int) -> Conflicts:
    """Inputs that stand with different labels, `shown` of them with two rows."""
    if not len(hashes):
        return Conflicts(0, 0, [])
    order = np.argsort(hashes, kind="stable")
    sorted_hashes, sorted_labels = hashes[order], labels[order]
    starts = np.flatnonzero(np.r_[True, sorted_hashes[1:] != sorted_hashes[:-1]])
    ends = np.r_[starts[1:], len(order)]
    odd = np.minimum.reduceat(sorted_labels, starts) != np.maximum.reduceat(sorted_labels, starts)
    first = []
    for start, end in zip(starts[odd][:shown], ends[odd][:shown], strict=True):
        other = start + int(np.argmax(sorted_labels[start:end] != sorted_labels[start]))
        first.append([int(order[start]), int(order[other])])
    return Conflicts(int(odd.sum()), int((ends - starts)[odd].sum()), first)


def _hash_part(modality: str, part: Part) -> Hashes:
    sameness = MODALITIES[modality].sameness
    return np.frombuffer(b"".join(blake2b(sameness(each), digest_size=8).digest() for each in part.inputs()), np.int64)


def _found_in(those: Hashes, others: Hashes) -> Mask:
    if not len(others):
        return np.zeros(len(those), dtype=bool)
    ordered = np.sort(others)
    nearest = np.searchsorted(ordered, those).clip(max=len(ordered) - 1)
    return np.asarray(ordered[nearest] == those)
