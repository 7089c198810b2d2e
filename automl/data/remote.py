"""Data files at a URL, copied once into this machine's cache: preparing reads them several times, trials never."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import platformdirs
from filelock import FileLock
from fsspec.utils import glob_translate

from automl.data.files import replace_folder
from automl.data.store import Store, is_url
from automl.space import UserError

FETCHED_AT_ONCE = 16  # files of a folder
WILD = re.compile(r"[*?\[]")


def cache_directory() -> Path:
    """Where this machine keeps prepared data: `$AUTOML_CACHE` where that is a path, else the user's cache folder."""
    asked = os.environ.get("AUTOML_CACHE", "")
    return Path(asked) if asked and not is_url(asked) else platformdirs.user_cache_path("automl")


def find_remote(url: str) -> dict[str, str]:
    """The URLs of the files that a URL names: a file, all files of a folder, or those that fit a glob.

    With each goes what changes when the file does, its size and its time. Raises UserError where there is none or the
    store cannot be used, OSError where it does not answer.
    """
    scheme, _, place = url.partition("://")
    folder, name = place.rstrip("/").rsplit("/", 1) if "/" in place.rstrip("/") else (place.rstrip("/"), "")
    if not WILD.search(place):
        if name and (state := Store(f"{scheme}://{folder}").state(name)) is not None:
            return {url: state}
        root, pattern = place.rstrip("/"), "**"
    else:
        fixed = place[: WILD.search(place).start()].rpartition("/")[0]  # type: ignore[union-attr]
        root, pattern = fixed, place[len(fixed) + 1 :]
    if not root:
        raise UserError(f"{url} names no folder of a store")
    fits = re.compile(glob_translate(pattern))
    states = Store(f"{scheme}://{root}").states()
    found = {f"{scheme}://{root}/{each}": state for each, state in states.items() if fits.match(each)}
    if not found:
        raise UserError(f"there is no file at {url}")
    return found


def fetch(url: str, state: str) -> Path:
    """A copy of the file at a URL, which is fetched where this machine has none of this state."""
    return _fetched(url, state, cache_directory())


def fetch_folder(url: str, files: Mapping[str, str]) -> Path:
    """A copy of the folder at a URL with some of its files, URLs with their states; fetched where there is none."""
    path = _place(url, json.dumps(files), cache_directory())
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            with replace_folder(path) as folder, ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
                names = [each[len(url.rstrip("/")) + 1 :] for each in files]
                list(pool.map(lambda name: _get(url.rstrip("/"), name, folder / name), names))
    return path


@lru_cache(maxsize=4096)
def _fetched(url: str, state: str, cache: Path) -> Path:
    folder, _, name = url.rpartition("/")
    path = _place(url, state, cache)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            _get(folder, name, path)
    return path


def _get(folder: str, name: str, path: Path) -> None:
    if not Store(folder).get(name, path):
        raise UserError(f"there is no file at {folder}/{name}")


def _place(url: str, state: str, cache: Path) -> Path:
    """Where the copy of a URL's state lies; its folder is there."""
    digest = hashlib.blake2b(f"{url}\0{state}".encode(), digest_size=8).hexdigest()
    path = cache / "sources" / digest / url.rstrip("/").partition("://")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
