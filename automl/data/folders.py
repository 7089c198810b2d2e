"""What lies in a folder that a user names: the files that are used and, counted by reason, what is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = 3  # examples of what is not used
HIDDEN, NO_FILE, LINK = "hidden or a system's own", "no regular file", "a link that leads nowhere or back"
CLOSED = "a folder that cannot be read"
# What systems and programs leave in folders, in lower case, beside names that begin with a dot.
SYSTEM = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "system volume information"}
    | {"@eadir", "lost+found", "__pycache__"}
)


@dataclass
class Unused:
    """What is not used, by reason: how many entries, and the first of them, relative to the folder."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, reason: str, entry: str) -> None:
        """Count an entry."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(shown := self.examples.setdefault(reason, [])) < SHOWN:
            shown.append(entry)

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"counts": self.counts, "examples": self.examples}

    def __bool__(self) -> bool:
        return bool(self.counts)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or what a system or a program leaves in folders."""
    return name.startswith(".") or name.lower() in SYSTEM


def walk(folder: Path, unused: Unused, *, tops: bool = False) -> Iterator[Path]:
    """The regular files below a folder, relative to it, in the order of their names; `unused` hears of what is none.

    Links are followed. A folder that is reached in several ways is looked through once, or with `tops` once for each
    folder at the top.
    """
    seen = {_identity(folder)}
    pending = [(Path(), iter(_entries(folder, Path(), unused)))]
    while pending:
        here, entries = pending[-1]
        entry = next(entries, None)
        if entry is None:
            pending.pop()
            continue
        relative = here / entry.name
        if is_hidden(entry.name):
            unused.note(HIDDEN, str(relative))
            continue
        try:
            state = entry.stat()
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:
            unused.note(LINK, str(relative))
            continue
        if is_folder:
            if tops and len(pending) == 1:
                seen = {_identity(folder)}
            if (state.st_dev, state.st_ino) in seen:
                unused.note(LINK, f"{relative}/")
                continue
            seen.add((state.st_dev, state.st_ino))
            pending.append((relative, iter(_entries(folder, relative, unused))))
        elif is_file:
            yield relative
        else:
            unused.note(NO_FILE, str(relative))


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def _entries(folder: Path, place: Path, unused: Unused) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder / place) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        unused.note(CLOSED, f"{place}/")
        return []
