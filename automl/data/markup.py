"""Whether HTML can be parsed in work that grows as its length, and its text without parsing where it cannot.

An HTML parser that repairs markup as browsers do copies unclosed tags such as `<b a=1>` into every paragraph after
them, and looks through all open elements at many a tag: n bytes made for it cost n² (HTML standard, 13.2.4.3 and
13.2.6.4.7). So tags are followed first, with closings believed only where the standard says that they close.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

FEW_TAGS, FEW_CHARACTERS = 256, 16_384  # no worse than 10 ms, whatever they are
MOST_OPEN = 256  # elements within each other
MOST_ATTRIBUTES = 256  # of a tag
MOST_OPTIONS = 1000  # of all lists together; the parser looks at all of them at each
MOST_ROOTS = 16  # <html> and <body>, whose attributes are collected
COPIED = 16  # characters of unclosed tags copied per character of the text, at most

_SPACE = r"[\t\n\f\r ]"
_VALUE = r"""(?:"[^"]*+"?|'[^']*+'?|[^\t\n\f\r >"'][^\t\n\f\r >]*+)"""
_ATTRIBUTE = rf"[^\t\n\f\r />][^\t\n\f\r />=]*+(?:{_SPACE}*+=(?:{_SPACE}*+{_VALUE})?)?"
_TOKEN = re.compile(
    rf"<(?:!--(?:-?>|.*?(?:--!?>|\Z))|[!?][^>]*+>?|/(?![a-zA-Z])[^>]*+>?"
    rf"|(?P<close>/?)(?P<name>[a-zA-Z][^\t\n\f\r />]*+)(?P<attributes>(?:[\t\n\f\r /]++|{_ATTRIBUTE})*+)>?)",
    re.DOTALL,
)
_ATTRIBUTES = re.compile(_ATTRIBUTE)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VOID = _names(
    "area base basefont bgsound br col embed frame hr image img input keygen link meta param source track wbr"
)
_RAW = _names("iframe noembed noframes plaintext script style textarea title xmp")
_MARKED_UP = frozenset(("head", "noscript", "template"))
_DROPPED = _MARKED_UP | {"script", "style", "title"}  # with what is in them
_FORMATTING = _names("a b big code em font i nobr s small strike strong tt u")
_HEADINGS = _names("h1 h2 h3 h4 h5 h6")
_MARKERS = _names("applet caption marquee object td template th")
_FOREIGN = frozenset(("math", "svg"))
_TABLE_PARTS = _names("caption colgroup tbody td tfoot th thead tr")
_CLOSES_PARAGRAPH = _HEADINGS | _names(
    "address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer form "
    "header hgroup li listing main menu nav ol p plaintext pre search section summary ul xmp"
)
_SPECIAL = (
    _CLOSES_PARAGRAPH
    | _TABLE_PARTS
    | _MARKERS
    | _RAW
    | _FOREIGN
    | _names("annotation-xml body button desc foreignobject frameset head html mi mn mo ms mtext noscript select table")
)
_PASSED = frozenset(("dd", "dt", "li", "p"))  # special, and closed with what they are in
# What a start tag closes first, if nothing but inline elements, and `_PASSED` ones for lists, is open within that.
_CLOSES = {"li": {"li"}, "dd": {"dd", "dt"}, "dt": {"dd", "dt"}}
_CELL = frozenset(("caption", "colgroup", "td", "th"))
_CLOSES_PART = {
    "caption": _TABLE_PARTS,
    "colgroup": _TABLE_PARTS,
    "tbody": _TABLE_PARTS,
    "tfoot": _TABLE_PARTS,
    "thead": _TABLE_PARTS,
    "tr": _CELL | {"tr"},
    "td": _CELL,
    "th": _CELL,
}


@dataclass
class _Open:
    """What is open at a place of a text, or more than that: names of elements, the tag each began with."""

    elements: list[tuple[str, str]] = field(default_factory=list)
    left: list[Counter[tuple[str, str]]] = field(default_factory=lambda: [Counter()])
    """Formatting elements that ended without a closing tag: by cell, for they begin again at the next text there."""
    left_characters: list[int] = field(default_factory=lambda: [0])

    def within(self, names: frozenset[str]) -> bool:
        return any(name in names for name, _ in self.elements)

    def find(self, names: frozenset[str] | set[str], passed: frozenset[str]) -> int | None:
        """The place of the innermost of `names` within which only inline elements and `passed` ones are open."""
        for place in range(len(self.elements) - 1, -1, -1):
            name = self.elements[place][0]
            if name in names:
                return place
            if name in _SPECIAL and name not in passed:
                return None
        return None

    def cut(self, place: int) -> None:
        """Close the elements from `place` on."""
        while len(self.elements) > place:
            name, tag = self.elements.pop()
            if name in _MARKERS and len(self.left) > 1:
                self.left.pop()
                self.left_characters.pop()
            elif name in _FORMATTING and self.left[-1][name, tag] < 3:  # of equal ones the parser keeps three
                self.left[-1][name, tag] += 1
                self.left_characters[-1] += len(tag) + 32

    def push(self, name: str, tag: str) -> None:
        self.elements.append((name, tag))
        if name in _MARKERS:
            self.left.append(Counter())
            self.left_characters.append(0)

    def end_formatting(self, name: str) -> None:
        place = self.find({name}, _PASSED)
        if place is not None:
            del self.elements[place]
            return
        innermost = next((each for each, _ in reversed(self.elements) if each in _TABLE_PARTS or each == "table"), "")
        if innermost not in ("", "td", "th", "caption"):
            return
        known = next((key for key in reversed(self.left[-1]) if key[0] == name), None)
        if known is not None:
            self.left[-1][known] -= 1
            self.left_characters[-1] -= len(known[1]) + 32
            if not self.left[-1][known]:
                del self.left[-1][known]


def parses_in_linear_work(text: str) -> bool:
    """Whether an HTML parser needs no more time and memory for `text` than grows as its length."""
    if len(text) <= FEW_CHARACTERS and text.count("<") <= FEW_TAGS:
        return True
    lower = text.lower()
    with_foreign = "<svg" in lower or "<math" in lower
    if with_foreign and "<![CDATA[" in text:
        return False  # what is in it is text or markup, which depends on the parser's state
    now = _Open()
    copied, options, roots, position = 0, 0, 0, 0
    most_copied = COPIED * len(text) + FEW_TAGS * FEW_CHARACTERS
    while token := _TOKEN.search(text, position):
        position = token.end()
        name = token["name"]
        if name is None:
            continue
        name = name.lower()
        foreign = with_foreign and now.within(_FOREIGN)
        if token["close"]:
            _end(now, name)
        else:
            options += name in ("option", "optgroup")
            roots += name in ("html", "body")
            if _attributes(token["attributes"]) > MOST_ATTRIBUTES or options > MOST_OPTIONS or roots > MOST_ROOTS:
                return False
            raw = name in _RAW and not foreign
            if raw:
                start, position = position, _end_of_raw(text, name, position)
                if name == "script" and "<!--" in (inside := text[start:position]) and "<script" in inside.lower():
                    return False  # such a script may end later
            if not raw:
                _begin(now, name, token[0].lower(), foreign)
        copied += now.left_characters[-1]
        if len(now.elements) + 3 * len(now.left[-1]) > MOST_OPEN or copied > most_copied:
            return False
    return True


def _begin(now: _Open, name: str, tag: str, foreign: bool) -> None:
    if name in ("html", "head", "body"):
        return
    if foreign:
        if not tag.endswith("/>"):
            now.push(name, tag)
        return
    if name == "option" and now.elements and now.elements[-1][0] == "option":
        now.elements.pop()
    if name in _TABLE_PARTS:
        table = _table(now)
        if table is None:
            return  # the parser takes no notice of it
        inside = now.elements[table + 1 :]
        first = next((place for place, (each, _) in enumerate(inside) if each in _CLOSES_PART[name]), None)
        if first is not None:
            now.cut(table + 1 + first)
    if name == "table" and now.elements and now.elements[-1][0] in ("table", "tbody", "thead", "tfoot", "tr"):
        table = _table(now)
        if table is not None:
            now.cut(table)
    if name in _CLOSES and (place := now.find(_CLOSES[name], frozenset(("p",)))) is not None:
        now.cut(place)
    if name in _CLOSES_PARAGRAPH and (place := now.find({"p"}, frozenset())) is not None:
        now.cut(place)
    if name in _HEADINGS and now.elements and now.elements[-1][0] in _HEADINGS:
        now.cut(len(now.elements) - 1)
    if name in ("a", "nobr"):
        now.end_formatting(name)
    if name not in _VOID:
        now.push(name, tag)


def _end(now: _Open, name: str) -> None:
    if name in _FORMATTING:
        now.end_formatting(name)
    elif name == "form":
        place = now.find({"form"}, _PASSED)
        if place is not None:
            del now.elements[place]  # the parser leaves open what is within
    elif name == "table" or name in _TABLE_PARTS:
        table = _table(now)
        if table is not None:
            place = next((at for at in range(table, len(now.elements)) if now.elements[at][0] == name), None)
            if place is not None:
                now.cut(place)
    else:
        names = _HEADINGS if name in _HEADINGS else {name}
        place = now.find(names, _PASSED if name in _SPECIAL else frozenset())
        if place is not None:
            now.cut(place)


def _table(now: _Open) -> int | None:
    """The place of the table that is open, of which a tag of a row, a cell or a table speaks."""
    for place in range(len(now.elements) - 1, -1, -1):
        name = now.elements[place][0]
        if name == "table":
            return place
        if name in ("select", "template") or name in _FOREIGN:
            return None
    return None


def _attributes(text: str) -> int:
    return 0 if len(text) <= MOST_ATTRIBUTES else sum(1 for _ in _ATTRIBUTES.finditer(text))


def _end_of_raw(text: str, name: str, start: int) -> int:
    """Where the content ends of an element that holds no markup."""
    if name == "plaintext":
        return len(text)
    end = _END_OF_RAW[name].search(text, start)
    return end.start() if end else len(text)


_END_OF_RAW = {
    name: re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE) for name in (_RAW | _DROPPED) - {"plaintext"}
}


def without_markup(text: str) -> str:
    """Text with a blank for each tag, without comments, scripts and styles; in one pass, entities as they are."""
    parts, position = [], 0
    endless: set[str] = set()  # elements that nothing ends from here on: looked for once
    while token := _TOKEN.search(text, position):
        parts.append(text[position : token.start()])
        position = token.end()
        name = (token["name"] or "").lower()
        if token["close"] or name in endless or not (name in _DROPPED or name in _RAW):
            continue
        end = _end_of_raw(text, name, position)
        if name in _MARKED_UP and end == len(text):
            endless.add(name)
            continue
        if name not in _DROPPED:
            parts.append(text[position:end])
        position = end
    parts.append(text[position:])
    return " ".join(parts)
