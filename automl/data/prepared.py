"""Data prepared once and shared: found by the fingerprint of its content and settings, memory-mapped by every trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from automl.data.counted import Counted, add_counted
from automl.data.dense import DenseRows, open_dense
from automl.data.encode import DenseEncoder, Encoder, Rows, load_encoder
from automl.data.files import make_private, remove_leftovers, replace_folder
from automl.data.fingerprint import SPLITS, changed_data, digest_settings, file_digest, fingerprint_files
from automl.data.formats import IMAGE_FOLDER, table_format
from automl.data.images import ImageEncoder, choose_image_encoder, write_images
from automl.data.modalities import modality_of
from automl.data.parts import map_split, open_split, read_inputs
from automl.data.sequences import choose_sequence_encoder, write_series
from automl.data.source import SETTINGS as SOURCE_SETTINGS
from automl.data.source import write_source
from automl.data.store import Store, is_url
from automl.data.tables import find_files
from automl.data.text_rows import write_text_rows
from automl.data.vocabulary import token_texts
from automl.data.workers import Workers, workers
from automl.space import UserError
from automl.space.urls import redacted

FORMAT = 7  # raise it when what is written changes, so that old preparations are not taken for new ones
WHOLE = "files.json"
LOOKED_AT = 2000  # train rows, for the size of images and the length of series
CHUNK_ROWS = 256
_ENCODED = {"text": "tokens", "image": "pixels", "series": "steps"}  # what folders of encoded rows are called
_DENSE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "image": (choose_image_encoder, write_images),
    "series": (choose_sequence_encoder, write_series),
}


@dataclass(frozen=True)
class Prepared:
    """A prepared data set on disk; `vocabulary` counts the tokens, padding (0) and unknown (1) included.

    Images and series have no vocabulary (0); `profile` has their `shape` and the `mean` and `deviation` of channels.
    """

    path: Path
    source: Path
    fingerprint: str
    classes: tuple[str, ...]
    vocabulary: int
    profile: dict[str, Any]
    files: str = ""
    """A digest of the content of the files that it was prepared from (`fingerprint_files`)."""

    def rows(self, split: str) -> Rows | DenseRows | None:
        """The encoded rows of train, validation or test, memory-mapped; None where there is no such split."""
        if (self.path / f"{split}.npy").exists():
            return open_dense(self.path, split, self._label_column(split))
        path = self.path / f"{split}.arrow"
        if not path.exists():
            return None
        table, pages = map_split(path)
        column = table.column("tokens")
        tokens = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        return Rows(
            tokens=tokens.values.to_numpy(),
            offsets=tokens.offsets.to_numpy(),
            labels=table.column("label").to_numpy(),
            pages=pages,
        )

    def inputs(self, split: str) -> list[Any] | None:
        """The texts, or files of images, of a split as they came, in the order of its rows; None without it."""
        path = self.source / f"{split}.arrow"
        return list(read_inputs(path)) if path.exists() else None

    def texts(self, split: str) -> list[str] | None:
        """The same of a data set of texts."""
        return self.inputs(split)

    def labels(self, split: str) -> npt.NDArray[np.int64]:
        """The label numbers int64 [rows] of a split that exists."""
        return self._label_column(split).astype(np.int64)

    def _label_column(self, split: str) -> npt.NDArray[np.int32]:
        """The same as they lie on disk, mapped where they are in one piece."""
        labels: npt.NDArray[np.int32] = open_split(self.source / f"{split}.arrow").column("label").to_numpy()
        return labels

    def digest(self, split: str) -> str:
        """A digest of the rows of a split that exists as they came, with their labels and in their order."""
        return file_digest(self.source / f"{split}.arrow", None)

    def words(self) -> list[str]:
        """The text of each token number; of padding, unknown and parts of characters it is empty."""
        encoder = self.encoder()
        return token_texts(encoder.tokenizer) if isinstance(encoder, Encoder) else []

    def encoder(self) -> Encoder | DenseEncoder:
        """What turns raw inputs into such rows."""
        return load_encoder(self.path)


def prepare(
    data: Mapping[str, Any],
    *,
    seed: int,
    cache: Path,
    shared: str | None = None,
    workers: Workers = workers,
    known: str | None = None,
    fetch: bool = True,
) -> Prepared:
    """Prepare the data of a configuration's `data` section, or find it prepared.

    `seed` decides the validation and test rows where these are a fraction. Any number of processes may ask at once; one
    prepares, the others wait. Machines that share no file system share it through `shared`, a URL: what is there is
    brought from there, what is not is put there. `workers` do the work on parts of large data; whoever they
    are, the result is the same. Where the digest of the files' content is `known`, what is prepared already is found
    without looking at them, and files of other content are refused; without `fetch` none at a URL is fetched. Raises
    UserError where files are missing or the data cannot be learned from; then nothing is left in `cache`.
    """

    def write(folder: Path) -> None:
        if known is not None:
            require_known(data, cache, known, fetch=fetch)
        write_source(data, seed, folder, workers)
        if not any(is_url(each) for split in SPLITS if isinstance(data[split], list) for each in data[split]):
            now = fingerprint_files(data, cache)  # cheap: what has not changed is not read again
            if now != files:
                raise UserError("the data files changed while they were read; try again when they are whole")

    try:
        make_private(cache)  # data may be for its user only
        kind = modality_of(data)
        files = fingerprint_files(data, cache) if known is None else known
        source_key, key = _keys(data, seed, files)
        source = cache / f"source-{source_key}"
        _once(source, write, shared)
        settings = encoding_settings(data)
        path = cache / f"{_ENCODED[kind.name]}-{key}"
        if kind.name == "text":
            _once(path, lambda folder: write_text_rows(settings, source, folder, workers), shared)
        else:
            _once(path, lambda folder: _write_dense(*_DENSE[kind.name], settings, source, folder), shared)
        described = json.loads((path / "prepared.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise not_kept(cache, error) from error
    return Prepared(
        path, source, key, tuple(described["classes"]), described["vocabulary"], described["profile"], files
    )


def encoding_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `data` section that shape what networks see."""
    return {name: data[name] for name in modality_of(data).settings} | _fillings(data)


def _fillings(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is done about missing numbers, where that is something: data prepared before it could be stay the same."""
    return {} if data.get("missing", "drop") == "drop" else {"missing": data["missing"]}


def _keys(data: Mapping[str, Any], seed: int, files: str) -> tuple[str, str]:
    """What rows are called that were read as `data` says from files of this content, and what they are once encoded."""
    kind = modality_of(data)
    source_settings = {name: data.get(name) for name in (kind.name, *SOURCE_SETTINGS)}
    source_settings |= _fillings(data)
    source_settings["validation"] = "files" if isinstance(data["validation"], list) else data["validation"]
    if isinstance(data["test"], float):
        source_settings["test"] = data["test"]
    source = digest_settings({"format": FORMAT, "files": files, "seed": seed, **source_settings})
    settings = encoding_settings(data)
    return source, digest_settings({"format": FORMAT, "source": source, **settings})


def not_kept(cache: Path, error: OSError) -> UserError:
    """The error of a cache that cannot be written to."""
    return UserError(
        f"cannot keep prepared data in {cache}: {error.strerror or error}; set the environment variable "
        "AUTOML_CACHE to a folder that can be written to"
    )


def known_files(data: Mapping[str, Any], *, seed: int, cache: Path, fingerprint: str) -> str | None:
    """The digest of the content of the files that `data` names, if data prepared from them has this `fingerprint`."""
    try:
        make_private(cache)
    except OSError as error:
        raise not_kept(cache, error) from error
    files = fingerprint_files(data, cache)
    return files if _keys(data, seed, files)[1] == fingerprint else None


def require_known(data: Mapping[str, Any], cache: Path, known: str, *, fetch: bool) -> None:
    """Raise UserError where files may not be fetched, or do not hold what they held."""
    require_allowed(data, fetch=fetch)
    if (now := fingerprint_files(data, cache)) != known:
        raise changed_data(data, known, now)


def require_allowed(data: Mapping[str, Any], *, fetch: bool) -> None:
    """Raise UserError where files lie at a URL, or are images that a table names by paths, and may not be fetched."""
    named = [each for split in ("train", "validation", "test") if isinstance(data[split], list) for each in data[split]]
    at_url = next((each for each in named if is_url(each)), None)
    if at_url is not None and not fetch:
        raise UserError(f"the data lies at {redacted(at_url)} and not in this machine's cache any more")
    local = find_files([each for each in named if not is_url(each)])
    if modality_of(data).name == "image" and not fetch and any(table_format(each) != IMAGE_FOLDER for each in local):
        raise UserError(f"{local[0]} may name images by their paths, and files that a run names are not read")


def _once(path: Path, write: Callable[[Path], None], shared: str | None) -> None:
    """Let one process fill the folder `path`, if it is not there; it is there whole or not at all.

    In `shared` a folder is whole where its list of files is, which is put there last. Two machines that fill it at the
    same time put the same there.
    """
    if path.exists():
        return
    with FileLock(path.with_name(f"{path.name}.lock")):
        if path.exists():
            return
        remove_leftovers(path)
        with replace_folder(path) as folder:
            store = Store(f"{shared}/{path.name}") if shared else None
            if store is not None and store.get(WHOLE, folder / WHOLE):
                for name in json.loads((folder / WHOLE).read_text(encoding="utf-8")):
                    if not store.get(name, folder / name):
                        raise FileNotFoundError(f"{store.url}/{name} is gone")
            else:
                write(folder)
                if store is not None:
                    names = sorted(file.name for file in folder.iterdir())
                    for name in names:
                        store.put(folder / name, name)
                    (folder / WHOLE).write_text(json.dumps(names), encoding="utf-8")
                    store.put(folder / WHOLE, WHOLE)


def _write_dense(
    choose: Callable[..., Any], write: Callable[..., Any], settings: Mapping[str, Any], source: Path, folder: Path
) -> None:
    described = json.loads((source / "source.json").read_text(encoding="utf-8"))
    rows = described["profile"]["rows"]
    train = read_inputs(source / "train.arrow")
    encoder = choose(settings, list(islice(train, 0, None, -(-rows["train"] // LOOKED_AT))))
    encoder.save(folder)
    counted: list[Counted] = []
    for split, count in rows.items():
        chunks = _chunks_of(source / f"{split}.arrow")
        mean, deviation = write(encoder, chunks, count, folder / f"{split}.npy", counted)
        if split == "train":
            described["profile"] |= {"mean": mean.tolist(), "deviation": deviation.tolist()}
    described["vocabulary"] = 0
    described["profile"] |= {"shape": encoder.shape}
    if isinstance(encoder, ImageEncoder) and encoder.white is not None:
        described["profile"]["white"] = encoder.white.as_json()
    add_counted(described["profile"], counted)
    (folder / "prepared.json").write_text(json.dumps(described, indent=2, ensure_ascii=False), encoding="utf-8")


def _chunks_of(path: Path) -> Iterator[list[Any]]:
    for batch in open_split(path).to_batches(max_chunksize=CHUNK_ROWS):
        yield batch.column(0).to_pylist()
