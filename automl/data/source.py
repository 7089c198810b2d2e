"""The first stage of preparation: raw inputs and label numbers of each split, checked, on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from automl.data.column_faults import same_columns
from automl.data.counted import add_counted, source_counts
from automl.data.findings import findings
from automl.data.found import describe_folders, folder_sentences
from automl.data.modalities import Modality, modality_of
from automl.data.origins import OriginWriter, describe_files, origins_of
from automl.data.parts import open_split, parts_of
from automl.data.repeats import Conflicts, count_repeats, find_conflicts, first_ones, hash_inputs
from automl.data.splits import set_aside, split_key
from automl.data.staging import SHOWN, Channels, shortened, stage, staged_schema, train_steps
from automl.data.tables import find_files
from automl.data.workers import Workers
from automl.space import UserError
from automl.space.errors import DataFaultsError, of_setting

SPLITS: tuple[str, ...] = ("train", "validation", "test")
SETTINGS = ("label", "on_bad_rows", "bad_rows_limit", "duplicates", "group", "time")
"""Settings of the `data` section, beside the files and the input's column, that decide which rows there are."""

Mask = npt.NDArray[np.bool_]
Parts = dict[str, tuple[Path, Mask]]
"""Of each split the staged file that has its rows, and which of the file's they are."""


def write_source(data: Mapping[str, Any], seed: int, folder: Path, workers: Workers) -> None:
    """Read, check and split the rows; write `train.arrow`, `validation.arrow`, `test.arrow` and `source.json`.

    Each Arrow file has the input (`text` as it came, `image` as a file's bytes) and `label` (the number of its class).
    Raises UserError where the data cannot be learned from, naming the file, what is wrong and how to go on.
    """
    kind = modality_of(data)
    _check_columns(data)
    files: dict[str, dict[str, Any]] = {}
    names: dict[str, int] = {}
    known, channels = train_steps(data), Channels()
    staged = {"train": stage(data, "train", names, files, folder, known, channels)}
    if not names:
        raise UserError(f"the training data has no usable row{left_out(files, 'train')}{_folders(data)}")
    if len(names) < 2:
        rest = f" of the rows that can be used{why}" if (why := left_out(files, "train")) else ""
        with of_setting("data", "label"):
            raise UserError(
                f"the training data has one class only: {next(iter(names))!r}{rest}; expected at least two classes in "
                f"column {data['label']!r}{_folders(data)}"
            )
    for split in ("validation", "test"):
        if isinstance(data[split], list):
            staged[split] = stage(data, split, names, files, folder, known, channels)
    classes = _sorted_classes(names)
    renumber = np.empty(len(classes), dtype=np.int32)
    renumber[[names[name] for name in classes]] = np.arange(len(classes))
    with workers(sum(file["rows"] for file in files.values())) as apply:
        hashes = {split: hash_inputs(path, kind, apply) for split, path in staged.items()}
    labels = renumber[_column(staged["train"], "label")]
    described = {split: describe_files(find_files(data[split])) for split in staged}
    conflicts = find_conflicts(hashes["train"], labels, SHOWN)
    examples = _conflict_examples(
        conflicts, staged["train"], labels, classes, kind, [file for file, _ in described["train"]]
    )
    kept = {split: np.ones(len(those), dtype=bool) for split, those in hashes.items()}
    if data.get("duplicates") == "remove":
        kept = first_ones(hashes)
    parts = _split(data, staged, kept, labels, seed)
    of_split = {split: split if split in staged else "train" for split in parts}
    counts = {
        split: _write_split(kind, *parts[split], renumber, folder, split, described[of_split[split]])
        for split in SPLITS
        if split in parts
    }
    within, across = count_repeats({split: hashes[of_split[split]][parts[split][1]] for split in counts})
    for path in folder.glob("staged-*"):
        path.unlink()
    for split, found in counts.items():
        if sum(found) == 0:
            if split in staged:
                raise UserError(f"the {split} data has no usable row{left_out(files, split)}")
            setting, why = _why_none(data, split)
            raise DataFaultsError([(("data", setting), f"the {split} data has no usable row: {why}")])
    profile: dict[str, Any] = {
        "rows": {split: sum(found) for split, found in counts.items()},
        "classes": {split: dict(zip(classes, found, strict=True)) for split, found in counts.items()},
        "files": files,
        "folders": describe_folders(data),
        "bad_rows": {file: noted for file, noted in files.items() if noted["counts"]},
        "duplicates": {"train": within["train"], **across},
        "repeated": within,
        "removed": {split: int((~mask).sum()) for split, mask in kept.items()},
        "conflicts": {"inputs": conflicts.inputs, "rows": conflicts.rows, "examples": examples},
    }
    if known:
        profile["columns"] = known
    profile["warnings"] = findings(profile, kind)
    read = {split: len(mask) for split, mask in kept.items()}
    add_counted(profile, source_counts(files, profile["removed"], read))
    content = {"classes": classes, "profile": profile}
    (folder / "source.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _check_columns(data: Mapping[str, Any]) -> None:
    if faults := list(same_columns(data)):
        raise DataFaultsError(faults)
    if split_key(data) is not None and not any(isinstance(data[split], float) for split in ("validation", "test")):
        raise UserError("group and time say how a fraction is set aside; validation names files")


def _column(path: Path, name: str) -> npt.NDArray[Any]:
    return np.asarray(open_split(path).column(name).to_numpy())


def _split(
    data: Mapping[str, Any],
    staged: Mapping[str, Path],
    kept: Mapping[str, Mask],
    labels: npt.NDArray[np.int32],
    seed: int,
) -> Parts:
    """The rows of each split: those kept of its files, or a fraction of train where it has none."""
    parts = {split: (path, kept[split]) for split, path in staged.items()}
    keys = _column(staged["train"], "key") if split_key(data) else None
    for split, chosen in set_aside(data, labels, keys, kept["train"], seed).items():
        parts[split] = staged["train"], chosen
        parts["train"] = staged["train"], parts["train"][1] & ~chosen
    return parts


def _why_none(data: Mapping[str, Any], split: str) -> tuple[str, str]:
    """The setting that leaves nothing for a split that is a fraction of train, and why."""
    setting = "group" if data.get("group") else "time" if data.get("time") else "label"
    column = f"in column {data[setting]!r}"
    if split == "test" and isinstance(data["validation"], float):  # which comes first where there is little
        too_few = "every class has less than three rows" if setting == "label" else f"less than three {setting}s are"
        return setting, f"{too_few} {column}"
    one = "every class has one row only" if setting == "label" else f"all rows have one {setting}"
    return setting, f"{one} {column}"


def left_out(files: Mapping[str, Mapping[str, Any]], split: str) -> str:
    """Why rows of a split's own files were left out, with the first one of each reason."""
    of_split = [(path, noted) for path, noted in files.items() if noted["split"] == split]
    counts = sum((Counter(noted["counts"]) for _, noted in of_split), Counter[str]())
    parts = []
    for reason, count in counts.items():
        path, noted = next((path, noted) for path, noted in of_split if reason in noted["counts"])
        first = noted["details"][reason][0] or noted["examples"][reason][0]
        where = f"{noted['places'][reason][0]} of {path}"
        parts.append(f"{count:,} with {reason} (first {where}{f': {first}' if first else ''})")
    return f": {'; '.join(parts)}" if parts else ""


def _folders(data: Mapping[str, Any]) -> str:
    """What is to say about the folders of train where that explains which classes there are."""
    sentences = list(folder_sentences(describe_folders({**data, "validation": None, "test": None})))
    return "".join(f"; {sentence}" for sentence in sentences)


def _conflict_examples(
    conflicts: Conflicts,
    path: Path,
    labels: npt.NDArray[np.int32],
    classes: list[str],
    kind: Modality,
    files: Sequence[str],
) -> list[dict[str, Any]]:
    staged = open_split(path)
    examples = []
    for rows in conflicts.first:
        places = origins_of(files, staged, rows)
        shown = shortened(staged.column(0)[rows[0]].as_py()) if kind.name == "text" else places[0]
        examples.append({"input": shown, "labels": [classes[labels[row]] for row in rows], "places": places})
    return examples


def _sorted_classes(names: Mapping[str, int]) -> list[str]:
    """Class names in their natural order: numbers by value, else by the alphabet."""
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def _write_split(
    kind: Modality,
    staged: Path,
    keep: Mask,
    renumber: npt.NDArray[np.int32],
    folder: Path,
    split: str,
    files: Sequence[tuple[str, list[int]]],
) -> list[int]:
    """Write input and label of the rows of a staged file where `keep` is true, and where these rows came from.

    Gives the rows of each class.
    """
    counts = np.zeros(len(renumber), dtype=np.int64)
    start = 0
    schema = pa.schema([*staged_schema(kind)][:2])
    with (
        pa.OSFile(str(folder / f"{split}.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
        OriginWriter(folder, split, files) as origins,
    ):
        for part in parts_of(staged):
            batch = part.read()
            batch = batch.filter(pa.array(keep[start : (start := start + batch.num_rows)]))
            labels = renumber[batch.column("label").to_numpy()]
            counts += np.bincount(labels, minlength=len(renumber))
            writer.write_batch(pa.record_batch([batch.column(0), pa.array(labels, pa.int32())], schema=schema))
            origins.write(batch.column("file"), batch.column("row"))
    return counts.tolist()
