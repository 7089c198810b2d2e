"""Rows of CSV as they stand in the file: which lines make a row, however long, and whose quotes are not closed.

A quote that opens a cell and is not closed makes the lines that follow part of that cell, up to the next quote or to
the end of the file. Cells of several lines are right where their quotes are doubled and closed.
"""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path

from automl.data.formats import LINE_BYTES, delimiter, open_text, table_format
from automl.space import UserError

OPEN_QUOTE, SWALLOWED = "a quote that is not closed", "lines that such a quote makes part of its cell"
LONG_ROW = f"a row of more than {LINE_BYTES >> 20} MiB"
START, FIELD, INSIDE, QUOTE = range(4)
"""Of a cell: before it; in one without quotes, or after its quotes; between them; after one of them, where a part of a
line ends, so that the next part says whether it is doubled."""
HEADER = -1  # the number of the header
MOST_LABELS = 10_000  # different ones that are remembered; where there are more, a line's label says nothing
MOST_CANDIDATES = 1_000
FAR_ABOVE = 20  # times as many line breaks as the file's cells of several lines have
MANY_BREAKS = 50  # fewer are a long text


@dataclass(frozen=True)
class RawRow:
    """A row: the number (from 1) of its first line, its lines (none where it is too long), and of how many it is."""

    line: int
    lines: list[str]
    count: int
    too_long: bool
    quote: int | None
    """The line where a quote opens that is not closed before the end of the file, or closed amid other text."""
    opens: int
    """The line where the last quote opens that is carried over a line end; 0 where none is."""

    @property
    def swallowed(self) -> int:
        """The lines after that with the open quote."""
        return 0 if self.quote is None else self.line + self.count - 1 - self.quote


@dataclass
class CsvFaults:
    """What is wrong with the quotes and the lengths of a file's rows, by their numbers (from 0, the header -1)."""

    quotes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """The line where a quote opens that is not closed, and how many lines it makes part of its cell."""
    long: dict[int, int] = field(default_factory=dict)
    """The first line of a row that is too long."""
    warning: str | None = None
    """About a cell of far more lines than the others."""


def rows_of(file: TextIOWrapper, separator: str, most: int = LINE_BYTES) -> Iterator[RawRow]:
    """The rows of a file that was opened with `newline=""`, empty lines left out; a longer one than `most` has none.

    Memory does not grow with a row.
    """
    number = 0  # of lines that have ended
    while True:
        begun, lines, size, state = number + 1, list[str](), 0, START
        opens, carried, quote = 0, 0, None
        while chunk := file.readline(most):
            before = state
            state, amid, closes = _scan(chunk, separator, state)
            if amid and carried:
                quote = quote or carried
            if state in (INSIDE, QUOTE) and (before not in (INSIDE, QUOTE) or closes):
                opens = number + 1
            size += len(chunk)
            if size <= most:
                lines.append(chunk)
            else:
                lines.clear()
            if chunk[-1] in "\r\n":
                number += 1
                if state != INSIDE:
                    break
                carried = opens
        if not size:
            return
        if state == INSIDE:  # the file ends
            quote = quote or opens
        count = number + 1 - begun + (chunk[-1:] not in ("", "\r", "\n"))
        if size > most or any(line.strip("\r\n") for line in lines):
            yield RawRow(begun, lines, max(1, count), size > most, quote, carried)


def _scan(line: str, separator: str, state: int) -> tuple[int, bool, bool]:
    """The state after a line, or a part of one; whether a quote carried into it closes amid text; whether it closes."""
    place, amid, closes, carried = 0, False, False, state in (INSIDE, QUOTE)
    if state == QUOTE:
        state, place = (INSIDE, 1) if line.startswith('"') else (INSIDE, -1)
    while True:
        if state == START and line.startswith('"', place):
            state, place = INSIDE, place + 1
        if state == INSIDE:
            if place >= 0:
                place = line.find('"', place)
                if place < 0:
                    return INSIDE, amid, closes
                if place + 1 == len(line):
                    return QUOTE, amid, closes
                if line[place + 1] == '"':
                    place += 2
                    continue
            state, place = FIELD, place + 1
            if carried:
                after = line[place : place + 80].lstrip(" ")[:1]
                amid, closes, carried = after not in ("", separator, "\r", "\n"), True, False
        place = line.find(separator, place)
        if place < 0:
            ended = line[-1:] in ("\r", "\n")
            return START if ended else FIELD, amid, closes
        state, place = START, place + 1


def look_at_csv(path: Path, label: str | None = None) -> CsvFaults:
    """The faults of a CSV file's quotes, and its rows that are too long.

    A quote is not closed where the file ends first, where it closes amid other text, or where the lines in its cell
    are rows by themselves: with as many cells as the header, and a label that other rows have. None in other files.
    """
    faults = CsvFaults()
    if table_format(path) not in ("csv", "tsv") or not has_quotes_or_long_lines(path):
        return faults
    csv.field_size_limit(2 * LINE_BYTES)
    separator = delimiter(path)
    labels: Counter[str] = Counter()
    breaks: list[tuple[int, int]] = []
    candidates: list[tuple[int, RawRow]] = []
    columns, place = 0, None
    with decoded(path) as file:
        for number, row in enumerate(rows_of(file, separator), start=HEADER):
            if number < 0:
                names = [] if row.too_long else next(csv.reader(row.lines, delimiter=separator))
                columns, place = len(names), names.index(label) if label in names else None
            if row.quote is not None:
                faults.quotes[number] = (row.quote, row.swallowed)
            if row.too_long:
                faults.long[number] = row.line
            elif row.count > 1 and row.quote is None:
                breaks.append((row.count - 1, row.line))
                if place is not None and columns > 1 and len(row.lines) > 2 and len(candidates) < MOST_CANDIDATES:
                    candidates.append((number, row))
            elif place is not None and number >= 0 and row.quote is None and len(labels) <= MOST_LABELS:
                cells = next(csv.reader(row.lines, delimiter=separator))
                if len(cells) == columns:
                    labels[cells[place]] += 1
    if place is not None and 0 < len(labels) <= MOST_LABELS:
        for number, row in candidates:
            inner = list(csv.reader((line.replace('"', "") for line in row.lines[1:-1]), delimiter=separator))
            alike = sum(len(cells) == columns and cells[place] in labels for cells in inner)
            if alike and 2 * alike >= len(inner):
                faults.quotes[number] = (row.opens, row.line + row.count - 1 - row.opens)
    faults.warning = _far_above(path, [each for each in breaks if each[1] not in _lines(faults)])
    return faults


def sentences(path: Path, faults: CsvFaults) -> list[str]:
    """What is wrong with a file, in the order of its rows."""
    found = []
    for line, swallowed in faults.quotes.values():
        lines = f"{swallowed:,} line{'' if swallowed == 1 else 's'} after it {'is' if swallowed == 1 else 'are'}"
        found.append(f"{path}: the quote that opens in line {line} is not closed: {lines} part of its cell")
    found += [f"{path}: {LONG_ROW} begins in line {line}" for line in faults.long.values()]
    return found + ([faults.warning] if faults.warning else [])


def require_closed_quotes(path: Path, faults: CsvFaults, advice: str = "") -> None:
    """Raise UserError where a file has a quote that is not closed, or a row that is too long."""
    if faults.quotes or faults.long:
        raise UserError(f"cannot read {sentences(path, faults)[0]}{advice}")


def decoded(path: Path) -> TextIOWrapper:
    """The text of a CSV file; bytes that are no UTF-8 are carried along (PEP 383)."""
    return TextIOWrapper(open_text(path), encoding="utf-8-sig", errors="surrogateescape", newline="")


def _lines(faults: CsvFaults) -> set[int]:
    return {line for line, _ in faults.quotes.values()}


def _far_above(path: Path, breaks: list[tuple[int, int]]) -> str | None:
    """A sentence about the cell of most line breaks, where that are far more than the others have."""
    if not breaks:
        return None
    (most, line), others = max(breaks), sorted(breaks)[:-1]
    usual = statistics.median(count for count, _ in others) if others else 0
    if most <= max(MANY_BREAKS, FAR_ABOVE * usual):
        return None
    return (
        f"{path}: the row that begins in line {line} has {most:,} line breaks in its cells, other rows of several "
        f"lines have {usual:g} or so: is a quote not closed?"
    )


def has_quotes_or_long_lines(path: Path) -> bool:
    """Whether a file has quotes, or a line that is longer than a row may be."""
    run = 0
    with open_text(path) as file:
        while block := file.read(1 << 20):
            if b'"' in block:
                return True
            first = block.find(b"\n")
            if first < 0:
                run += len(block)
            elif run + first > LINE_BYTES:
                return True
            else:
                run = len(block) - 1 - block.rfind(b"\n")
            if run > LINE_BYTES:
                return True
    return False
