"""The part of the `automl` command that looks at data and prepares it."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl import verbs
from automl.space.printable import console, printable, printable_json, say

if TYPE_CHECKING:
    from automl.profiling import Preparation

Space = Annotated[Path, typer.Argument(metavar="SPACE", help="The search-space file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace a value of the file; repeatable."),
]


class Format(StrEnum):
    """For people or for programs."""

    text = "text"
    json = "json"


AsFormat = Annotated[Format, typer.Option("--format", help="Output format.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands `data` and `prepare`."""
    for command in (data, prepare):
        app.command()(command)


def data(space: Space, overrides: Overrides = None, format: AsFormat = Format.text) -> None:
    """Profile the data: rows, classes, lengths, repeats, leakage.

    Leakage is a row of one split that is in another, too; rows that cannot be used are counted with examples.
    """
    found = verbs.profile(space, overrides=overrides or ())
    if format is Format.json:
        print(printable_json(found.content))
    else:
        console().print(found.as_text(), soft_wrap=False)


def prepare(
    space: Space,
    overrides: Overrides = None,
    most: Annotated[int, typer.Option(min=1, help="Prepare at most so many variants.")] = 20,
    format: AsFormat = Format.text,
) -> None:
    """Prepare the data only.

    Each variant of searched preparation settings; a search that follows finds it there.
    """
    tell = _tell if format is Format.text else lambda each: None
    found = verbs.prepare(space, overrides=overrides or (), most=most, tell=tell)
    if format is Format.json:
        print(printable_json([each.as_json() for each in found]))
    left = found[0].variants - len(found)
    if left:
        say(f"automl: {left:,} more variants; --most prepares them too")


def _tell(each: Preparation) -> None:
    rows = ", ".join(f"{split} {count:,}" for split, count in each.prepared.profile["rows"].items())
    print(f"{printable(each.prepared.path)}\n  {rows} rows; {each.seconds:.1f} seconds")
    if each.variants > 1:
        print(f"  {printable(json.dumps(each.settings, ensure_ascii=False))}")
