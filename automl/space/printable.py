"""Words that strangers wrote, as a terminal may see them: no control character, nothing hidden, no markup.

A label, a column's name, an error of a user's code or a line of a cluster's log may hold sequences that a terminal
obeys, or characters that hide or reorder what is read. Everything that a command prints goes through this module.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.style import StyleType
from rich.text import Text as RichText

# Controls, formats (bidirectional, zero-width, tags), line and paragraph separators, lone surrogates, and letters that
# have no ink: the categories Cc, Cf, Zl, Zp and Cs of Unicode, and what it calls ignorable by default.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000110bd"
    "\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ALL = re.compile(f"[{_HIDDEN}]")
_NOT_LINES = re.compile(f"(?!\n)[{_HIDDEN}]")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
RESET = "\x1b[0m"
MOST_WIDTH = 100_000  # characters of a line
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object) -> str:
    """`text` in one line: what a terminal would obey or not show is written as an escape such as `\\x1b`."""
    return _ALL.sub(_escaped, str(text))


def printable_lines(text: object) -> str:
    """The same of a text whose lines are its own: line ends stay."""
    return _NOT_LINES.sub(_escaped, str(text))


def printable_log(text: str) -> str:
    """A piece of a log that another program wrote: its colours are left out, its line ends stay, tabs become spaces."""
    plain = _COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    return printable_lines(plain)


def printable_json(content: Any, *, allow_nan: bool = True) -> str:
    """`content` as indented JSON that says the same to a program, with hidden characters as JSON's own escapes."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=allow_nan)
    return _NOT_LINES.sub(lambda found: json.dumps(found.group())[1:-1], text)


def _escaped(found: re.Match[str]) -> str:
    sign = found.group()
    code = ord(sign)
    return _SHORT.get(sign) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


class Text(RichText):
    """rich's text without markup, made of printable characters, so that a table knows how wide it is."""

    def __init__(self, text: str = "", *arguments: Any, **options: Any) -> None:
        super().__init__(printable_lines(text), *arguments, **options)

    def append(self, text: RichText | str, style: StyleType | None = None) -> Text:
        """Add words at the end."""
        super().append(printable_lines(text) if isinstance(text, str) else text, style)
        return self


def cell(text: object) -> Text:
    """A stranger's words as they stand in a table's cell: in one line."""
    return Text(printable(text))


_heard: list[Callable[[str], None]] = []  # who is told of a text before it is written


@contextmanager
def hear_output(hear: Callable[[str], None]) -> Iterator[None]:
    """For the time of the block, tell `hear` what is to be printed, before it is; of what rich prints, a line end."""
    _heard.append(hear)
    try:
        yield
    finally:
        _heard.remove(hear)


def _tell(text: str) -> None:
    for hear in _heard if text else ():
        hear(text)


class _PrintableConsole(Console):
    """Reads no markup in plain strings, and lets nothing through that is neither printable nor rich's own style."""

    @property
    def file(self) -> IO[str]:
        """Where it writes: the stream itself, also while `printable_streams` stand before it."""
        found = super().file
        return found.rich_proxied_file if isinstance(found, PrintableStream) else found

    @file.setter
    def file(self, file: IO[str]) -> None:
        self._file = file

    def print(self, *objects: Any, **options: Any) -> None:
        _tell("\n")
        super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> RichText:
        return super().render_str(printable_lines(text), **{**options, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            style = segment.style.update_link(None) if segment.style and segment.style.link else segment.style
            yield segment if segment.control else Segment(printable_lines(segment.text), style)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """The console of every command, for stdout or stderr; as wide as the terminal, or `width` characters."""
    return _PrintableConsole(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def needed_width(table: RenderableType) -> int:
    """How many characters the longest line of `table` has where nothing wraps."""
    wide = console(width=MOST_WIDTH)
    return max(1, wide.measure(table).maximum)


def print_table(shown: Group, here: Console, *, wide: bool) -> None:
    """Print a table and the notes below it on `here`; a `wide` table in lines as long as they need."""
    table, *notes = shown.renderables
    (console(width=needed_width(table)) if wide else here).print(table)
    here.print(Group(*notes))


def say(line: object) -> None:
    """Tell the user something in lines of its own on stderr, where progress and complaints go."""
    print(printable_lines(line), file=sys.stderr, flush=True)


class PrintableStream:
    """A text stream that writes only what is printable; all else is the stream's own, its bytes too.

    What `console` writes has been looked at already: rich finds the stream itself as `rich_proxied_file`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write `text` with escapes; gives its length. Raises TypeError for bytes, by which text streams are known."""
        if not isinstance(text, str):
            raise TypeError(f"expected text, got {type(text).__name__}")
        if text == RESET:  # colorama's farewell, which Ray loads: after the block, to the stream that it has found here
            return len(text)
        _tell(text)
        self.rich_proxied_file.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def __iter__(self) -> Iterator[str]:
        return iter(self.rich_proxied_file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """For the time of the block, whatever else is printed is printable too: a library's warning, a traceback."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (PrintableStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
