"""What a person sees while a command waits, on a terminal; and that nobody else sees anything."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import pytest

from automl.space import spinner
from automl.space.printable import console, printable_streams, say
from automl.space.spinner import CLEARED, spinning, waiting


class Terminal:
    """A terminal at stderr and stdout, and what has been written to it."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        os.set_blocking(self.master, False)
        self.stream: TextIO = os.fdopen(slave, "w", encoding="utf-8")
        self.text = ""

    def read(self) -> str:
        with suppress(BlockingIOError):
            self.text += os.read(self.master, 1 << 16).decode()
        return self.text

    def until(self, words: str) -> None:
        give_up = time.monotonic() + 20
        while words not in self.read():
            assert time.monotonic() < give_up, self.text
            time.sleep(0.01)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    there = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(spinner, "FIRST_SECONDS", 0.0)
    yield there
    there.stream.close()
    os.close(there.master)


@contextmanager
def command(terminal: Terminal, *arguments: str, stdout: TextIO | None = None) -> Iterator[None]:
    """What the command does around its work; pytest takes the streams back between its fixtures and a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal.stream)
        patch.setattr(sys, "stdout", stdout or terminal.stream)
        with printable_streams(), spinning(arguments):
            yield


def test_what_is_waited_for_is_named_and_gone_when_it_is_done(terminal: Terminal) -> None:
    with command(terminal, "check", "space.yaml"):
        with waiting("preparing the data"):
            terminal.until("preparing the data …")
            with waiting("asking \x1b[31mthe cluster"):
                terminal.until("asking \\x1b[31mthe cluster …")
        before = terminal.read()
        say("done")
        terminal.until("done\r\n")
    assert before.endswith(CLEARED) and terminal.text == before + "done\r\n"


def test_what_is_printed_meanwhile_has_lines_of_its_own(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with command(terminal, "compress", "run"), waiting("making the model smaller"):
        terminal.until("smaller …")
        monkeypatch.setattr(spinner, "FIRST_SECONDS", 1000.0)  # it does not come back within this test
        say("pruned 1 of 3")
        print("a table:", end="")
        console().print("a row")
        terminal.until("a row")
    assert terminal.text.endswith(f"…{CLEARED}pruned 1 of 3\r\na table:a row\r\n")


def test_a_line_that_has_not_ended_is_not_drawn_over(terminal: Terminal) -> None:
    with command(terminal, "predict", "run", "rows.csv"), waiting("labelling the rows"):
        print("half a ", end="", flush=True)
        time.sleep(3 * spinner.EVERY_SECONDS)
        print("line", flush=True)
        terminal.until("line")
    assert "half a line\r\n" in terminal.text


def test_ctrl_c_leaves_no_line_behind(terminal: Terminal) -> None:
    with pytest.raises(KeyboardInterrupt), command(terminal, "run", "space.yaml"), waiting("starting Ray"):
        terminal.until("starting Ray …")
        raise KeyboardInterrupt
    assert terminal.read().endswith(CLEARED) and "\x1b[?25l" not in terminal.text


@pytest.mark.parametrize("words", [["status", "x", "--json"], ["check", "x", "--format", "json"], ["run", "--quiet"]])
def test_who_reads_json_or_wants_no_progress_sees_none(terminal: Terminal, words: list[str]) -> None:
    with command(terminal, *words), waiting("asking the cluster"):
        time.sleep(3 * spinner.EVERY_SECONDS)
    assert terminal.read() == ""


def test_nothing_is_drawn_where_stdout_is_a_pipe(terminal: Terminal) -> None:
    read, write = os.pipe()
    pipe = os.fdopen(write, "w")
    with command(terminal, "leaderboard", "run", stdout=pipe), waiting("reading the run"):
        time.sleep(3 * spinner.EVERY_SECONDS)
    pipe.close()
    os.close(read)
    assert terminal.read() == ""


def test_functions_called_from_python_draw_nothing(terminal: Terminal) -> None:
    with waiting("preparing the data"):
        time.sleep(3 * spinner.EVERY_SECONDS)
    assert terminal.read() == ""
