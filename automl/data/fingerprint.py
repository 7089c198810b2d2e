"""What the files of a data section hold, as one short text; a file that has not changed is read once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from automl.data.files import replace_atomically
from automl.data.formats import table_format
from automl.data.image_folder import survey
from automl.data.image_paths import open_image
from automl.data.named_images import named_images
from automl.data.remote import find_remote
from automl.data.store import is_url
from automl.data.tables import find_files
from automl.space import UserError
from automl.space.urls import redacted

SPLITS = ("train", "validation", "test")
BLOCK_BYTES = 1 << 20
SETTLED_NS = 2_000_000_000  # a file that changed more recently may change again within the clock's resolution


class ChangedDataError(UserError):
    """The data files hold something else than when the run began."""


def fingerprint_files(data: Mapping[str, Any], cache: Path) -> str:
    """Digests of the content of all files that the `data` section names, whatever their names; at URLs of their state.

    One for each split that has files: `train:1f0c... test:77ab...`. The digests of single files are kept in `cache`
    with what tells that the file is the same. So is the content of image files that a table names. Raises UserError
    where a data file is missing or cannot be read.
    """
    found = []
    for split in SPLITS:
        digest, named = hashlib.blake2b(digest_size=16), data[split]
        if not isinstance(named, list):
            continue
        for path in find_files([each for each in named if not is_url(each)]):
            digest.update(f"{split}\0{table_format(path)}\0{file_digest(path, cache)}\0".encode())
            if "image" in data and not path.is_dir():
                digest.update(f"{_named_digest(path, data, cache)}\0".encode())
        for url, state in (file for each in named if is_url(each) for file in find_remote(each).items()):
            digest.update(f"{split}\0{url}\0{state}\0".encode())
        found.append(f"{split}:{digest.hexdigest()}")
    return " ".join(found)


def changed_data(data: Mapping[str, Any], known: str, now: str) -> ChangedDataError:
    """The error that says which of the files that the `data` section names have changed, and what to do.

    `known` is what `fingerprint_files` gave when the run began (empty: its version did not note it), `now` what it
    gives now.
    """
    before, after = (dict(each.partition(":")[::2] for each in digests.split()) for digests in (known, now))
    changed = [split for split in after if before.get(split) != after[split]]
    named = [f"{split} ({', '.join(redacted(str(each)) for each in data[split])})" for split in changed]
    what = f"the data of {' and '.join(named)} has" if named else "the data has"
    if not before:
        return ChangedDataError(
            f"{what} changed since the run began, or the run is of a version of automl that prepared data otherwise; "
            "run it as a new search"
        )
    return ChangedDataError(
        f"{what} changed since the run began, and what was prepared of it is not in the cache any more; put the old "
        "files back, or run it as a new search"
    )


def digest_settings(settings: Mapping[str, Any]) -> str:
    """A short digest of settings that JSON can say, whatever their order."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


def file_digest(path: Path, cache: Path | None) -> str:
    """A digest of a file's content, kept in `cache` with what tells that the file is the same; may raise UserError.

    That of a folder of images is of their names and their content.
    """
    if path.is_dir():
        key = digest_settings({"folder": str(path.resolve())})
        return _digest_of_many(lambda: ((str(file), path / file) for file in survey(path).files), cache, key)
    try:
        state = path.stat()
        same = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        kept = cache / f"file-{digest_settings({'path': str(path.resolve())})}.json" if cache else None
        if kept and (known := _read(kept)) and known["same"] == same:
            return str(known["digest"])
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as content:
            while block := content.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    _keep(kept, same, digest.hexdigest(), max(state.st_mtime_ns, state.st_ctime_ns))
    return digest.hexdigest()


def _named_digest(table: Path, data: Mapping[str, Any], cache: Path) -> str:
    """A digest of the content of the image files that a table names, empty where it names none."""
    damaged = data["on_bad_rows"] == "report"
    if next(named_images(table, data["image"], damaged=damaged), None) is None:
        return ""
    key = digest_settings({"table": str(table.resolve()), "column": data["image"], "from": str(Path.cwd())})

    def files() -> Iterator[tuple[str, Path]]:
        return (("", Path(path)) for path in named_images(table, data["image"], damaged=damaged))

    return _digest_of_many(files, cache, key)


def _digest_of_many(files: Callable[[], Iterable[tuple[str, Path]]], cache: Path | None, key: str) -> str:
    """A digest of the names and contents of files, those that cannot be read included.

    It is kept in `cache` under `key` with a digest of what tells that all the files are the same, which is computed
    before they are read: what changes meanwhile is read again the next time.
    """
    same, latest = hashlib.blake2b(digest_size=16), 0
    for name, path in files():
        try:
            state = path.stat()
        except (OSError, ValueError) as error:
            same.update(f"{name}\0{path}\0{_reason(error)}\0".encode("utf-8", "surrogateescape"))
            continue
        latest = max(latest, state.st_mtime_ns, state.st_ctime_ns)
        about = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        same.update(f"{name}\0{path}\0{about}\0".encode("utf-8", "surrogateescape"))
    kept = cache / f"files-{key}.json" if cache else None
    if kept and (known := _read(kept)) and known["same"] == same.hexdigest():
        return str(known["digest"])
    digest = hashlib.blake2b(digest_size=16)
    for name, path in files():
        digest.update(f"{name}\0{_content_digest(path)}\0".encode("utf-8", "surrogateescape"))
    _keep(kept, same.hexdigest(), digest.hexdigest(), latest)
    return digest.hexdigest()


def _content_digest(path: Path) -> str:
    """A digest of an image file's content, or why it has none."""
    try:
        return hashlib.blake2b(open_image(path), digest_size=16).hexdigest()
    except (OSError, ValueError, UserError) as error:
        return _reason(error)


def _reason(error: Exception) -> str:
    """The kind of an error, without names and numbers that are different elsewhere."""
    return f"{type(error).__name__} {getattr(error, 'errno', None)}"


def _keep(kept: Path | None, same: Any, digest: str, changed_ns: int) -> None:
    """Keep a digest with what tells that files are the same, where they have not changed just now."""
    if kept and time.time_ns() - changed_ns > SETTLED_NS:
        with suppress(OSError), replace_atomically(kept) as temporary:
            temporary.write_text(json.dumps({"same": same, "digest": digest}), encoding="utf-8")


def _read(kept: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
