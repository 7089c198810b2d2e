"""The data of a run in words and figures, from what its preparation has counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl.data.counted import facts as counted_facts
from automl.data.found import folder_sentences

MOST_CLASSES = 30
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ClassCounts:
    """How many rows of each split are of a class, and its share of the train rows."""

    name: str
    rows: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class DataProfile:
    """`splits` with their rows; the classes with most train rows and how many more there are; further facts."""

    splits: dict[str, int]
    classes: list[ClassCounts]
    classes_left_out: int
    facts: list[tuple[str, str]]


def data_profile(profile: Mapping[str, Any]) -> DataProfile:
    """What the report says of the data; `profile` is the manifest's."""
    splits = {split: profile["rows"][split] for split in SPLITS if split in profile["rows"]}
    counts = profile["classes"]
    ordered = sorted(counts["train"], key=lambda name: -counts["train"][name])
    if len(ordered) <= MOST_CLASSES:
        ordered = list(counts["train"])  # as they are everywhere else
    classes = [
        ClassCounts(
            name,
            tuple(counts.get(split, {}).get(name, 0) for split in splits),
            counts["train"][name] / splits["train"] if splits["train"] else 0.0,
        )
        for name in ordered[:MOST_CLASSES]
    ]
    return DataProfile(splits, classes, len(ordered) - len(classes), list(_facts(profile).items()))


def _facts(profile: Mapping[str, Any]) -> dict[str, str]:
    facts = {}
    if lengths := profile.get("lengths"):
        facts["Length in tokens"] = (
            f"half of the texts have at most {lengths['p50']:,.0f}, 95 % at most {lengths['p95']:,.0f}, "
            f"the longest {lengths['max']:,}; {lengths['mean']:,.1f} on average"
        )
    if profile.get("max_length") is not None:
        cut = f"; {profile['cut']:.1%} of the texts are longer" if profile.get("cut") else ""
        facts["Read up to"] = f"{profile['max_length']:,} tokens{cut}"
    if profile.get("vocabulary"):
        facts["Vocabulary"] = f"{profile['vocabulary']:,} tokens"
    if shape := profile.get("shape"):
        facts["Shape of a row"] = " x ".join(map(str, shape))
    if mean := profile.get("mean"):
        pairs = zip(mean, profile["deviation"], strict=True)
        facts["Channels"] = ", ".join(f"mean {each:.3g}, deviation {spread:.3g}" for each, spread in pairs)
    if again := profile.get("duplicates", {}).get("train"):
        facts["Repeated"] = f"{again:,} train rows hold the same as another"
    if unused := list(folder_sentences(profile.get("folders", {}))):
        facts["Folders"] = "; ".join(unused)
    if counted := list(counted_facts(profile)):
        facts["Cut, dropped, replaced"] = "; ".join(counted)
    bad = Counter[str]()
    for noted in profile.get("bad_rows", {}).values():
        bad += Counter(noted["counts"])
    if bad:
        facts["Left out"] = "; ".join(f"{count:,} rows with {reason}" for reason, count in bad.items())
    return facts
