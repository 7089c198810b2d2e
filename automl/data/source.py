"""The first stage of preparation: raw inputs and label numbers of each split, checked, on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from automl.data.clean import normalise_space
from automl.data.columns import blank, label_column
from automl.data.modalities import MODALITIES, Modality, modality_of
from automl.data.parts import PART_ROWS, Part, open_split, parts_of
from automl.data.tables import find_files, read_batches, require_columns
from automl.data.workers import Map, workers
from automl.space import UserError

SPLITS: tuple[str, ...] = ("train", "validation", "test")
SHOWN = 5  # examples of what is wrong with a file
NO_LABEL, UNKNOWN_LABEL = "no label", "a label that the training data does not have"


@dataclass
class BadRows:
    """Rows of one file that cannot be used: how many, and the first row numbers (from 1), for each reason."""

    counts: Counter[str] = field(default_factory=Counter)
    first_rows: dict[str, list[int]] = field(default_factory=dict)
    unknown_labels: list[str] = field(default_factory=list)

    def note(self, reason: str, rows: npt.NDArray[np.int64]) -> None:
        """Count row numbers (from 0)."""
        if len(rows):
            self.counts[reason] += len(rows)
            shown = self.first_rows.setdefault(reason, [])
            shown.extend(int(row) + 1 for row in rows[: SHOWN - len(shown)])


def write_source(data: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Read, check and split the rows; write `train.arrow`, `validation.arrow`, `test.arrow` and `source.json`.

    Each Arrow file has the input (`text` as it came, `image` as a file's bytes) and `label` (the number of its class).
    Raises UserError where the data cannot be learned from, naming the file, what is wrong and how to go on.
    """
    kind = modality_of(data)
    if data[kind.name] == data["label"]:
        raise UserError(f"{kind.name} and label name the same column, {data['label']!r}; give two")
    bad: dict[str, dict[str, Any]] = {}
    names: dict[str, int] = {}
    staged = {"train": _stage(data, "train", names, bad, folder)}
    if len(names) < 2:
        only = f"one class only: {next(iter(names))!r}" if names else "no usable row"
        raise UserError(f"the training data has {only}; expected at least two classes in column {data['label']!r}")
    for split in ("validation", "test"):
        if isinstance(data[split], list):
            staged[split] = _stage(data, split, names, bad, folder)
    classes = _sorted_classes(names)
    renumber = np.empty(len(classes), dtype=np.int32)
    renumber[[names[name] for name in classes]] = np.arange(len(classes))
    parts: dict[str, tuple[Path, npt.NDArray[np.bool_] | None]] = {
        split: (path, None) for split, path in staged.items()
    }
    if "validation" not in staged:
        labels = renumber[open_split(staged["train"]).column("label").to_numpy()]
        chosen = _stratified(labels, data["validation"], seed)
        parts |= {"train": (staged["train"], ~chosen), "validation": (staged["train"], chosen)}
    counts = {
        split: _write_split(*parts[split], renumber, folder / f"{split}.arrow") for split in SPLITS if split in parts
    }
    for path in folder.glob("staged-*"):
        path.unlink()
    for split, found in counts.items():
        if sum(found) == 0:
            fraction = ": every class has one row only" if split not in staged else ""
            raise UserError(f"the {split} data has no usable row{fraction}")
    profile: dict[str, Any] = {
        "rows": {split: sum(found) for split, found in counts.items()},
        "classes": {split: dict(zip(classes, found, strict=True)) for split, found in counts.items()},
        "bad_rows": bad,
        "duplicates": _duplicates(folder, {split: sum(found) for split, found in counts.items()}, kind),
    }
    profile["warnings"] = _warnings(profile, kind)
    content = {"classes": classes, "profile": profile}
    (folder / "source.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _stage(
    data: Mapping[str, Any], split: str, names: dict[str, int], bad: dict[str, dict[str, Any]], folder: Path
) -> Path:
    """Write the usable rows of a split's files to one Arrow file, labels numbered by `names`, which grows by train."""
    path = folder / f"staged-{split}.arrow"
    kind = modality_of(data)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _schema(kind)) as writer:
        for file in find_files(data[split]):
            require_columns(file, [data[kind.name], data["label"]])
            noted = BadRows()
            for batch in _usable(file, kind, data[kind.name], data["label"], names, split == "train", noted):
                writer.write_batch(batch)
            if noted.counts:
                if data["on_bad_rows"] == "fail":
                    raise UserError(_complain(file, noted, data))
                bad[str(file)] = {
                    "counts": dict(noted.counts),
                    "first_rows": noted.first_rows,
                    "unknown_labels": noted.unknown_labels,
                }
    return path


def _usable(
    file: Path, kind: Modality, column: str, label: str, names: dict[str, int], new_names: bool, noted: BadRows
) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in read_batches(file, [column, label]):
        inputs, unusable = kind.read(batch.column(column), f"{file}: column {column!r}")
        labels = label_column(batch.column(label), f"{file}: column {label!r}")
        rows = np.arange(start, start + batch.num_rows)
        start += batch.num_rows
        usable = np.ones(batch.num_rows, dtype=bool)
        for reason, those in unusable.items():
            noted.note(reason, rows[those])
            usable &= ~those
        no_label = blank(labels)
        noted.note(NO_LABEL, rows[no_label & usable])
        usable &= ~no_label
        encoded = labels.filter(pa.array(usable)).dictionary_encode()
        found = encoded.dictionary.to_pylist()
        if new_names:
            for name in found:
                names.setdefault(name, len(names))
        numbers = np.array([names.get(name, -1) for name in found], dtype=np.int32)
        codes = numbers[encoded.indices.to_numpy(zero_copy_only=False)]
        known = codes >= 0
        noted.note(UNKNOWN_LABEL, rows[usable][~known])
        unknown = [name for name in found if name not in names and name not in noted.unknown_labels]
        noted.unknown_labels.extend(unknown[: SHOWN - len(noted.unknown_labels)])
        usable[usable] = known
        yield pa.record_batch(
            [inputs.filter(pa.array(usable)), pa.array(codes[known], pa.int32())], schema=_schema(kind)
        )


def _schema(kind: Modality) -> pa.Schema:
    return pa.schema([(kind.name, kind.type), ("label", pa.int32())])


def _complain(file: Path, noted: BadRows, data: Mapping[str, Any]) -> str:
    parts = []
    for reason, count in noted.counts.items():
        column = data["label" if reason in (NO_LABEL, UNKNOWN_LABEL) else modality_of(data).name]
        more = ", ..." if count > SHOWN else ""
        rows = f"row{'' if count == 1 else 's'} {', '.join(map(str, noted.first_rows[reason]))}{more}"
        names = f": {', '.join(map(repr, noted.unknown_labels))}" if reason == UNKNOWN_LABEL else ""
        parts.append(f"{count:,} with {reason} in column {column!r} ({rows}{names})")
    return (
        f"{file} has rows that cannot be used: {'; '.join(parts)}; "
        "mend them, or leave them out with data: {on_bad_rows: report}"
    )


def _sorted_classes(names: Mapping[str, int]) -> list[str]:
    """Class names in their natural order: numbers by value, else by the alphabet."""
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def _stratified(labels: npt.NDArray[np.int32], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Bool [rows], true at a `fraction` of each class's rows: at least one and not all of a class that has two."""
    generator = np.random.default_rng([seed, 1])
    chosen = np.zeros(len(labels), dtype=bool)
    for number in np.unique(labels):
        rows = np.flatnonzero(labels == number)
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        chosen[generator.choice(rows, size=count, replace=False)] = True
    return chosen


def _write_split(
    staged: Path, keep: npt.NDArray[np.bool_] | None, renumber: npt.NDArray[np.int32], path: Path
) -> list[int]:
    """Write the rows of a staged file where `keep` is true, or all; gives the rows of each class."""
    counts = np.zeros(len(renumber), dtype=np.int64)
    start = 0
    table = open_split(staged)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=PART_ROWS):
            if keep is not None:
                kept = pa.array(keep[start : start + batch.num_rows])
                start += batch.num_rows
                batch = batch.filter(kept)
            labels = renumber[batch.column("label").to_numpy()]
            counts += np.bincount(labels, minlength=len(renumber))
            writer.write_batch(pa.record_batch([batch.column(0), pa.array(labels, pa.int32())], schema=table.schema))
    return counts.tolist()


def _warnings(profile: Mapping[str, Any], kind: Modality) -> list[str]:
    """What is right to know about the data although one can learn from it."""
    found = []
    for split, counts in profile["classes"].items():
        missing = [repr(name) for name, rows in counts.items() if rows == 0]
        if missing:
            found.append(f"the {split} data has no row of {len(missing)} of {len(counts)} classes: {_some(missing)}")
        shared = profile["duplicates"][split]
        if shared and split != "train":
            found.append(f"{shared:,} of {sum(counts.values()):,} {split} {kind.plural} are also in the training data")
    for file, noted in profile["bad_rows"].items():
        reasons = "; ".join(f"{count:,} with {reason}" for reason, count in noted["counts"].items())
        found.append(f"rows of {file} were left out: {reasons}")
    alike: dict[str, list[str]] = {}
    for name in profile["classes"]["train"]:
        alike.setdefault(normalise_space(name).casefold(), []).append(repr(name))
    found += [f"classes that look alike: {_some(names)}" for names in alike.values() if len(names) > 1]
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _duplicates(folder: Path, rows: Mapping[str, int], kind: Modality) -> dict[str, int]:
    """Inputs (of texts white space and case aside) that stand twice in train, and in another split and in train."""
    with workers(sum(rows.values())) as apply:
        hashes = {split: _hashes(folder / f"{split}.arrow", kind, apply) for split in rows}
    train = np.sort(hashes.pop("train"))
    found = {"train": int((train[1:] == train[:-1]).sum())}
    for split, those in hashes.items():
        nearest = np.searchsorted(train, those).clip(max=len(train) - 1)
        found[split] = int((train[nearest] == those).sum())
    return found


def _hashes(path: Path, kind: Modality, apply: Map) -> npt.NDArray[np.int64]:
    parts = list(apply(partial(_hash_part, kind.name), parts_of(path)))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _hash_part(modality: str, part: Part) -> npt.NDArray[np.int64]:
    """int64 [rows], alike where two inputs count as the same."""
    sameness = MODALITIES[modality].sameness
    return np.frombuffer(b"".join(blake2b(sameness(each), digest_size=8).digest() for each in part.inputs()), np.int64)
