"""What reaches a terminal: no control character, nothing hidden, no markup; and what reaches a spreadsheet."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.table import Table

from automl.space.printable import (
    PrintableStream,
    Text,
    cell,
    console,
    printable,
    printable_json,
    printable_lines,
    printable_log,
    printable_streams,
    say,
)
from automl.space.spreadsheet import spreadsheet_cell

HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")
HOSTILE = "[red]x[/red]\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e\u2066\u200b\u2028\x7f\udc80\u3164[link=file:///]y"
EVERY = "".join(map(chr, range(sys.maxunicode + 1)))


def hidden(text: str) -> set[str]:
    """The characters of a text that are no ink, spaces and line ends aside."""
    return {sign for sign in text if sign != "\n" and unicodedata.category(sign) in HIDDEN}


def test_every_character_that_is_controlled_or_hidden_is_escaped() -> None:
    assert hidden(printable(EVERY)) == set() and "\n" not in printable(EVERY)
    assert hidden(printable_lines(EVERY)) == set() and printable_lines("a\nb") == "a\nb"
    assert hidden(printable_log(EVERY)) == set()
    seen = [sign for sign in EVERY if unicodedata.category(sign)[0] in "LNPS" and printable(sign) != sign]
    assert len(seen) < 50  # letters without ink
    assert printable("Zoë 猫 ß €") == "Zoë 猫 ß €"
    assert printable("\x1b\u202e\n\ud800\U000e0041") == r"\x1b\u202e\n\ud800\U000e0041"


@given(st.text(st.characters(codec=None)))
@example(EVERY[:0x3000])
def test_json_says_the_same_without_hidden_characters(text: str) -> None:
    written = printable_json({text: [text, 1.5, None]})
    assert hidden(written) == set()
    assert json.loads(written) == {text: [text, 1.5, None]}


def test_a_log_keeps_its_lines_and_loses_its_colours() -> None:
    assert printable_log("\x1b[36m(pid=1)\x1b[0m 10%\r20%\r\n\tdone\x1b[2J") == "(pid=1) 10%\n20%\n    done\\x1b[2J"


def shown(renderable: object, *, terminal: bool) -> str:
    """What the console of the commands writes, 80 columns wide."""
    written = console()
    written.file, written._force_terminal, written.width = io.StringIO(), terminal, 80
    written.print(renderable)
    return written.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_tables_stay_in_line_whatever_is_in_their_cells(terminal: bool) -> None:
    table = Table(box=None)
    table.add_column("label")
    table.add_column("n", justify="right")
    for name in (HOSTILE, "猫", "plain", "two\nlines"):
        table.add_row(cell(name), "1")
        table.add_row(name.replace("\n", " "), "1")
        table.add_row(Text(name), "1")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown(table, terminal=terminal)).splitlines()
    assert {cell_len(line.rstrip()) for line in lines if line.rstrip().endswith("1")} == {cell_len(lines[0].rstrip())}
    assert hidden("\n".join(lines)) == set() and max(map(cell_len, lines)) <= 80
    text = "".join("".join(lines).split())
    assert text.count("[red]x[/red]") == 3


def test_rich_does_not_link_colour_or_replace_what_it_is_given() -> None:
    raw = Console(file=io.StringIO(), force_terminal=True).render_str("[link=file:///x][red]a[/red][/link]")
    for given_ in ("[red]x[/red] :smile: [link=http://x]y[/link]", raw, Text("[red]x[/red]")):
        written = shown(given_, terminal=True)
        assert "\x1b]8" not in written and "😄" not in written
    assert shown("[red]x[/red] :smile:", terminal=True) == "[red]x[/red] :smile:\n"


def test_what_is_printed_by_others_is_printable_too(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with printable_streams():
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        sys.stderr.writelines([HOSTILE])
        say(HOSTILE)
        console().print(HOSTILE)
        with Live("live", console=console(stderr=True)):
            print(HOSTILE)
    assert (sys.stdout, sys.stderr) == before
    assert all(hidden(each) == set() for each in capsys.readouterr())


def test_a_live_display_still_moves_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    shown_live = Live(Text("one\ntwo\x1b[2J"), console=console(stderr=True), auto_refresh=False)
    with printable_streams(), shown_live as live:
        live.refresh()
        print("\x1b]0;title\x07", file=sys.stderr)
    written = terminal.getvalue()
    assert "\x1b[1A" in written and "two\\x1b[2J" in written and "\x1b[2J" not in written and "\x1b]" not in written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3+cmd", "'-2+3+cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        (" =1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("\x00=1", "'\x00=1"),
        ("\x1bx", "'\x1bx"),
        ("\ufeff=1", "'\ufeff=1"),
        ("a\n\n =1", "a\n\n' =1"),
        ("a;=1", "a;'=1"),
        ("a\n=1", "a\n'=1"),
        ('"=1', "'\"=1"),
        *((same, same) for same in ("-0.5", "+1", "1e-4", "-1E+05", ".5", "", "a=b", "x - y", "mail@host", "[1, -2]")),
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_is_text(text: str, expected: str) -> None:
    assert spreadsheet_cell(text) == expected


def test_all_that_is_printed_goes_through_one_module() -> None:
    folder = Path(__file__).parents[2] / "automl"
    imported = re.compile(r"from rich\.(console|text|markup) import .*\b(Console|Text|escape)\b(?! as RichText)")
    raw = re.compile(r"file=sys\.std|sys\.std(out|err)\.write|print\(json\.")
    allowed = {"printable.py", "local.py"}  # local.py prints what its own user has set
    for path in folder.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if path.name not in allowed:
                assert not imported.search(line), f"{path}: {line}"
                if path.parent.name in ("automl", "cluster"):
                    assert not raw.search(line), f"{path}: {line}"


def test_a_reset_of_colours_alone_is_no_text() -> None:
    written = io.StringIO()
    stream = PrintableStream(written)
    assert stream.write("\x1b[0m") == 4 and written.getvalue() == ""
    stream.write("a\x1b[0m")
    assert written.getvalue() == "a\\x1b[0m"
