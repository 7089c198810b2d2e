"""What runs, owners and labels may be called: nothing that a shell, a path or a page takes for more than a name."""

from __future__ import annotations

import getpass
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from automl.space import UserError

LONGEST = 63
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9 ._/@:+-]*")


def run_name(name: str) -> str:
    """`name`, where it will do as the name of a run; raises UserError where not."""
    if len(name) > LONGEST or not _NAME.fullmatch(name) or ".." in name:
        raise UserError(
            f"{name!r} is no name of a run: expected at most {LONGEST} letters, digits, '.', '-' and '_', "
            "beginning and ending with a letter or a digit"
        )
    return name


def new_run_name(space: str) -> str:
    """A name for a run of the space of this name: when it was submitted, and something that no other has."""
    words = re.sub(r"[^a-z0-9]+", "-", space.lower())[:35].strip("-") or "run"
    return f"{words}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def owner_name(owner: str | None) -> str:
    """Who submits: `owner`, else the user's login name; raises UserError for what is no name."""
    return _label("owner", owner or getpass.getuser())


def labels_of(written: Sequence[str]) -> Mapping[str, str]:
    """Labels `key=value`; raises UserError where one is written otherwise."""
    found = {}
    for each in written:
        key, equals, value = each.partition("=")
        if not equals or len(key) > LONGEST or not _NAME.fullmatch(key):
            raise UserError(f"--label {each!r}: expected KEY=VALUE, as in team=search")
        found[key] = _label(f"label {key}", value)
    return found


def _label(what: str, value: str) -> str:
    if len(value) > LONGEST or not _LABEL.fullmatch(value):
        raise UserError(f"{what} {value!r}: expected at most {LONGEST} letters, digits, spaces and . _ / @ : + -")
    return value
