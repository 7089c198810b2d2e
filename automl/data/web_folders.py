"""Web servers as a file system of fsspec, for reading only: their pages of links say which files a folder has."""

from __future__ import annotations

import html
import re
from collections import deque
from typing import Any, ClassVar
from urllib.parse import urljoin

from fsspec import AbstractFileSystem

from automl.data.bounds import DOWNLOAD_FILES
from automl.data.web import RefusedError, WebFile, web_state
from automl.space import UserError
from automl.space.urls import redacted

PAGE_BYTES = 4 * 1024 * 1024  # that are read of a page of links
MOST_PAGES, MOST_LEVELS = 1000, 16

_LINK = re.compile(r"\bhref\s{0,4}=\s{0,4}[\"']?([^\"'<>\s]{1,1024})", re.IGNORECASE)


class WebFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Paths are whole URLs."""

    protocol: ClassVar[tuple[str, ...]] = ("http", "https")
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """A file's size and time; raises FileNotFoundError where the server has none."""
        state = web_state(path)
        return {"name": path, "type": "file", "size": state.size, "mtime": state.modified}

    def isdir(self, path: str) -> bool:
        """Whether it may be a folder: any URL may."""
        return True

    def isfile(self, path: str) -> bool:
        """Whether it may be a file: opening tells."""
        return True

    def find(self, path: str, maxdepth: int | None = None, **_: Any) -> dict[str, dict[str, Any]]:
        """The files below a folder, by the links of its pages that lead into it; sizes and times are not known.

        Raises UserError where they are more than may be.
        """
        root, most = path.rstrip("/"), DOWNLOAD_FILES.value()
        files: dict[str, dict[str, Any]] = {}
        pages, seen = deque([(root, 1)]), {root}
        while pages:
            page, level = pages.popleft()
            for link in _links(page, optional=page != root):
                folder = link.endswith("/")
                link = link.rstrip("/")
                if not folder:
                    files[link] = {"name": link, "type": "file", "size": None}
                elif link not in seen and level < min(maxdepth or MOST_LEVELS, MOST_LEVELS):
                    seen.add(link)
                    pages.append((link, level + 1))
                if len(files) > most:
                    raise DOWNLOAD_FILES.exceeded(f"{redacted(root)} has", "files")
                if len(seen) > MOST_PAGES:
                    raise UserError(f"{redacted(root)} has more than {MOST_PAGES:,} folders; name a folder below it")
        return files

    def _open(self, path: str, mode: str = "rb", **_: Any) -> WebFile:
        if mode != "rb":
            raise _no_writing(path)
        return WebFile(path)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Not possible."""
        raise _no_writing(path)


def _links(page: str, *, optional: bool) -> list[str]:
    """The URLs below a page's that it links to, without those of queries and anchors; none where it is no page."""
    try:
        with WebFile(f"{page}/") as file:
            if file.kind() != "text/html":
                return []
            content = bytearray()
            while len(content) <= PAGE_BYTES and (block := file.read(1 << 16)):
                content += block
    except FileNotFoundError:
        return []
    except RefusedError:
        if optional:
            return []
        raise
    if len(content) > PAGE_BYTES:
        raise UserError(f"{redacted(page)} is a page of more than {PAGE_BYTES:,} bytes; name its files")
    found: dict[str, None] = {}
    for link in _LINK.findall(content.decode("utf-8", "replace")):
        try:
            there = urljoin(f"{page}/", html.unescape(link))
        except ValueError:
            continue
        if there.startswith(f"{page}/") and there != f"{page}/" and not {"?", "#"} & set(there[len(page) :]):
            found[there] = None
    return list(found)


def _no_writing(path: str) -> UserError:
    return UserError(f"{redacted(path)} cannot be written to: a web server is only read")
