"""The rows of a split's files that can be used, checked and in one place; the others counted and shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from automl.data.columns import as_text, blank, label_column, no_label, shown
from automl.data.csv_rows import HEADER, CsvFaults, look_at_csv, require_closed_quotes
from automl.data.damaged import read_undamaged
from automl.data.modalities import Modality, modality_of
from automl.data.origins import origin_columns, row_places
from automl.data.parts import PART_ROWS
from automl.data.sequences import OTHER_CHANNELS, channels_of, most_common
from automl.data.splits import no_inputs, read_keys, split_key
from automl.data.tables import column_names, find_files, read_batches, require_columns
from automl.data.wide import Steps, input_column, input_columns, is_wide, steps_of
from automl.space import UserError
from automl.space.errors import of_setting

SHOWN = 5  # examples of what is wrong with a file
SHOWN_CHARACTERS = 60
DETAIL_CHARACTERS = 200
NO_LABEL, NOT_LABEL = "no label", "something else than a label"
UNKNOWN_LABEL = "a label that the training data does not have"

Names = dict[str, int]
"""The numbers of classes, by name, in the order in which train has them."""


@dataclass
class Channels:
    """How many channels series have: as many as most of the first rows of train that have any."""

    expected: int = 0

    def others(self, inputs: pa.Array) -> npt.NDArray[np.bool_]:
        """Bool [rows], true where a packed series has another number."""
        found = channels_of(inputs)
        there = found > 0
        if not self.expected and there.any():
            self.expected = most_common(found[there].tolist())
        return np.asarray(there & (found != self.expected))


@dataclass
class BadRows:
    """Rows of one file that cannot be used: how many, the first row numbers (from 1) and what they have, by reason."""

    rows: int = 0
    """Of the file, good and bad."""
    counts: Counter[str] = field(default_factory=Counter)
    first_rows: dict[str, list[int]] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    """Of these rows, what an editor calls them: `line 3`, or `row 2` where the file has no lines."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, list[str]] = field(default_factory=dict)
    """What the modality says of the rows in `first_rows`, empty where it says nothing."""
    unknown_labels: list[str] = field(default_factory=list)

    warnings: list[str] = field(default_factory=list)

    def note(self, reason: str, row: int, content: str, count: int = 1, /) -> None:
        """Count one row, by its number (from 0), or `count` of which it is the first."""
        self.rows += count
        self.note_all(reason, np.array([row] if count else [], dtype=np.int64), lambda place: (content, ""))
        self.counts[reason] += count - bool(count)
        self.counts += Counter()  # without those of 0

    def note_all(self, reason: str, rows: npt.NDArray[np.int64], content: Callable[[int], tuple[str, str]]) -> None:
        """Count row numbers (from 0), of which `content` says, by their place among them, what they have, in detail."""
        if len(rows):
            self.counts[reason] += len(rows)
            rows_shown = self.first_rows.setdefault(reason, [])
            for place, row in enumerate(rows[: SHOWN - len(rows_shown)]):
                rows_shown.append(int(row) + 1)
                example, detail = content(place)
                self.examples.setdefault(reason, []).append(shortened(detail or example))
                self.details.setdefault(reason, []).append(" ".join(detail.split())[:DETAIL_CHARACTERS])

    def find_places(self, file: Path) -> None:
        """Fill `places`; reads the file again as far as the last of the rows."""
        rows = {row - 1 for of_reason in self.first_rows.values() for row in of_reason}
        found = row_places(file, sorted(rows)) if rows and not file.is_dir() else {}
        for reason, of_reason in self.first_rows.items():
            self.places[reason] = [found.get(row - 1, f"row {row}") for row in of_reason]

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "rows": self.rows,
            "counts": dict(self.counts),
            "first_rows": self.first_rows,
            "places": self.places,
            "examples": self.examples,
            "details": self.details,
            "unknown_labels": self.unknown_labels,
            "warnings": self.warnings,
        }


def train_steps(data: Mapping[str, Any]) -> list[list[str]]:
    """The columns of each channel that the train files have, where series lie across columns; else nothing."""
    kind = modality_of(data)
    if not is_wide(kind, data[kind.name]):
        return []
    damaged = data["on_bad_rows"] == "report"
    tables = [column_names(file, damaged=damaged) for file in find_files(data["train"])]
    return steps_of(data[kind.name], tables, no_inputs(data))


def stage(
    data: Mapping[str, Any],
    split: str,
    names: Names,
    found: dict[str, dict[str, Any]],
    folder: Path,
    known: Steps = (),
    channels: Channels | None = None,
) -> Path:
    """Write the usable rows of a split's files to one Arrow file: input, label's number, key for splitting, origin.

    `names` grows by the labels of train; `found` by what is known of each file; `known` are the `train_steps`;
    `channels` are those of train. Raises UserError where rows cannot be used and the `data` section wants that to be an
    error, or where there are more of them than it allows.
    """
    path = folder / f"staged-{split}.arrow"
    kind = modality_of(data)
    key = split_key(data) if split == "train" else None
    others = [data["label"], *([key] if key else [])]
    schema = staged_schema(kind)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        files = find_files(data[split])
        damaged = data["on_bad_rows"] == "report"
        faults = {file: look_at_csv(file, data["label"]) for file in files}
        for file in files:
            if not damaged:
                require_closed_quotes(file, faults[file], "; mend it, or leave it out with data: {on_bad_rows: report}")
            elif HEADER in faults[file].quotes or HEADER in faults[file].long:
                require_closed_quotes(file, faults[file])
        require_columns(files, others, damaged=damaged)
        for number, file in enumerate(files):
            noted = BadRows()
            there = column_names(file, damaged=damaged)
            columns = input_columns(file, kind, data[kind.name], there, no_inputs(data), known) if there else []
            columns = [*columns, *others, *(["file"] if file.is_dir() else [])]
            noted.warnings += filter(None, [faults[file].warning])
            batches = _numbered(file, list(dict.fromkeys(columns)), data, noted, faults[file])
            for batch in _usable(
                number, file, batches, data, key, names, split == "train", noted, known, channels or Channels()
            ):
                for start in range(0, batch.num_rows, PART_ROWS):
                    writer.write_batch(batch.slice(start, PART_ROWS))
            noted.find_places(file)
            _judge(file, noted, data)
            found[str(file)] = {"split": split, **noted.described()}
    return path


def staged_schema(kind: Modality) -> pa.Schema:
    """Of staged rows; `key` is null where rows are split by nothing but chance; `file` and `row` are the origin."""
    origin = [("file", pa.int32()), ("row", pa.int64())]
    return pa.schema([(kind.name, kind.type), ("label", pa.int32()), ("key", pa.float64()), *origin])


def _usable(
    number: int,
    file: Path,
    batches: Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]],
    data: Mapping[str, Any],
    key: str | None,
    names: Names,
    new_names: bool,
    noted: BadRows,
    known: Steps,
    channels: Channels,
) -> Iterator[pa.RecordBatch]:
    kind, schema = modality_of(data), staged_schema(modality_of(data))
    label = data["label"]
    for rows, batch in batches:
        noted.rows += batch.num_rows
        column = input_column(batch, kind, data[kind.name], no_inputs(data), known)
        with of_setting("data", kind.name):
            inputs, unusable = kind.read(column, f"{file}: column {data[kind.name]!r}")
        with of_setting("data", "label"):
            labels = label_column(batch.column(label), f"{file}: column {label!r}")
        keys, no_key = _keys(batch, key, data, file)
        if kind.name == "series":
            unusable[OTHER_CHANNELS] = channels.others(inputs)
        unusable = {**unusable, NOT_LABEL: no_label(batch.column(label)), NO_LABEL: blank(labels), **no_key}
        usable = np.ones(batch.num_rows, dtype=bool)
        for reason, those in unusable.items():
            cells = column if reason in kind.faults else None
            _note(noted, reason, those & usable, rows, batch, partial(_detail, file, kind, batch, cells))
            usable &= ~those
        encoded = labels.filter(pa.array(usable)).dictionary_encode()
        found = encoded.dictionary.to_pylist()
        if new_names:
            for name in found:
                names.setdefault(name, len(names))
        numbers = np.array([names.get(name, -1) for name in found], dtype=np.int32)
        codes = np.full(batch.num_rows, -1, dtype=np.int32)
        codes[usable] = numbers[encoded.indices.to_numpy(zero_copy_only=False)]
        _note(noted, UNKNOWN_LABEL, usable & (codes < 0), rows, batch, partial(_detail, file, kind, batch, None))
        unknown = [name for name in found if name not in names and name not in noted.unknown_labels]
        noted.unknown_labels.extend(unknown[: SHOWN - len(noted.unknown_labels)])
        whole = pa.record_batch([inputs, pa.array(codes), keys, *origin_columns(number, rows).values()], schema=schema)
        yield whole.filter(pa.array(codes >= 0))


def _judge(file: Path, noted: BadRows, data: Mapping[str, Any]) -> None:
    """Raise UserError where a file has more unusable rows than the `data` section allows."""
    bad = sum(noted.counts.values())
    if bad and data["on_bad_rows"] == "fail":
        raise UserError(
            f"{_complaint(file, noted, data)}; mend them, or leave them out with data: {{on_bad_rows: report}}"
        )
    limit = data.get("bad_rows_limit", 1.0)
    if bad > limit * noted.rows:
        raise UserError(f"{_complaint(file, noted, data)}; that is more than bad_rows_limit, {limit:.2%} of its rows")


def _complaint(file: Path, noted: BadRows, data: Mapping[str, Any]) -> str:
    kind, parts = modality_of(data), []
    columns = dict.fromkeys([NO_LABEL, NOT_LABEL, UNKNOWN_LABEL], data["label"])
    columns |= dict.fromkeys([*kind.faults, OTHER_CHANNELS], data[kind.name])
    for reason, count in noted.counts.items():
        where = f" in column {columns[reason]!r}" if reason in columns else ""
        more = ", ..." if count > SHOWN else ""
        rows = _listed(noted.places[reason]) + more
        if any(details := noted.details[reason]):
            rows = "; ".join(f"{row}: {each}" for row, each in zip(noted.places[reason], details, strict=True)) + more
        names = f": {', '.join(map(repr, noted.unknown_labels))}" if reason == UNKNOWN_LABEL else ""
        parts.append(f"{count:,} with {reason}{where} ({rows}{names})")
    return f"{file} has rows that cannot be used: {'; '.join(parts)}"


def _listed(places: list[str]) -> str:
    """`lines 3, 5` of `line 3` and `line 5`."""
    word, _, first = places[0].partition(" ")
    numbers = [first, *(place.partition(" ")[2] for place in places[1:])]
    return f"{word}{'s' if len(places) > 1 else ''} {', '.join(numbers)}"


def _numbered(
    file: Path, columns: list[str], data: Mapping[str, Any], noted: BadRows, faults: CsvFaults
) -> Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]]:
    """Batches with the numbers of their rows; lines that cannot be read are errors, or noted on request."""
    if data["on_bad_rows"] == "report":
        yield from read_undamaged(file, columns, noted.note, faults)
        return
    start = 0
    for batch in read_batches(file, columns):
        yield np.arange(start, start + batch.num_rows), batch
        start += batch.num_rows


def _keys(
    batch: pa.RecordBatch, key: str | None, data: Mapping[str, Any], file: Path
) -> tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]:
    """What rows are split by, float64, and which rows lack it."""
    if key is None:
        return pa.nulls(batch.num_rows, pa.float64()), {}
    setting = "group" if data.get("group") else "time"
    with of_setting("data", setting):
        keys, missing = read_keys(batch.column(key), data, f"{file}: column {key!r}")
    return keys, {f"no {setting}": missing}


def _note(
    noted: BadRows,
    reason: str,
    those: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.int64],
    batch: pa.RecordBatch,
    detail: Callable[[int], str],
) -> None:
    places = np.flatnonzero(those)
    noted.note_all(reason, rows[places], lambda place: (_shown(batch, int(places[place])), detail(int(places[place]))))


def _shown(batch: pa.RecordBatch, row: int) -> str:
    """A row for people; of bytes, which say nothing to them, there are none."""
    kinds = (pa.types.is_binary, pa.types.is_large_binary)
    names = [each.name for each in batch.schema if not any(is_(each.type) for is_ in kinds)]
    return shown(batch.select(names), row) if names else ""


def _detail(file: Path, kind: Modality, batch: pa.RecordBatch, cells: pa.Array | None, row: int) -> str:
    """What the modality says of a cell; of a folder of images the path of the file."""
    if file.is_dir():
        return kind.explain(str(file / batch.column("file")[row].as_py())) if cells is not None else ""
    return "" if cells is None else kind.explain(as_text(cells)[row].as_py())


def shortened(content: str) -> str:
    """Its beginning in one line, for people."""
    content = " ".join(content.split())
    return content if len(content) <= SHOWN_CHARACTERS else content[: SHOWN_CHARACTERS - 1] + "…"
