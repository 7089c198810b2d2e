"""Data prepared once and shared: found by the fingerprint of its content and settings, memory-mapped by every trial."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc
from filelock import FileLock

from automl.data.clean import clean_texts
from automl.data.encode import (
    Encoder,
    Rows,
    choose_max_length,
    encode_chunks,
    fit_tokenizer,
    load_encoder,
)
from automl.data.files import replace_folder
from automl.data.source import fingerprint_files, open_split, write_source

FORMAT = 1  # raise it when what is written changes, so that old preparations are not taken for new ones
SPLITS = ("train", "validation", "test")
LENGTH_SAMPLE = 50_000
SCHEMA = pa.schema([("tokens", pa.large_list(pa.int32())), ("label", pa.int32())])


@dataclass(frozen=True)
class Prepared:
    """A prepared data set on disk; `vocabulary` counts the tokens, padding (0) and unknown (1) included."""

    path: Path
    source: Path
    fingerprint: str
    classes: tuple[str, ...]
    vocabulary: int
    profile: dict[str, Any]

    def rows(self, split: str) -> Rows | None:
        """The encoded rows of train, validation or test, memory-mapped; None where there is no such split."""
        path = self.path / f"{split}.arrow"
        if not path.exists():
            return None
        table = open_split(path)
        column = table.column("tokens")
        tokens = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        return Rows(
            tokens=tokens.values.to_numpy(),
            offsets=tokens.offsets.to_numpy(),
            labels=table.column("label").to_numpy().astype(np.int64),
        )

    def texts(self, split: str) -> list[str] | None:
        """The texts of a split as they came, in the order of its rows; None where there is no such split."""
        path = self.source / f"{split}.arrow"
        return list(_texts(path)) if path.exists() else None

    def labels(self, split: str) -> npt.NDArray[np.int64]:
        """The label numbers int64 [rows] of a split that exists."""
        labels: npt.NDArray[np.int64] = open_split(self.source / f"{split}.arrow").column("label").to_numpy()
        return labels.astype(np.int64)

    def encoder(self) -> Encoder:
        """What turns raw texts into such rows."""
        return load_encoder(self.path)


def prepare(data: Mapping[str, Any], *, seed: int, cache: Path) -> Prepared:
    """Prepare the data of a configuration's `data` section, or find it prepared.

    `seed` decides the validation split where that is a fraction. Any number of processes may ask at once; one
    prepares, the others wait. Raises UserError where files are missing or the data cannot be learned from; then
    nothing is left in `cache`.
    """
    source_settings = {name: data[name] for name in ("text", "label", "validation", "on_bad_rows")}
    if isinstance(data["validation"], list):
        source_settings["validation"] = "files"
    source_key = _digest({"files": fingerprint_files(data), "seed": seed, **source_settings})
    source = cache / f"source-{source_key}"
    _once(source, lambda folder: write_source(data, seed, folder))
    settings = {name: data[name] for name in ("clean", "tokenizer", "max_length")}
    key = _digest({"source": source_key, **settings})
    path = cache / f"tokens-{key}"
    _once(path, lambda folder: _write_encoded(settings, source, folder))
    described = json.loads((path / "prepared.json").read_text(encoding="utf-8"))
    return Prepared(path, source, key, tuple(described["classes"]), described["vocabulary"], described["profile"])


def _once(path: Path, write: Callable[[Path], None]) -> None:
    """Let one process fill the folder `path`, if it is not there; it is there whole or not at all."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    with FileLock(lock):
        if not path.exists():
            with replace_folder(path) as folder:
                write(folder)


def _write_encoded(settings: Mapping[str, Any], source: Path, folder: Path) -> None:
    described = json.loads((source / "source.json").read_text(encoding="utf-8"))
    clean, rows = settings["clean"], described["profile"]["rows"]
    tokenizer = fit_tokenizer(settings["tokenizer"], clean_texts(_texts(source / "train.arrow"), clean), rows["train"])
    step = -(-rows["train"] // LENGTH_SAMPLE)
    sample = clean_texts(islice(_texts(source / "train.arrow"), 0, None, step), clean)
    lengths = np.concatenate([part for _, part in encode_chunks(tokenizer, sample, None)])
    max_length = choose_max_length(lengths) if settings["max_length"] == "auto" else settings["max_length"]
    Encoder(tokenizer, clean, max_length).save(folder)
    for split in rows:
        _write_rows(tokenizer, clean, max_length, source / f"{split}.arrow", folder / f"{split}.arrow")
    described["vocabulary"] = tokenizer.get_vocab_size()
    described["profile"] |= {
        "max_length": max_length,
        "vocabulary": described["vocabulary"],
        "lengths": {f"p{rank}": float(np.percentile(lengths, rank)) for rank in (5, 50, 95, 99)}
        | {"mean": float(lengths.mean()), "max": int(lengths.max())},
        "cut": float((lengths > max_length).mean()),
    }
    (folder / "prepared.json").write_text(json.dumps(described, indent=2, ensure_ascii=False), encoding="utf-8")


def _write_rows(tokenizer: Any, clean: Mapping[str, Any], max_length: int, source: Path, path: Path) -> None:
    labels = open_split(source).column("label").combine_chunks()
    start = 0
    flat, lengths = [], []
    for part, part_lengths in encode_chunks(tokenizer, clean_texts(_texts(source), clean), max_length):
        flat.append(part)
        lengths.append(part_lengths)
        start += len(part_lengths)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    tokens = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(np.concatenate(flat), pa.int32()))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(pa.record_batch([tokens, labels], schema=SCHEMA))


def _texts(path: Path) -> Iterator[str]:
    for batch in open_split(path).column("text").chunks:
        yield from batch.to_pylist()


def _digest(settings: Mapping[str, Any]) -> str:
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
