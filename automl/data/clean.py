"""Texts cleaned step by step, in one order: encoding, HTML, URLs, user names, numbers, case, white space."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any

import ftfy
from selectolax.lexbor import LexborHTMLParser

from automl.data.markup import parses_in_linear_work, without_markup

_TAG = re.compile(r"<[/!]?[a-zA-Z][^<>]*>")
_LINK_IN_BRACKETS = re.compile(r"<((?:https?://|www\.)[^<>\s]+|[^<>\s@]+@[^<>\s@]+)>", re.IGNORECASE)
# ASCII only, so that Chinese text may follow at once; not the punctuation after it.
_URL = re.compile(r"(?:https?://|www\.)[!#-;=?-~]*[\w/#=&~-]", re.IGNORECASE | re.ASCII)
_USER = re.compile(r"(?<![\w@])@\w+")
_NUMBER = re.compile(r"(?<![\w<])[+-]?\d+(?:[.,:]\d+)*%?(?!\w)")
_LONG_NUMBER = re.compile(r"&#(?=[0-9]{100})0*+([0-9]*+);?")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")

# Marks on one character are put in order in work that grows as the square of their number; writing has up to ten.
LONGEST_MARKS = 128

Step = Callable[[str], str]


def clean_texts(texts: Iterable[str], clean: Mapping[str, Any]) -> Iterator[str]:
    """Clean each text as the `clean` section of a configuration says."""
    steps = cleaning_steps(clean)
    for text in texts:
        for step in steps:
            text = step(text)
        yield text


def cleaning_steps(clean: Mapping[str, Any]) -> list[Step]:
    """The steps of a `clean` section in the order in which they apply."""
    steps: list[Step] = []
    if clean["fix_encoding"]:
        steps.append(fix_encoding)
    if clean["strip_html"]:
        steps.append(strip_html)
    for name, pattern, hints, mark in (
        ("urls", _URL, ("://", "www."), " <url> "),
        ("user_names", _USER, ("@",), " <user> "),
        ("numbers", _NUMBER, (), " <number> "),
    ):
        if clean[name] != "keep":
            steps.append(_replacing(pattern, hints, mark if clean[name] == "replace" else " "))
    if clean["lowercase"]:
        steps.append(str.lower)
    steps.append(normalise_space)
    return steps


def fix_encoding(text: str) -> str:
    """Mend text that was decoded with the wrong encoding, once or several times (ftfy)."""
    if text.isascii() and not _CONTROL.search(text):
        return text
    if len(text) > LONGEST_MARKS and not _marks().isdisjoint(text[::LONGEST_MARKS]):  # any longer run has one of these
        text = _long_marks().sub(r"\1", text)
    return str(ftfy.fix_text(text, unescape_html=False))


@cache
def _marks() -> frozenset[str]:
    """Characters that are no more than marks on the one before, or become such ones; none lies behind plane 1."""
    characters = (chr(code) for code in chain(range(0xD800), range(0xE000, 0x20000)))
    return frozenset(each for each in characters if unicodedata.combining(unicodedata.normalize("NFKD", each)[0]))


@cache
def _long_marks() -> re.Pattern[str]:
    one = f"[{re.escape(''.join(sorted(_marks())))}]"
    return re.compile(f"({one}{{{LONGEST_MARKS}}}){one}+")


def strip_html(text: str) -> str:
    """Text without tags, comments, scripts and styles, with entities resolved.

    `a < b`, `<3` and addresses in angle brackets are no tags.
    """
    if "<" in text:
        text = _LINK_IN_BRACKETS.sub(r" \1 ", text)
    if "<" in text and (_TAG.search(text) or ("<!--" in text and "-->" in text)):
        if parses_in_linear_work(text):
            tree = LexborHTMLParser(text)
            tree.strip_tags(["script", "style", "head", "noscript", "template"], recursive=True)
            body = tree.body
            return body.text(separator=" ") if body is not None else ""
        text = without_markup(text)
    return html.unescape(_LONG_NUMBER.sub(_short_number, text)) if "&" in text else text


def _short_number(found: re.Match[str]) -> str:
    """A reference to the same character; Python reads no number of more than 4,300 digits."""
    digits = found[1]
    return f"&#{digits or 0};" if len(digits) < 8 else "\ufffd"


def normalise_space(text: str) -> str:
    """One blank for every run of white space, none at the ends."""
    return " ".join(text.split())


def _replacing(pattern: re.Pattern[str], hints: tuple[str, ...], replacement: str) -> Step:
    """Replace what matches; texts without any of `hints`, in lower case, have no match and are not searched."""

    def replace(text: str) -> str:
        if hints:
            lower = text.lower()
            if not any(hint in lower for hint in hints):
                return text
        return pattern.sub(replacement, text)

    return replace
