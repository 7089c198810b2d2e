"""The second stage for texts: cleaned, a vocabulary fitted on train, token numbers on disk; in bounded memory."""

from __future__ import annotations

import io
import json
import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc
from tokenizers import Tokenizer

from automl.data.clean import clean_texts
from automl.data.counted import CUT_BY_DESIGN, Counted, Running, add_counted
from automl.data.encode import Encoder, choose_max_length
from automl.data.parts import Part, open_split, parts_of, read_inputs
from automl.data.pieces import PieceEncoder, cut_texts
from automl.data.tokenizer_file import tokenizer_of
from automl.data.vocabulary import COUNTED, UNKNOWN_ID, Counts, add_counts, fit_tokenizer, tokenizer_of_counts
from automl.data.workers import Map, Workers

LENGTH_SAMPLE = 50_000
BLOCK_BYTES = 1 << 24
CLEANED = pa.schema([("text", pa.large_string())])
ENCODED = pa.schema([("tokens", pa.large_list(pa.int32())), ("label", pa.int32())])


@dataclass(frozen=True)
class EncodedPart:
    """The tokens int32 [total] and lengths int64 [rows] of texts, cut, and what they were before."""

    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    whole: npt.NDArray[np.int64]
    """Lengths before the cut, int64 [rows]."""
    empty: npt.NDArray[np.bool_]
    """Which texts, bool [rows], have nothing left after the cleaning."""
    unknown: int
    """How many of the tokens stand for what is not in the vocabulary, empty texts aside."""


def write_text_rows(settings: Mapping[str, Any], source: Path, folder: Path, workers: Workers) -> None:
    """Write the encoded rows of each split, the encoder, and `prepared.json`, from the folder `source`."""
    described = json.loads((source / "source.json").read_text(encoding="utf-8"))
    rows = described["profile"]["rows"]
    cleaned = {split: folder / f"cleaned-{split}.arrow" for split in rows}
    with workers(sum(rows.values())) as apply:
        tokenizer = _fit(settings, source, cleaned["train"], rows["train"], apply)
        for split, path in cleaned.items():
            if split != "train":
                for _ in _write_cleaned(settings["clean"], None, source / f"{split}.arrow", path, apply):
                    pass
        lengths = _sample_lengths(tokenizer, cleaned["train"], rows["train"])
        max_length = choose_max_length(lengths) if settings["max_length"] == "auto" else settings["max_length"]
        Encoder(tokenizer, settings["clean"], max_length).save(folder)
        counted: list[Counted] = []
        for split, path in cleaned.items():
            labels = open_split(source / f"{split}.arrow").column("label").combine_chunks()
            work = partial(_encode_part, tokenizer.to_str(), max_length)
            counted += _write_encoded(apply(work, parts_of(path)), labels, folder / f"{split}.arrow", max_length)
            path.unlink()
    described["vocabulary"] = tokenizer.get_vocab_size()
    described["profile"] |= {
        "max_length": max_length,
        "vocabulary": described["vocabulary"],
        "lengths": {f"p{rank}": float(np.percentile(lengths, rank)) for rank in (5, 50, 95, 99)}
        | {"mean": float(lengths.mean()), "max": int(lengths.max())},
        "cut": float((lengths > max_length).mean()),
    }
    add_counted(described["profile"], counted)
    (folder / "prepared.json").write_text(json.dumps(described, indent=2, ensure_ascii=False), encoding="utf-8")


def _fit(settings: Mapping[str, Any], source: Path, cleaned: Path, rows: int, apply: Map) -> Tokenizer:
    """Write the cleaned train rows, and fit the tokenizer on them: on counts taken on the way where that will do."""
    ((name, _),) = settings["tokenizer"].items()
    counting = name if name in COUNTED else None
    counts = add_counts(_write_cleaned(settings["clean"], counting, source / "train.arrow", cleaned, apply))
    if counting:
        return tokenizer_of_counts(settings["tokenizer"], counts)
    return fit_tokenizer(settings["tokenizer"], read_inputs(cleaned), rows)


def _write_cleaned(
    clean: Mapping[str, Any], counting: str | None, source: Path, path: Path, apply: Map
) -> Iterator[Counts]:
    """Write the texts of a split cleaned, for the vocabulary and for the tokens; gives the counts of each part."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, CLEANED) as writer:
        for texts, counts in apply(partial(_clean_part, clean, counting), parts_of(source)):
            writer.write_batch(pa.record_batch([texts], schema=CLEANED))
            yield counts


def _clean_part(clean: Mapping[str, Any], counting: str | None, part: Part) -> tuple[pa.Array, Counts]:
    texts = list(clean_texts(part.inputs(), clean))
    return pa.array(texts, pa.large_string()), COUNTED[counting](texts) if counting else Counts()


def _sample_lengths(tokenizer: Tokenizer, cleaned: Path, rows: int) -> npt.NDArray[np.int64]:
    """Tokens int64 [sample] of some texts, not cut."""
    encoder, every = PieceEncoder(tokenizer), -(-rows // LENGTH_SAMPLE)
    return np.concatenate([encoder.encode(part.inputs()[::every], None)[1] for part in parts_of(cleaned)])


def _encode_part(saved: str, max_length: int, part: Part) -> EncodedPart:
    texts = part.inputs()
    tokens, whole = _piece_encoder(saved).encode(texts, None)
    tokens, lengths = cut_texts(tokens, whole, max_length)
    empty = np.fromiter((not text for text in texts), bool, len(texts))
    unknown = tokens == UNKNOWN_ID
    unknown[(np.cumsum(lengths) - lengths)[empty]] = False
    return EncodedPart(tokens, lengths, whole, empty, int(unknown.sum()))


@lru_cache(maxsize=1)
def _piece_encoder(saved: str) -> PieceEncoder:
    return PieceEncoder(tokenizer_of(saved))


def _write_encoded(encoded: Iterable[EncodedPart], labels: pa.Array, path: Path, max_length: int) -> list[Counted]:
    """All rows of a split in one Arrow batch, so that they map as one array; they pass through files, not memory.

    Gives what was cut or replaced in them.
    """
    flat, ends = path.with_suffix(".tokens"), path.with_suffix(".offsets")
    total = whole = unknown = 0
    cut, empty = Running(), Running()
    with flat.open("wb") as tokens_file, ends.open("wb") as offsets_file:
        offsets_file.write(bytes(8))
        for part in encoded:
            tokens_file.write(part.tokens.data)
            offsets_file.write((total + np.cumsum(part.lengths)).data)
            total += len(part.tokens)
            whole += int(part.whole.sum())
            unknown += part.unknown
            cut.add(part.whole > part.lengths)
            empty.add(part.empty)
    offsets_map, tokens_map = _mapped(ends), _mapped(flat)
    with path.open("wb", buffering=0) as file:
        offsets, values = _array(offsets_map, pa.int64()), _array(tokens_map, pa.int32())
        tokens = pa.LargeListArray.from_arrays(offsets, values)
        sink = pa.PythonFile(_ForgettingFile(file, (offsets_map, tokens_map)), "w")
        with pa.ipc.new_file(sink, ENCODED) as writer:
            writer.write_batch(pa.record_batch([tokens, labels], schema=ENCODED))
    flat.unlink()
    ends.unlink()
    return _counted(path.stem, max_length, cut, empty, (whole - total, whole), (unknown, total))


def _counted(
    split: str, max_length: int, cut: Running, empty: Running, dropped: tuple[int, int], unknown: tuple[int, int]
) -> list[Counted]:
    """What was cut or replaced in the texts of a split; of tokens dropped and unknown, how many of how many."""
    warn = cut.count > CUT_BY_DESIGN * cut.seen
    emptied = f"{split} texts have nothing left after the cleaning and are one unknown token"
    return [
        Counted(f"{split} texts are cut to {max_length:,} tokens", "max_length", cut.count, cut.seen, cut.row, warn),
        Counted(f"tokens of {split} texts are dropped by that cut", "max_length", *dropped),
        Counted(emptied, "clean", empty.count, empty.seen, empty.row, warn=True),
        Counted(f"tokens of {split} texts are not in the vocabulary", "tokenizer", *unknown),
    ]


class _ForgettingFile(io.RawIOBase):
    """A file to which mapped files are copied: it lets go of their pages on the way, so that they fill no memory."""

    def __init__(self, file: io.FileIO, maps: tuple[mmap.mmap, ...]) -> None:
        self._file, self._maps = file, maps

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, content: Any) -> int:
        """Write all of `content`."""
        view = memoryview(content)
        for start in range(0, len(view), BLOCK_BYTES):
            self._file.write(view[start : start + BLOCK_BYTES])
            for each in self._maps:
                each.madvise(mmap.MADV_DONTNEED)
        return len(view)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _array(content: mmap.mmap, kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(content) // (kind.bit_width // 8), [None, pa.py_buffer(content)])
