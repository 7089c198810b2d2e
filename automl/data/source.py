"""The first stage of preparation: raw texts and label numbers of each split, checked, on disk."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from automl.data.clean import normalise_space
from automl.data.tables import find_files, read_batches, require_columns
from automl.space import UserError

SCHEMA = pa.schema([("text", pa.large_string()), ("label", pa.int32())])
SHOWN_ROWS = 5


@dataclass
class BadRows:
    """Rows of one file that were left out: how many, and the first row numbers (from 1), for each reason."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[int]] = field(default_factory=dict)

    def note(self, reason: str, rows: npt.NDArray[np.int64]) -> None:
        """Count row numbers (from 0)."""
        if len(rows):
            self.counts[reason] += len(rows)
            shown = self.first.setdefault(reason, [])
            shown.extend(int(row) + 1 for row in rows[: SHOWN_ROWS - len(shown)])


def fingerprint_files(data: Mapping[str, Any]) -> str:
    """A digest of the content of all files that the `data` section names; raises UserError where one is missing."""
    digest = hashlib.blake2b(digest_size=16)
    for split in ("train", "validation", "test"):
        named = data[split]
        for path in find_files(named) if isinstance(named, list) else []:
            digest.update(f"{split}\0{path.suffix}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def write_source(data: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Read, check and split the rows; write `train.arrow`, `validation.arrow`, `test.arrow` and `source.json`.

    Each Arrow file has `text` (as it came) and `label` (the number of its class). Raises UserError where the data
    cannot be learned from, naming the file, what is wrong and how to go on.
    """
    bad: dict[str, dict[str, Any]] = {}
    names: dict[str, int] = {}
    staged = {"train": _stage(data, "train", names, bad, folder)}
    if len(names) < 2:
        only = f"one class only: {next(iter(names))!r}" if names else "no usable row"
        raise UserError(f"the training data has {only}; expected at least two classes in column {data['label']!r}")
    classes = _sorted_classes(names)
    known = dict(names)
    for split in ("validation", "test"):
        if isinstance(data[split], list):
            staged[split] = _stage(data, split, known, bad, folder)
    unknown = {name for name in known if name not in names}
    warnings: list[str] = []
    renumber = np.full(len(known), -1, dtype=np.int32)
    for position, name in enumerate(classes):
        renumber[known[name]] = position
    if unknown and data["on_bad_rows"] == "fail":
        raise UserError(
            f"the label {sorted(unknown)[0]!r} is in the validation or test data but not in the training data; "
            "mend it, or leave such rows out with data: {on_bad_rows: report}"
        )
    counts: dict[str, list[int]] = {}
    if "validation" not in staged:
        assignment, notes = _stratified(staged["train"], data["validation"], seed, classes, renumber)
        warnings += notes
        staged["validation"] = staged["train"]
        counts["train"] = _write_split(staged["train"], renumber, ~assignment, folder / "train.arrow", len(classes))
        counts["validation"] = _write_split(
            staged["train"], renumber, assignment, folder / "validation.arrow", len(classes)
        )
    else:
        counts["train"] = _write_split(staged["train"], renumber, None, folder / "train.arrow", len(classes))
        counts["validation"] = _write_split(
            staged["validation"], renumber, None, folder / "validation.arrow", len(classes)
        )
    if "test" in staged:
        counts["test"] = _write_split(staged["test"], renumber, None, folder / "test.arrow", len(classes))
    for path in folder.glob("staged-*"):
        path.unlink()
    for split, found in counts.items():
        if sum(found) == 0:
            raise UserError(f"the {split} data has no usable row")
    profile: dict[str, Any] = {
        "rows": {split: sum(found) for split, found in counts.items()},
        "classes": {split: dict(zip(classes, found, strict=True)) for split, found in counts.items()},
        "bad_rows": bad,
        "unknown_labels": sorted(unknown),
        "duplicates": _duplicates(folder, counts),
        "warnings": warnings,
    }
    for split in ("validation", "test"):
        shared = profile["duplicates"].get(split, 0)
        if shared:
            warnings.append(f"{shared:,} of {sum(counts[split]):,} {split} texts are also in the training data")
    content = {"classes": classes, "profile": profile}
    (folder / "source.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def open_split(path: Path) -> pa.Table:
    """A split's rows, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _stage(
    data: Mapping[str, Any], split: str, names: dict[str, int], bad: dict[str, dict[str, Any]], folder: Path
) -> Path:
    """Write the usable rows of a split's files to one Arrow file, labels numbered by `names`, which grows."""
    path = folder / f"staged-{split}.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for file in find_files(data[split]):
            require_columns(file, [data["text"], data["label"]])
            noted = BadRows()
            for batch in _usable(file, data["text"], data["label"], names, noted):
                writer.write_batch(batch)
            if noted.counts:
                if data["on_bad_rows"] == "fail":
                    raise UserError(_complain(file, noted, data))
                bad[str(file)] = {"counts": dict(noted.counts), "first_rows": noted.first}
    return path


def _usable(
    file: Path, text_column: str, label_column: str, names: dict[str, int], noted: BadRows
) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in read_batches(file, [text_column, label_column]):
        texts, labels = batch.column(text_column), batch.column(label_column)
        if pa.types.is_dictionary(texts.type):
            texts = texts.dictionary_decode()
        if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type) or pa.types.is_null(texts.type)):
            raise UserError(f"{file}: column {text_column!r} holds {texts.type}, expected text")
        texts = texts.cast(pa.large_string())
        labels = _label_names(labels, file, label_column)
        no_text = _blank(texts)
        no_label = _blank(labels)
        rows = np.arange(start, start + batch.num_rows)
        noted.note("no text", rows[no_text])
        noted.note("no label", rows[no_label & ~no_text])
        keep = ~(no_text | no_label)
        start += batch.num_rows
        kept = labels.filter(pa.array(keep))
        encoded = kept.dictionary_encode()
        numbers = np.array(
            [names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()], dtype=np.int32
        )
        codes = numbers[encoded.indices.to_numpy(zero_copy_only=False)] if len(kept) else numbers
        yield pa.record_batch([texts.filter(pa.array(keep)), pa.array(codes, pa.int32())], schema=SCHEMA)


def _blank(column: pa.Array) -> npt.NDArray[np.bool_]:
    trimmed = pc.utf8_trim_whitespace(column)
    missing = pc.fill_null(pc.equal(trimmed, ""), True)
    return np.asarray(missing.to_numpy(zero_copy_only=False), dtype=bool)


def _label_names(labels: pa.Array, file: Path, column: str) -> pa.Array:
    """Labels as text: names as they are, numbers and booleans written out; raises UserError for anything else."""
    if pa.types.is_dictionary(labels.type):
        labels = labels.dictionary_decode()
    kind = labels.type
    if pa.types.is_floating(kind):
        numbers = labels.to_numpy(zero_copy_only=False)
        known = numbers[~np.isnan(numbers)]
        if not np.array_equal(known, np.round(known)):
            raise UserError(f"{file}: column {column!r} holds fractions, expected labels (classes)")
        labels = pc.if_else(pc.is_nan(labels), None, labels).cast(pa.int64())
        kind = labels.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_null(kind):
        return labels.cast(pa.large_string())
    if pa.types.is_large_string(kind):
        return labels
    raise UserError(f"{file}: column {column!r} holds {kind}, expected labels: text or whole numbers")


def _complain(file: Path, noted: BadRows, data: Mapping[str, Any]) -> str:
    columns = {"no text": data["text"], "no label": data["label"]}
    parts = []
    for reason, count in noted.counts.items():
        rows = ", ".join(str(row) for row in noted.first[reason])
        more = ", ..." if count > len(noted.first[reason]) else ""
        rows = f"row{'' if count == 1 else 's'} {rows}{more}"
        parts.append(f"{count:,} with {reason} in column {columns[reason]!r} ({rows})")
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


def _stratified(
    path: Path, fraction: float, seed: int, classes: list[str], renumber: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Bool [rows], true at a `fraction` of each class's rows, at least one of a class that has two."""
    labels = renumber[open_split(path).column("label").to_numpy()]
    generator = np.random.default_rng([seed, 1])
    chosen = np.zeros(len(labels), dtype=bool)
    warnings = []
    for number, name in enumerate(classes):
        rows = np.flatnonzero(labels == number)
        count = max(round(fraction * len(rows)), 1) if len(rows) > 1 else 0
        count = min(count, len(rows) - 1)
        if count == 0:
            warnings.append(f"class {name!r} has one row only, which stays in the training data")
        chosen[generator.choice(rows, size=count, replace=False)] = True
    return chosen, warnings


def _write_split(
    staged: Path, renumber: npt.NDArray[np.int32], keep: npt.NDArray[np.bool_] | None, path: Path, classes: int
) -> list[int]:
    """Write the rows of a staged file where `keep` is true and the label is known; gives the rows of each class."""
    counts = np.zeros(classes, dtype=np.int64)
    start = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in open_split(staged).to_batches():
            labels = renumber[batch.column("label").to_numpy()]
            chosen = labels >= 0
            if keep is not None:
                chosen &= keep[start : start + batch.num_rows]
            start += batch.num_rows
            counts += np.bincount(labels[chosen], minlength=classes)
            texts = batch.column("text").filter(pa.array(chosen))
            writer.write_batch(pa.record_batch([texts, pa.array(labels[chosen], pa.int32())], schema=SCHEMA))
    return counts.tolist()


def _duplicates(folder: Path, splits: Mapping[str, Any]) -> dict[str, int]:
    """Texts (white space and case aside) that stand twice in train, and in another split and in train."""
    hashes = {split: np.sort(_hashes(folder / f"{split}.arrow")) for split in splits}
    found = {"train": int(len(hashes["train"]) - len(np.unique(hashes["train"])))}
    for split in hashes:
        if split != "train":
            found[split] = int(np.isin(hashes[split], hashes["train"]).sum())
    return found


def _hashes(path: Path) -> npt.NDArray[np.int64]:
    column = open_split(path).column("text")
    parts = [
        np.fromiter((hash(normalise_space(text).lower()) for text in chunk.to_pylist()), np.int64, len(chunk))
        for chunk in column.chunks
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
