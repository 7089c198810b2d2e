"""What was found in the folders that a `data` section names, and what of it is not used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from automl.data.folders import HIDDEN, Unused, is_hidden, walk
from automl.data.formats import is_table
from automl.data.image_folder import ENDING, is_image, survey
from automl.data.remote import find_remote, is_glob, path_of
from automl.data.store import is_url
from automl.data.tables import is_table_below
from automl.space.urls import redacted


def describe_folders(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each folder, or folder at a URL, that the section names: `images`, `classes`, `inner` and `unused`.

    `inner` has the first names of folders within those of classes; `unused`, by reason, has `counts` and `examples`.
    Of folders of tables there is `unused` alone. Raises OSError where a URL does not answer.
    """
    found = {}
    for split in ("train", "validation", "test"):
        for named in data[split] if isinstance(data[split], list) else ():
            if is_url(named):
                if not is_glob(named) and not is_table(Path(path_of(named))):
                    found[redacted(named)] = _at_url(named)
            elif (folder := Path(named)).is_dir():
                found[named] = _described(folder)
    return found


def folder_sentences(folders: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is right to know about folders: what is a class where that is not plain, and what is not used."""
    for name, found in folders.items():
        if inner := found.get("inner"):
            more = ", ..." if len(inner) > 3 else ""
            yield (
                f"{name}: each of its {found['classes']} own folders is a class; the folders within them "
                f"({', '.join(inner[:3])}{more}) are not, their images count to the class"
            )
        unused = found["unused"]
        parts = []
        for reason, count in unused["counts"].items():
            examples = ", ".join(unused["examples"][reason])
            parts.append(f"{count:,} {reason} ({examples}{', ...' if count > len(unused['examples'][reason]) else ''})")
        if parts:
            yield f"{name}: found and not used: {'; '.join(parts)}"


def _described(folder: Path) -> dict[str, Any]:
    unused = Unused()
    tables = 0
    for file in walk(folder, unused):
        if is_table_below(file):
            tables += 1
        else:
            hidden = any(part.startswith("_") for part in file.parts)
            unused.note(HIDDEN if hidden else f"{ENDING} ({file.suffix or 'none'})", str(file))
    return {"unused": unused.described()} if tables else survey(folder).described()


def _at_url(url: str) -> dict[str, Any]:
    unused = Unused()
    names: Sequence[str] = [path_of(each)[len(url.rstrip("/")) + 1 :] for each in find_remote(url)]
    tables = any(is_table(Path(name)) for name in names)
    for name in names:
        if not name:
            continue
        file = Path(name)
        if any(is_hidden(part) for part in file.parts):
            unused.note(HIDDEN, name)
        elif not (is_table(file) if tables else is_image(file)):
            unused.note(f"{ENDING} ({file.suffix or 'none'})", name)
    return {"unused": unused.described()}
