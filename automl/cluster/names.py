"""What submitted runs may be called: nothing that a shell, a path or a page takes for more than a name."""

from __future__ import annotations

import re
import secrets
from datetime import datetime

from automl.space import UserError
from automl.space.owners import LONGEST, NAME


def run_name(name: str) -> str:
    """`name`, where it will do as the name of a run; raises UserError where not."""
    if len(name) > LONGEST or not NAME.fullmatch(name) or ".." in name:
        raise UserError(
            f"{name!r} is no name of a run: expected at most {LONGEST} letters, digits, '.', '-' and '_', "
            "beginning and ending with a letter or a digit"
        )
    return name


def new_run_name(space: str) -> str:
    """A name for a run of the space of this name: when it was submitted, and something that no other has."""
    words = re.sub(r"[^a-z0-9]+", "-", space.lower())[:35].strip("-") or "run"
    return f"{words}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
