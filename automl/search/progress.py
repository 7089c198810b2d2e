"""What a person sees while a search runs: a live panel on a terminal, else a plain line every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.live import Live
from rich.table import Table

from automl.search.standing import Progress
from automl.search.waiting import NOWHERE, Places
from automl.space.durations import duration_text
from automl.space.printable import Text, console

PLAIN_SECONDS = 5.0


@dataclass(frozen=True)
class Status:
    """One look at a running search; `floor` is the linear baseline's validation score once it is known."""

    progress: Progress
    metric: str
    seconds: float
    time_budget: float | None
    floor: float | None
    message: str = ""
    places: Places = NOWHERE
    news: Sequence[str] = ()
    """What has happened since the beginning that is worth a line of its own, in sentences."""


def plain_line(status: Status) -> str:
    """Everything in one line, for logs."""
    progress = status.progress
    parts = [
        f"{duration_text(status.seconds)}{_of_time(status)}",
        f"{progress.finished}/{progress.budget} trials",
        f"{_running(status)}, {progress.completed} completed, {progress.stopped} stopped, "
        f"{progress.failed} failed"
        + (f", {progress.paused} paused" if progress.paused else "")
        + (f", {progress.infeasible} infeasible" if progress.infeasible else ""),
        _best(status),
    ]
    if status.floor is not None:
        parts.append(f"linear floor {status.floor:.4f}")
    if status.message:
        parts.append(status.message)
    return " | ".join(parts)


def panel(status: Status) -> Table:
    """The same as a small table of labelled lines that fits 80 columns."""
    progress = status.progress
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    done = (progress.finished + progress.paused) / progress.budget
    if status.time_budget:
        done = max(done, min(1.0, status.seconds / status.time_budget))
    filled = round(30 * done)
    table.add_row("budget", Text("━" * filled, "green") + Text("━" * (30 - filled), "dim") + Text(f" {done:.0%}"))
    table.add_row("trials", f"{progress.finished} of {progress.budget} finished, {_running(status)}")
    table.add_row("", f"{progress.completed} completed, {progress.stopped} stopped early, {progress.failed} failed")
    if progress.infeasible:
        table.add_row("", f"{progress.infeasible} more proposals did not meet the constraints")
    table.add_row("time", f"{duration_text(status.seconds)}{_of_time(status)}")
    table.add_row("best", Text(_best(status)))
    floor = "being trained" if status.floor is None else f"{status.floor:.4f} {status.metric}"
    table.add_row("linear floor", Text(floor))
    if status.message:
        table.add_row("", Text(status.message))
    if status.news:
        table.add_row("news", Text(status.news[-1]))
    return table


def _running(status: Status) -> str:
    """`1 running, 2 waiting`: of trials that have been given out, only those are running that have a place."""
    starting, waiting = status.places.starting, status.places.waiting
    running = max(0, status.progress.running - starting - waiting)
    others = {"starting": starting, "waiting": waiting}
    return ", ".join([f"{running} running", *(f"{count} {name}" for name, count in others.items() if count)])


def _of_time(status: Status) -> str:
    if not status.time_budget:
        return ""
    return (
        f" of {duration_text(status.time_budget)} ({duration_text(max(0.0, status.time_budget - status.seconds))} left)"
    )


def _best(status: Status) -> str:
    progress = status.progress
    if progress.best is None:
        return "no finished trial yet"
    return f"{status.metric} {progress.best:.4f} (trial {progress.best_number}, {progress.best_family})"


@contextmanager
def show(look: Callable[[], Status], *, quiet: bool = False) -> Iterator[None]:
    """Show what `look` sees on stderr for the time of the block, from a thread of its own."""
    if quiet:
        yield
        return
    terminal = console(stderr=True)
    over = threading.Event()
    if terminal.is_terminal:
        with Live(console=terminal, refresh_per_second=4, get_renderable=lambda: panel(look())):
            yield
        return

    told = 0

    def line() -> None:
        nonlocal told
        status = look()
        for sentence in status.news[told:]:
            terminal.print(Text(sentence), soft_wrap=True)
        told = len(status.news)
        terminal.print(plain_line(status), soft_wrap=True)

    def lines() -> None:
        while not over.wait(PLAIN_SECONDS):
            try:
                line()
            except Exception as error:  # the next line may do
                terminal.print(f"progress cannot be shown: {type(error).__name__}", markup=False)

    thread = threading.Thread(target=lines, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        line()
