"""What is wrong with the files and columns that a `data` section names, all at once, before any row is prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from automl.data.columns import label_column
from automl.data.modalities import Modality, modality_of
from automl.data.splits import no_inputs, read_keys, split_key
from automl.data.staging import train_steps
from automl.data.tables import column_names, find_files, read_batches, require_names
from automl.data.wide import Steps, input_column, input_columns
from automl.space import UserError
from automl.space.errors import DataFaultsError, Place, listing, of_setting

SPLITS = ("train", "validation", "test")
LOOKED_AT_FILES, LOOKED_AT_ROWS = 20, 32  # of a split and of each of them, for the types of columns
SHOWN_FILES = 3  # with the fault of another

Fault = tuple[Place, str]


def require_columns(data: Mapping[str, Any]) -> None:
    """Raise DataFaultsError with each file that is missing or unreadable, and each column that is missing or of no use.

    Files at URLs are fetched. Of the rows only the first are read; a file without rows is left to `prepare`.
    """
    faults = list(dict.fromkeys(_faults(data)))
    if faults:
        raise DataFaultsError(faults)


def same_columns(data: Mapping[str, Any]) -> Iterator[Fault]:
    """Input and label that are one column."""
    kind = modality_of(data)
    if data[kind.name] == data["label"]:
        yield ("data", "label"), f"{kind.name} and label name the same column, {data['label']!r}; give two"


def _faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    yield from same_columns(data)
    found: dict[str, list[Path]] = {}
    for split in SPLITS:
        for number, named in enumerate(data[split] if isinstance(data[split], list) else []):
            place: Place = ("data", split, number) if len(data[split]) > 1 else ("data", split)
            try:
                found.setdefault(split, []).extend(find_files([named]))
            except UserError as error:
                yield place, str(error)
    steps: Steps = ()
    with suppress(UserError):  # said below, of the file that it is about
        steps = train_steps(data)
    alike: dict[tuple[Place, str], tuple[str, list[Path]]] = {}
    for split, files in found.items():
        for number, file in enumerate(dict.fromkeys(files)):
            for place, message in _in_file(data, split, file, steps, number < LOOKED_AT_FILES):
                alike.setdefault((place, message.replace(str(file), "")), (message, []))[1].append(file)
    for (place, _), (message, those) in alike.items():
        yield place, f"{message}{_others(those[1:])}"


def _others(files: list[Path]) -> str:
    """The same of other files, in a sentence's end."""
    if not files:
        return ""
    more = [f"{len(files) - SHOWN_FILES:,} more files"] if len(files) > SHOWN_FILES else []
    return f"; the same of {listing([*files[:SHOWN_FILES], *more], 'and')}"


def _in_file(data: Mapping[str, Any], split: str, file: Path, steps: Steps, look: bool) -> Iterator[Fault]:
    kind = modality_of(data)
    damaged = data["on_bad_rows"] == "report"
    key = split_key(data) if split == "train" else None
    setting = "group" if data.get("group") else "time"
    try:
        there = column_names(file, damaged=damaged)
    except UserError as error:
        yield ("data", split), str(error)
        return
    if not there:
        return
    right: dict[str, list[str]] = {}
    wanted: dict[str, Callable[[], list[str]]] = {
        kind.name: lambda: input_columns(file, kind, data[kind.name], there, no_inputs(data), steps),
        "label": lambda: _named(file, data["label"], there),
    }
    if key is not None:
        wanted[setting] = lambda: _named(file, key, there)
    for name, columns in wanted.items():
        try:
            right[name] = columns()
        except UserError as error:
            yield ("data", name), str(error)
    if look and right:
        yield from _of_types(data, kind, file, right, steps)


def _named(file: Path, column: str, there: list[str]) -> list[str]:
    require_names(file, [column], there)
    return [column]


def _of_types(
    data: Mapping[str, Any], kind: Modality, file: Path, right: Mapping[str, list[str]], steps: Steps
) -> Iterator[Fault]:
    """Columns whose first rows are of a type that is of no use there."""
    columns = list(dict.fromkeys(chain.from_iterable(right.values())))
    try:
        batch = next(read_batches(file, columns), None)
    except UserError:
        return  # a row that cannot be read: preparing the data says which
    if batch is None:
        return
    batch = batch.slice(0, LOOKED_AT_ROWS)

    def inputs() -> None:
        column = input_column(batch, kind, data[kind.name], no_inputs(data), steps)
        kind.read(column, f"{file}: column {data[kind.name]!r}")

    def keys() -> None:
        column: pa.Array = batch.column(split_key(data))
        read_keys(column, data, f"{file}: column {split_key(data)!r}")

    reads: dict[str, Callable[[], object]] = {
        kind.name: inputs,
        "label": lambda: label_column(batch.column(data["label"]), f"{file}: column {data['label']!r}"),
        "group": keys,
        "time": keys,
    }
    for name in right:
        try:
            with of_setting("data", name):
                reads[name]()
        except DataFaultsError as error:
            yield from error.faults
