"""What is right to know about data although one can learn from it, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from automl.data.clean import normalise_space
from automl.data.found import folder_sentences
from automl.data.modalities import Modality
from automl.space.errors import is_number

SHOWN = 5
FEW_ROWS = 5  # of a class in train: too few to learn from or to measure
OVERWHELMING = 0.95  # share of one class
NEARLY_UNIQUE = 0.5  # classes for each row
MANY_NUMBERS = 30  # classes that are all numbers: rather a quantity than classes


def findings(profile: Mapping[str, Any], kind: Modality) -> list[str]:
    """Sentences about a profile of the rows, worst first."""
    return [
        *_about_repeats(profile, kind),
        *_about_labels(profile["classes"]["train"]),
        *_about_classes(profile["classes"]),
        *_about_bad_rows(profile),
        *folder_sentences(profile["folders"]),
        *(warning for file in profile["files"].values() for warning in file.get("warnings", ())),
    ]


def _about_repeats(profile: Mapping[str, Any], kind: Modality) -> Iterator[str]:
    for split, shared in profile["duplicates"].items():
        if shared and split != "train":
            rows = profile["rows"][split]
            yield f"{shared:,} of {rows:,} {split} {kind.plural} {_is(shared)} also in the training data"
    if profile["conflicts"]["inputs"]:
        conflicts = profile["conflicts"]
        count = conflicts["inputs"]
        what = f"{kind.name} stands" if count == 1 else f"{kind.plural} stand"
        yield f"{count:,} {what} with different labels, in {conflicts['rows']:,} rows"
    for split, rows in profile["removed"].items():
        if rows:
            yield f"rows removed from {split} because their {kind.name} stands elsewhere too: {rows:,}"


def _about_labels(rows: Mapping[str, int]) -> Iterator[str]:
    """What labels there are in train, with the rows of each."""
    total = sum(rows.values())
    if len(rows) > NEARLY_UNIQUE * total and total > FEW_ROWS:
        yield f"{len(rows):,} classes for {total:,} train rows: is the label column one of identifiers or of free text?"
    elif len(rows) >= MANY_NUMBERS and all(is_number(name) for name in rows):
        yield f"the {len(rows):,} labels are all numbers: is this a quantity? each is learned as a class by itself"
    largest = max(rows, key=lambda name: rows[name])
    if rows[largest] > OVERWHELMING * total:
        yield f"{rows[largest] / total:.1%} of the train rows are {largest!r}: accuracy says little; try macro_f1"
    few = [repr(name) for name, count in rows.items() if 0 < count < FEW_ROWS]
    if few and len(rows) <= NEARLY_UNIQUE * total:
        yield f"classes with fewer than {FEW_ROWS} train rows: {_some(few)}"
    alike: dict[str, list[str]] = {}
    for name in rows:
        alike.setdefault(normalise_space(name).casefold(), []).append(repr(name))
    yield from (f"classes that look alike: {_some(names)}" for names in alike.values() if len(names) > 1)


def _about_classes(classes: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for split, counts in classes.items():
        missing = [repr(name) for name, rows in counts.items() if rows == 0]
        if missing:
            yield f"the {split} data has no row of {len(missing)} of {len(counts)} classes: {_some(missing)}"


def _about_bad_rows(profile: Mapping[str, Any]) -> Iterator[str]:
    for file, noted in profile["bad_rows"].items():
        reasons = "; ".join(f"{count:,} with {reason}" for reason, count in noted["counts"].items())
        yield f"rows of {file} were left out: {reasons}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
