"""Whatever a text holds, cleaning it and turning it into numbers is work that grows as its length."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.data.clean import clean_texts, cleaning_steps, fix_encoding, strip_html
from automl.data.markup import parses_in_linear_work, without_markup
from automl.data.modalities import LONG_TEXT, MOST_TEXT_BYTES, TEXT, is_long
from automl.data.pieces import PieceEncoder
from automl.data.vocabulary import fit_tokenizer
from automl.training.floor import _vectorizer

EVERYTHING = {
    "fix_encoding": True,
    "strip_html": True,
    "urls": "replace",
    "user_names": "replace",
    "numbers": "replace",
    "lowercase": True,
}
TOKENIZERS: list[dict[str, Any]] = [
    {"word": {"vocabulary": 2000, "min_count": 1}},
    {"char": {"vocabulary": 2000}},
    {"bpe": {"vocabulary": 2000}},
    {"unigram": {"vocabulary": 2000}},
]
TRIES = 6  # a busy machine may slow one of them
ORDINARY = ["the cat sat on the mat, and it's :-) #ok @me", "plain words to learn from here"] * 20


def numbered(pattern: str) -> Callable[[int], str]:
    return lambda size: "".join(pattern.replace("{}", str(number)) for number in range(size // len(pattern)))


def repeated(pattern: str, before: str = "") -> Callable[[int], str]:
    return lambda size: before + pattern * (size // len(pattern))


def reopened(size: int) -> str:
    """Unclosed tags that a parser of HTML puts into each paragraph again."""
    return "<p>" + numbered("<b a={}>")(size // 2) + "</p>" + "<p>x" * (size // 8)


MARKUP: dict[str, Callable[[int], str]] = {
    "unclosed, all different": numbered("<b a={}>"),
    "reopened": reopened,
    "anchors": numbered("<a name={}><p>x"),
    "in cells": numbered("<table><tr><td><font f={}>x"),
    "outside tables": numbered("<td><b a={}></td>x"),
    "closed in tables": numbered("<p><b a={}></p>x<table></b></table>"),
    "attributes": lambda size: f"<b {numbered('a{} ')(size)}>x",
    "attributes of html": numbered("<html a{}>"),
    "options": repeated("<option>x", "<select>"),
    "nothing closed that is open": lambda size: "<span>" * (size // 12) + "</i>" * (size // 8),
    "scripts": repeated("<div><script><!--<script></script></div></script>"),
    "numbers": lambda size: "<p>&#" + "1" * size,
    **{
        fragment: repeated(fragment)
        for fragment in (
            "<div>", "<span>", "<table>", "<table><td><div></table>", "<table><tr><td>", "<b><div></b>", "<a<a",
            "<!--", "<!", "<a b=\"<a b='", "<form><span></form>", "<svg><g>", "<svg><style><g></style>", "<template>",
            "<head>", "<noscript>", "<title>", "<li><dd>", "<li><div><li><section></div>", "<tr><li><dd></tr>",
            "<p><button>", "<option><p></option>", "<object><b></object>", "<math><mi><b>", "<div><table></div>",
            "<ul><li>", "<h1><h2>", "x</i>", "<frameset>", "<ruby><rt>", "<dl><dt><dd>", "<nobr><p>",
        )
    },
}  # fmt: skip
TEXTS: dict[str, Callable[[int], str]] = {
    "numbers": lambda size: "&#" + "1" * size,
    "words": numbered("w{} "),
    "characters": lambda size: "".join(chr(0x4E00 + number % 20_000) for number in range(size)),
    "marks": lambda size: "e" + "\u0301\u0323" * (size // 2),
    "tibetan marks": lambda size: "a" + "\u0f73" * size,
    "two at random": lambda size: "".join("ab"[number.bit_count() % 2] for number in range(size)),
    **{
        fragment: repeated(fragment)
        for fragment in (
            "a", "ab ", "a'", "#", "@", "@a", "#a", "<url", "<", "&", "&amp;", "1,", "1.1a", "www.", "www.!", "http://",
            "<http://", "<a@", "[PAD]", "[UNK] ", "\0", "\x1b[", "\u202e", "\u200d", "\ufdfa", "\U0001f600", "Ã©",
            "â€™", "ÃƒÂ¢", "\u1100", "İ", "Σ'", "\u2581", "\u2585", "é\n", "!?", "\u00a0a", "[", "好吃",
        )
    },
}  # fmt: skip


OPENED = "div p table td tr li dd ul svg form button select option template h1 object br"
CLOSED = "div p b table td ul svg a font form template h2 object caption"
FRAGMENTS = (
    [f"<{name}>" for name in OPENED.split()]
    + [f"</{name}>" for name in CLOSED.split()]
    + ["<b a={}>", "<a href={}>", "<font x={}>", "<nobr y={}>", "<script>", "</script>", "<!--", "-->", "x", "&lt;"]
)


def seconds(work: Callable[[str], object], text: str) -> float:
    gc.disable()  # collecting what other tests left takes longer than the work
    try:
        start = time.process_time()
        work(text)
        return time.process_time() - start
    finally:
        gc.enable()


def grows_as_its_length(work: Callable[[str], object], make: Callable[[int], str], size: int) -> bool:
    """Whether four times the text takes less than twelve times the work, sixteen would be quadratic; else try again.

    What takes less than a twentieth of a second says nothing.
    """
    return seconds(work, make(4 * size)) < 0.05 or any(
        seconds(work, make(4 * size)) < 12 * max(seconds(work, make(size)), 0.005) for _ in range(TRIES)
    )


@pytest.mark.parametrize("name", MARKUP)
def test_markup_is_removed_in_linear_work(name: str) -> None:
    assert grows_as_its_length(strip_html, MARKUP[name], 16_000)
    assert grows_as_its_length(without_markup, MARKUP[name], 16_000)


@pytest.mark.parametrize("name", TEXTS)
def test_every_cleaning_step_is_linear(name: str) -> None:
    for step in cleaning_steps(EVERYTHING):
        assert grows_as_its_length(step, TEXTS[name], 16_000), step


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from(FRAGMENTS),
        min_size=1,
        max_size=8,
    ),
)
def test_any_repetition_of_tags_is_linear(fragments: list[str]) -> None:
    assert grows_as_its_length(strip_html, numbered("".join(fragments)), 16_000)


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: next(iter(tokenizer)))
def test_tokenizers_fit_and_encode_in_linear_work(tokenizer: dict[str, Any]) -> None:
    known = PieceEncoder(fit_tokenizer(tokenizer, ORDINARY, len(ORDINARY)))
    for name, make in TEXTS.items():

        def cleaned(size: int, make: Callable[[int], str] = make) -> str:
            return " ".join(make(size).split())

        assert grows_as_its_length(lambda text: known.encode([text], 50), cleaned, 8_000), name
        assert grows_as_its_length(lambda text: fit_tokenizer(tokenizer, [*ORDINARY, text], 41), cleaned, 8_000), name


@pytest.mark.slow
@pytest.mark.parametrize("analyzer", ["word", "char"])
def test_the_baseline_is_linear(analyzer: str) -> None:
    for name, make in TEXTS.items():
        work = _vectorizer(analyzer).fit_transform
        assert grows_as_its_length(lambda text, work=work: work([*ORDINARY, text, text]), make, 8_000), name


@pytest.mark.parametrize("name", ["unclosed, all different", "reopened", "<div>", "attributes", "options"])
def test_memory_is_bounded_by_the_length(name: str) -> None:
    text = MARKUP[name](200_000)
    code = (
        "import sys\n"
        "from tests.memory import peak_bytes\n"
        "from automl.data.clean import strip_html\n"
        "strip_html('<p>x</p>')\n"
        "text = sys.stdin.read()\n"
        "before = peak_bytes()\n"
        "strip_html(text)\n"
        "print(peak_bytes() - before)\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, input=text, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 500 * len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<html><head><title>t</title></head><body><p>one<p>two</body></html>", "one two"),
        ("<table><tr><td>a<td>b<tr><td>c</table>d", "a b c d"),
        ("<b>1<div>2</b>3</div>4", "1 2 3 4"),
        ("x<!-- <p> -->y<br>z", "x y z"),
        ("<ul><li>a<li>b &amp; c</ul>", "a b & c"),
        ("&#00065;&#" + "0" * 200 + "66;&#" + "9" * 5000 + ";", "AB\ufffd"),
    ],
)
def test_ordinary_markup_gives_what_it_gave(text: str, expected: str) -> None:
    assert " ".join(strip_html(text).split()) == expected


def test_long_documents_whose_elements_are_closed_are_parsed() -> None:
    page = "<div><p>one <b>two</b><ul><li>three<li>four</ul><table><tr><td>5<td><font size=2>6</font></table></div><br>"
    assert parses_in_linear_work(page * 500)
    assert strip_html(page * 500).split() == ["one", "two", "three", "four", "5", "6"] * 500
    assert not parses_in_linear_work("<div>" * 1000)


def test_beyond_the_bounds_tags_scripts_and_comments_go() -> None:
    text = (
        "<div>" * 1000 + "kept<script>no()</script><!-- nor this --><style>p {}</style> &amp; kept<title>t</title> too"
    )
    assert list(clean_texts([text], EVERYTHING)) == ["kept & kept too"]


def test_marks_that_writing_has_are_kept() -> None:
    few, many = "z" + "\u0300" * 50, "z" + "\u0300" * 500
    assert fix_encoding(few * 10) == few * 10
    assert fix_encoding(many) == "z" + "\u0300" * 128


def test_a_text_beyond_the_bound_is_a_bad_row() -> None:
    import pyarrow as pa

    texts = ["short", "a" * (MOST_TEXT_BYTES + 1), "é" * (MOST_TEXT_BYTES // 2 + 1), "a" * MOST_TEXT_BYTES, None]
    _, unusable = TEXT.read(pa.array(texts), "")
    assert unusable[LONG_TEXT].tolist() == [False, True, True, False, False]
    assert [is_long(text) for text in texts if text is not None] == [False, True, True, False]
