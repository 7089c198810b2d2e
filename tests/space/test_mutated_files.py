"""Shipped files with random edits: each is a space whose configurations can be drawn, or is explained."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from automl.space import UserError, parse, sample_configs
from automl.space.families import FAMILIES

FOLDER = Path(__file__).parents[2] / "search_spaces"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.yaml"))]
WORDS = re.compile(r"[\w.-]+|[\[\]{}:,]|\n *")
VALUES = ["null", "true", "-1", "1e400", ".nan", "x", "''", "[]", "{}", "[1, 2]", "{a: 1}", "model.rnn.hidden <= 3"]
RANGES = ["{int: [1, 3]}", "{float: [0, 1]}", "{choice: [1, {int: [2, 3]}]}", "{per: layers, int: [1, 3]}", "{per: 3}"]
SIGNS = [
    "",
    "{",
    "}",
    "[",
    "]",
    ": ",
    ", ",
    "\n",
    "\n  ",
    "- ",
    "&a ",
    "*a",
    "<<: *a",
    "'",
    '"',
    "\t",
    "\u00a0",
    "#",
    "|",
]


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[float, str | float]]:
    """Each a place in the file, from 0 to 1, and what is put there: a text, or the word at another place."""
    place = st.floats(0, 1, exclude_max=True)
    return draw(st.lists(st.tuples(place, st.sampled_from(VALUES + RANGES + SIGNS) | place), min_size=1, max_size=3))


def edited(text: str, edits: list[tuple[float, str | float]]) -> str:
    for place, new in edits:
        spans = [match.span() for match in WORDS.finditer(text)]
        start, end = spans[int(place * len(spans))]
        other = new if isinstance(new, str) else text[slice(*spans[int(new * len(spans))])]
        text = text[:start] + other + text[end:]
    return text


@settings(max_examples=150, deadline=None)
@example(
    "name: x\ndata: {train: t}\nmodel: {cnn: {}, rnn: {}}\nsearch: {start_with: [{model: {cnn: {}, rnn: {}}}]}", []
)
@given(st.sampled_from(TEXTS), edits())
def test_an_edited_file_is_a_space_or_is_explained(text: str, edits: list[tuple[float, str | float]]) -> None:
    try:
        spec = parse(edited(text, edits), FAMILIES, file=str(FOLDER / "edited.yaml"))
    except UserError as error:
        assert str(error)
    else:
        sample_configs(spec, 2, seed=0, feasible=False)
