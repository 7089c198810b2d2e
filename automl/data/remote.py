"""Data files at a URL, copied once into this machine's cache: preparing reads them several times, trials never."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

import platformdirs
from filelock import FileLock
from fsspec.utils import glob_translate

from automl.data.store import Store, is_url
from automl.space import UserError

WILD = re.compile(r"[*?\[]")


def cache_directory() -> Path:
    """Where this machine keeps prepared data: `$AUTOML_CACHE` where that is a path, else the user's cache folder."""
    asked = os.environ.get("AUTOML_CACHE", "")
    return Path(asked) if asked and not is_url(asked) else platformdirs.user_cache_path("automl")


def find_remote(url: str) -> list[str]:
    """The URLs of the files that a URL names: a file, all files of a folder, or those that fit a glob.

    Raises UserError where there is none or the store cannot be used, OSError where it does not answer.
    """
    scheme, _, place = url.partition("://")
    folder, name = place.rstrip("/").rsplit("/", 1) if "/" in place.rstrip("/") else (place.rstrip("/"), "")
    if not WILD.search(place):
        if name and Store(f"{scheme}://{folder}").has(name):
            return [url]
        root, pattern = place.rstrip("/"), "**"
    else:
        fixed = place[: WILD.search(place).start()].rpartition("/")[0]  # type: ignore[union-attr]
        root, pattern = fixed, place[len(fixed) + 1 :]
    if not root:
        raise UserError(f"{url} names no folder of a store")
    fits = re.compile(glob_translate(pattern))
    found = [f"{scheme}://{root}/{each}" for each in Store(f"{scheme}://{root}").names() if fits.match(each)]
    if not found:
        raise UserError(f"there is no file at {url}")
    return found


def remote_state(url: str) -> str:
    """What changes when the file at a URL does: its size and its time."""
    folder, _, name = url.rpartition("/")
    state = Store(folder).state(name)
    if state is None:
        raise UserError(f"there is no file at {url}")
    return state


def fetch(url: str) -> Path:
    """A copy of the file at a URL, which is fetched where this machine has none of its present state."""
    return _fetched(url, remote_state(url), cache_directory())


@lru_cache(maxsize=4096)
def _fetched(url: str, state: str, cache: Path) -> Path:
    digest = hashlib.blake2b(f"{url}\0{state}".encode(), digest_size=8).hexdigest()
    folder, _, name = url.rpartition("/")
    path = cache / "sources" / digest / folder.partition("://")[2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "sources" / f"{digest}.lock"):
        if not path.exists() and not Store(folder).get(name, path):
            raise UserError(f"there is no file at {url}")
    return path
