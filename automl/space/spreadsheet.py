"""Cells of a CSV file that a spreadsheet opens: it runs what looks like a formula, so such a text is marked as text."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
# A formula begins with one of these, or with what a spreadsheet reads as them (full width), perhaps behind quotes and
# spaces that are left out. It may also begin behind a line end, a tab or a semicolon, where some split a cell.
_SIGNS = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"
_LEFT_OUT = "[ '\"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xa0\u200b-\u200f\u2060\u3000\ufeff]*"
_FORMULA = re.compile(f"^(?={_LEFT_OUT}{_SIGNS}|[\x00-\x1f\x7f-\x9f])|(?<=[;\t\r\n])(?={_LEFT_OUT}{_SIGNS})")


def spreadsheet_cell(text: str) -> str:
    """`text` with an apostrophe before whatever a spreadsheet would run; numbers such as `-0.5` stay as they are.

    The rule is OWASP's (CSV injection): `=`, `+`, `-`, `@` or a control character, such as a tab, at the beginning.
    """
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub("'", text)
