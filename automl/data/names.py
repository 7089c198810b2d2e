"""Names of files that a server has chosen, before they become paths on this machine."""

from __future__ import annotations

from urllib.parse import unquote

from automl.space import UserError
from automl.space.urls import redacted

LONGEST_PART, LONGEST_NAME = 255, 1024  # bytes, what file systems and stores take
DECODED = 4  # times that a name may be percent-encoded


def leads_out(name: str) -> bool:
    """Whether a name, relative and with slashes, is none of a file inside of a folder into which it is copied.

    So are names with `..`, `.`, nothing, a backslash or a control character between their slashes, also as
    percent-encoding says them, and names that no file system can hold.
    """
    for _ in range(DECODED):
        if not {"", ".", ".."}.isdisjoint(name.split("/")) or "\\" in name:
            return True
        if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name):
            return True
        size = name.encode("utf-8", "surrogatepass")
        if len(size) > LONGEST_NAME or any(len(part) > LONGEST_PART for part in size.split(b"/")):
            return True
        decoded = unquote(name, errors="replace")
        if decoded == name:
            return False
        name = decoded
    return True


def leads_out_error(url: str) -> UserError:
    """The error of a URL whose path `leads_out`."""
    return UserError(
        f"{redacted(url)} has a path that leads out of its folder (`..`), or a character that no path may have"
    )


def checked_name(name: str, folder: str) -> str:
    """`name`, a file's in the folder at a URL; raises UserError where it leads out of the folder."""
    if leads_out(name):
        raise UserError(f"{redacted(folder)} has a file whose name leads out of its folder: {redacted(name)[:200]!r}")
    return name
