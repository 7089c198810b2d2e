"""Files of pretrained word vectors: word2vec and GloVe text, or a `.npy` array with an index of its words."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
from filelock import FileLock

from automl.data.files import replace_atomically
from automl.data.fingerprint import digest_settings, file_digest
from automl.data.formats import lines_of, open_text, packing
from automl.space import UserError

TEXT_ENDINGS = (".txt", ".vec")
INDEX_ENDINGS = (".parquet", ".json", ".txt")


@dataclass(frozen=True)
class VectorFile:
    """Where vectors lie: a text file with a word and its numbers a line, or `.npy` and the `index` of its words."""

    values: Path
    index: Path | None


def find_vectors(vectors: Mapping[str, Any]) -> VectorFile:
    """The files of a `vectors` section: its source is a file, a folder, or an installed package that holds them.

    Raises UserError where they are not there, or are not of a known kind.
    """
    source, index = str(vectors["source"]), vectors.get("index")
    path = Path(source)
    if not path.exists():
        path = _package_folder(source)
    if path.is_dir():
        inside = sorted(entry for entry in path.rglob("*") if entry.is_file())
        arrays = [entry for entry in inside if entry.suffix == ".npy"]
        found = arrays or [entry for entry in inside if _is_text(entry)]
        if len(found) != 1:
            raise UserError(
                f"vectors: {source} has {len(found)} files of vectors (.npy, .txt or .vec); name one of them"
            )
        path = found[0]
    if not path.is_file():
        raise UserError(f"vectors: {path} is not a regular file")
    if _is_text(path):
        return VectorFile(path, None)
    if path.suffix != ".npy":
        raise UserError(f"vectors: {path} is of no known kind; expected .npy, or .txt or .vec, also .gz or .zst")
    return VectorFile(path, _index_of(path) if index is None else Path(index))


def vector_dimension(vectors: Mapping[str, Any]) -> int:
    """The length of the vectors of a `vectors` section; raises UserError where they cannot be read."""
    file = find_vectors(vectors)
    if file.index is None:
        return _text_dimension(file.values)
    if not file.index.is_file():
        raise UserError(f"vectors: there is no index {file.index}")
    return int(_open_array(file.values).shape[1])


def look_up_vectors(
    vectors: Mapping[str, Any], words: Sequence[str], cache: Path
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Vectors float32 [words, D], zero where a word has none, and bool [words] whether it has one.

    A word that is not found as it is may be found in lower case. What was looked up is kept in `cache`, so that a
    large file is read once. Raises UserError where the file cannot be read.
    """
    file = find_vectors(vectors)
    parts = [part for part in (file.values, file.index) if part is not None]
    key = digest_settings({"files": [file_digest(part, cache) for part in parts], "words": list(words)})
    path = cache / f"vectors-{key}.npz"
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as kept:
                    return kept["values"], kept["found"]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                path.unlink()
        wanted = {form for word in words if word for form in (word, word.lower())}
        known = _read_text(file.values, wanted) if file.index is None else _read_array(file.values, file.index, wanted)
        dimension = vector_dimension(vectors)
        values = np.zeros((len(words), dimension), dtype=np.float32)
        found = np.zeros(len(words), dtype=bool)
        for number, word in enumerate(words):
            vector = known.get(word, known.get(word.lower())) if word else None
            if vector is not None:
                values[number], found[number] = vector, True
        with replace_atomically(path) as temporary, temporary.open("wb") as kept_file:
            np.savez(kept_file, values=values, found=found)
    return values, found


def _package_folder(name: str) -> Path:
    module = name.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        hint = f", and no package {module} is installed" if module.isidentifier() else ""
        raise UserError(f"vectors: there is no file or folder {name}{hint}")
    return Path(spec.submodule_search_locations[0])


def _is_text(path: Path) -> bool:
    return (path.with_suffix("") if packing(path) else path).suffix in TEXT_ENDINGS


def _index_of(path: Path) -> Path:
    """The index beside a `.npy` file: of the same name, or else the only one there."""
    for ending in INDEX_ENDINGS:
        if path.with_suffix(ending).is_file():
            return path.with_suffix(ending)
    there = sorted(entry for entry in path.parent.iterdir() if entry.suffix in INDEX_ENDINGS)
    if len(there) != 1:
        raise UserError(f"vectors: which words are in {path}? name the file that says so: index: FILE")
    return there[0]


def _open_array(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"vectors: cannot read {path}: {error}") from error
    if array.ndim != 2 or array.dtype.kind != "f":
        raise UserError(
            f"vectors: {path} has an array {array.dtype} {list(array.shape)}; expected floats [words, size]"
        )
    return array


def _read_array(path: Path, index: Path, wanted: set[str]) -> dict[str, npt.NDArray[np.float32]]:
    array = _open_array(path)
    rows = {word: row for word, row in _read_index(index) if word in wanted}
    outside = [word for word, row in rows.items() if not 0 <= row < len(array)]
    if outside:
        raise UserError(f"vectors: {index} gives {outside[0]!r} a row that {path} does not have")
    return {word: array[row].astype(np.float32) for word, row in rows.items()}


def _read_index(path: Path) -> Iterator[tuple[str, int]]:
    """The words of an index with their rows: a list, a mapping of words to rows, or a word a line."""
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            yield from content.items() if isinstance(content, dict) else ((w, row) for row, w in enumerate(content))
        elif path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
            kinds = (pa.types.is_string, pa.types.is_large_string)
            texts = [name for name in table.schema.names if any(is_(table.schema.field(name).type) for is_ in kinds)]
            if not texts:
                raise UserError(f"vectors: {path} has no column of words")
            yield from ((word, row) for row, word in enumerate(table.column(texts[0]).to_pylist()))
        else:
            with path.open(encoding="utf-8") as lines:
                yield from ((line.rstrip("\n").partition("\t")[0], row) for row, line in enumerate(lines))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"vectors: cannot read the index {path}: {error}") from error


def _read_text(path: Path, wanted: set[str]) -> dict[str, npt.NDArray[np.float32]]:
    dimension = _text_dimension(path)
    forms = {form.encode(): form for form in wanted}
    found: dict[str, npt.NDArray[np.float32]] = {}
    number = 0
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines_of(lines), start=1):  # noqa: B007  (the error names it)
                word, _, numbers = line.partition(b" ")
                if word not in forms or forms[word] in found:  # a word that is there twice is what it is first
                    continue
                values = numbers.split()
                if len(values) == dimension:  # not the header, nor a "word" with a space in it
                    found[forms[word]] = np.array([float(value) for value in values], dtype=np.float32)
    except (OSError, EOFError) as error:
        raise UserError(f"vectors: cannot read {path}: {error}") from error
    except ValueError as error:
        raise UserError(f"vectors: {path}:{number}: expected a word and its numbers") from error
    return found


def _text_dimension(path: Path) -> int:
    """The numbers in a line of a text file, whose first line may say `words numbers` instead."""
    try:
        with open_text(path) as lines:
            first, second = (line.split() for line in islice(chain(lines_of(lines), (b"", b"")), 2))
    except (OSError, EOFError) as error:
        raise UserError(f"vectors: cannot read {path}: {error}") from error
    if len(first) == 2 and all(part.isdigit() for part in first):
        if len(first[1]) > 9 or (second and int(first[1]) > len(second)):
            raise UserError(f"vectors: {path} claims more numbers for a word than its lines have")
        return int(first[1])
    if len(first) < 2 or (second and len(second) != len(first)):
        raise UserError(
            f"vectors: {path} is no file of vectors: a line has a word and its numbers, separated by spaces"
        )
    return len(first) - 1
