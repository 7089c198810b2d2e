"""Whose a run is, and its labels: nothing that a shell, a path or a page takes for more than a name."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping, Sequence

from automl.space.errors import UserError

LONGEST = 63
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9 ._/@:+-]*")
_OTHER = re.compile(r"[^A-Za-z0-9 ._/@:+-]")


def owner_name(owner: str | None) -> str:
    """Whose run it is: `owner`, else the user's login name, empty where the machine does not know it.

    Raises UserError for what is no name.
    """
    return _label("owner", _login_name() if owner is None else owner)


def labels_of(written: Sequence[str]) -> Mapping[str, str]:
    """Labels `key=value`; raises UserError where one is written otherwise."""
    found = {}
    for each in written:
        key, equals, value = each.partition("=")
        if not equals or len(key) > LONGEST or not NAME.fullmatch(key):
            raise UserError(f"--label {each!r}: expected KEY=VALUE, as in team=search")
        found[key] = _label(f"label {key}", value)
    return found


def written_labels(labels: Mapping[str, str]) -> str:
    """`team=search, cost=a`, as people read them."""
    return ", ".join(f"{key}={value}" for key, value in labels.items())


def _login_name() -> str:
    try:
        return _OTHER.sub("-", getpass.getuser())[:LONGEST]
    except (KeyError, OSError):  # a container runs under a number that has no name
        return ""


def _label(what: str, value: str) -> str:
    if len(value) > LONGEST or not _LABEL.fullmatch(value):
        raise UserError(f"{what} {value!r}: expected at most {LONGEST} letters, digits, spaces and . _ / @ : + -")
    return value
