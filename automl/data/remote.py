"""Data files at a URL, copied once into this machine's cache: preparing reads them several times, trials never."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
from filelock import FileLock

from automl.data.files import make_private, replace_folder
from automl.data.formats import FORMATS, is_table, table_ending
from automl.data.store import Allowance, Store
from automl.data.urls import WEB, is_url, require_allowed_url
from automl.space import UserError
from automl.space.urls import redacted

FETCHED_AT_ONCE = 16  # files of a folder
WILD = re.compile(r"[*?\[]")


def cache_directory() -> Path:
    """Where this machine keeps prepared data: `$AUTOML_CACHE` where that is a path, else the user's cache folder."""
    asked = os.environ.get("AUTOML_CACHE", "")
    return Path(asked) if asked and not is_url(asked) else platformdirs.user_cache_path("automl")


def user_cache(purpose: str) -> Path:
    """A folder of this machine's cache that only its user can enter.

    Raises UserError where someone else made it.
    """
    folder, user = cache_directory() / purpose, os.getuid()
    if folder.is_dir() and folder.lstat().st_uid != user:  # a cache that several users share
        folder = folder.with_name(f"{purpose}-{user}")
    make_private(folder)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != user:
        raise UserError(f"{folder} is no folder of yours; remove it, or set AUTOML_CACHE to another")
    if state.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def is_glob(url: str) -> bool:
    """Whether a URL names files by a pattern. In that of a web server `?` begins a query, and brackets an address."""
    scheme, _, place = url.partition("://")
    return ("*" in place or "[" in place.partition("/")[2]) if scheme.lower() in WEB else bool(WILD.search(place))


def path_of(url: str) -> str:
    """What a URL is without a web server's query."""
    return url.partition("?")[0] if url.partition("://")[0].lower() in WEB else url


def find_remote(url: str) -> dict[str, str]:
    """The URLs of the files that a URL names: a file, all files of a folder, or those that fit a glob.

    With each goes what changes when the file does, its size and its time. Raises UserError where there is none or the
    store cannot be used, OSError where it does not answer.
    """
    scheme, _, place = url.partition("://")
    scheme = scheme.lower()
    web = scheme in WEB
    if not is_glob(url):
        require_allowed_url(url)
        path, query, options = place.partition("?")
        folder, _, name = path.rstrip("/").rpartition("/")
        if web and query and not name:
            raise UserError(f"{redacted(url)} names no file")
        # A web server answers for any path: what it calls a file is one by its name, else a page of links.
        file = folder and (not web or (not path.endswith("/") and "." in name))
        if file and web and not is_table(Path(name)):
            raise UserError(f"{redacted(url)} names no file that ends in {', '.join(FORMATS)}")
        if file and (state := Store(f"{scheme}://{folder}").state(name + query + options)) is not None:
            return {url: state}
        root, pattern = path.rstrip("/"), "**"
    else:
        start = WILD.search(place, place.find("/") if web else 0).start()  # type: ignore[union-attr]
        fixed = place[:start].rpartition("/")[0]
        root, pattern = fixed, place[len(fixed) + 1 :]
    if not root:
        raise UserError(f"{redacted(url)} names no folder of a store")
    from fsspec.utils import glob_translate

    fits = re.compile(glob_translate(pattern))
    store = Store(f"{scheme}://{root}")
    found = {each: state for each, state in store.states().items() if fits.match(each)}
    if not found or (web and "?" in url):
        raise UserError(f"there is no file at {redacted(url)}")
    if web:  # a page of links has neither sizes nor times
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            found = dict(zip(found, pool.map(lambda name: store.state(name) or "", found), strict=True))
    return {f"{scheme}://{root}/{each}": state for each, state in found.items()}


def fetch_files(url: str, files: Mapping[str, str]) -> list[Path]:
    """Copies of files, URLs with their states, that `url` names together; fetched where this machine has none."""
    allowance = Allowance(url)
    return [_fetched(each, state, user_cache("sources"), allowance) for each, state in files.items()]


def fetch_folder(url: str, files: Mapping[str, str]) -> Path:
    """A copy of the folder at a URL with some of its files, URLs with their states; fetched where there is none."""
    path = user_cache("sources") / _digest(url, json.dumps(files))
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            allowance = Allowance(url)
            with replace_folder(path) as folder, ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
                names = [each[len(url.rstrip("/")) + 1 :] for each in files]
                list(pool.map(lambda name: _get(url.rstrip("/"), name, folder / name, allowance), names))
    return path


def _fetched(url: str, state: str, cache: Path, allowance: Allowance) -> Path:
    """The copy of a file, named by a digest and that ending which says what kind of table it is."""
    path, query, options = url.partition("?") if url.partition("://")[0].lower() in WEB else (url, "", "")
    folder, _, name = path.rpartition("/")
    copy = cache / f"{_digest(url, state)}{table_ending(Path(name))}"
    if not copy.exists():
        with FileLock(copy.with_name(f"{copy.name}.lock")):
            if not copy.exists():
                _get(folder, name + query + options, copy, allowance)
    return copy


def _get(folder: str, name: str, path: Path, allowance: Allowance) -> None:
    if not Store(folder).get(name, path, allowance):
        raise UserError(f"there is no file at {redacted(f'{folder}/{name}')}")


def _digest(url: str, state: str) -> str:
    return hashlib.blake2b(f"{url}\0{state}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
