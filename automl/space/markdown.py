"""Words that strangers wrote, as they stand in Markdown."""

from __future__ import annotations

import re

from automl.space.printable import printable

# What becomes a link without being asked on GitHub.
_LINK = re.compile(r"\b[a-z][a-z0-9+.-]*:(?=//)|\b(mailto|xmpp):|\bwww\.|(?<=\S)@(?=\S)", re.IGNORECASE)
_ENTITIES = str.maketrans({":": "&#58;", "@": "&#64;", ".": "&#46;"})


def markdown_text(text: str) -> str:
    """`text` in one line that Markdown shows as it is: no table cell ends, no tag, link, image or code begins."""
    line = printable(" ".join(text.split()))
    shown = re.sub(r"[\\`*|\[\]~]|(?<!\w)_|_(?!\w)|^#", r"\\\g<0>", line)
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINK.sub(lambda found: found.group().translate(_ENTITIES), shown)


def markdown_code(text: str) -> str:
    """`text` in one line as code: between more backticks than it has in a row."""
    line = printable(text)
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if not line.strip() or line[0] == "`" or line[-1] == "`" else ""
    return f"{ticks}{space}{line}{space}{ticks}"
