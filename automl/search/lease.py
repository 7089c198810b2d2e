"""The lease of a run in a store: of all processes on all machines one drives the run, and it knows when it does not.

A lease is a file `driver/<epoch>.json` with the random id of its owner. Whoever takes a run over makes the file of the
next epoch, which only one can where the store makes a file only if there is none. Elsewhere a process writes it,
waits until others who saw none have written too, and has the lease if the file still is its own: the last one's is.
The owner says every few seconds that it lives. The file of a later epoch, or another owner's, ends its lease; so does
time, for the owner before others: it can then be sure of nothing. (Leases and fencing: Gray and Cheriton, 1989.)
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from automl.space import UserError
from automl.space.urls import redacted

FOLDER = "driver"
BEFORE = "driver.json"  # the lease of earlier versions
LEASE_SECONDS = 60.0  # after so long without a sign of life a driver is taken for dead
MARGIN_SECONDS = 15.0  # by which an owner gives up before others take over
HEARTBEAT_SECONDS = 10.0
SETTLE_SECONDS = 4.0  # for others to write who have seen no lease; each has half of it to do so
ATTEMPTS = 10
NEVER = 0.0  # the last sign of life of an owner that has left: epochs only grow, whatever a late write brings back
MOST_BYTES = 10_000


class BeingDrivenError(UserError):
    """Another process drives the run."""


class LeaseLostError(UserError):
    """This process does not drive the run any more."""


class LeaseStore(Protocol):
    """What a lease needs of the run's folder in a store (`automl.data.store.Store`); any method may raise OSError."""

    @property
    def url(self) -> str:
        """The folder."""

    def names(self, under: str = "") -> list[str]:
        """All files in a folder."""

    def content(self, name: str, most: int) -> bytes | None:
        """At most so many bytes of a file; None where there is none."""

    def write(self, content: bytes, name: str) -> None:
        """Write a file, whoever's it is."""

    def create(self, content: bytes, name: str) -> bool | None:
        """Write a file if there is none; whether it was written, None where the store cannot do that."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


class Clock(Protocol):
    """Seconds of this machine, also those in which it sleeps, and of all."""

    def elapsed(self) -> float:
        """Since any moment."""

    def now(self) -> float:
        """Unix time."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class RealClock:
    """The clock of the machine."""

    def elapsed(self) -> float:
        """Seconds since any moment."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()

    def now(self) -> float:
        """Unix time."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class _Record(BaseModel):
    """What a lease says; `process` tells the owner's process from others on its machine, where that can be told."""

    model_config = ConfigDict(frozen=True)

    owner: str = Field(default="", max_length=100)
    host: str = Field(max_length=300)
    pid: int = Field(ge=1, lt=2**31)
    time: float
    process: str = Field(default="", max_length=300)

    def is_alive(self, now: float) -> bool:
        """Whether its owner may still drive; never long after its last sign of life, on whichever machine."""
        return abs(now - self.time) < LEASE_SECONDS and not process_is_gone(self.process, self.pid)


class Lease:
    """The lease of this process, from `take` until it is lost or released; may be asked from several threads."""

    def __init__(self, store: LeaseStore, epoch: int, owner: str, confirmed: float, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self.epoch, self.owner = epoch, owner
        self._confirmed = confirmed
        self._lost = ""
        self.on_loss: Callable[[str], object] = lambda reason: None

    def lost(self) -> str:
        """Why this process does not drive the run any more, in a sentence; "" while it does. Asks nobody."""
        if not self._lost and self._clock.elapsed() - self._confirmed >= LEASE_SECONDS - MARGIN_SECONDS:
            self._lose(
                f"this process does not drive {redacted(self._store.url)} any more: the store has not answered for "
                f"{LEASE_SECONDS - MARGIN_SECONDS:.0f} seconds, and another process may have taken over; "
                "automl resume goes on once it answers"
            )
        return self._lost

    def require(self) -> None:
        """Raise LeaseLostError where this process does not drive the run any more, as far as the store knows.

        Raises OSError where the store does not answer.
        """
        self._require_here()
        held = self._store.content(_name(self.epoch), MOST_BYTES)
        record = None if held is None else _record(held)
        if record is None or record.owner != self.owner or _latest(self._store) > self.epoch:
            self._lose(
                f"this process does not drive {redacted(self._store.url)} any more: another one has taken over, or the "
                "run was removed; nothing more is written there"
            )
        self._require_here()

    def renew(self) -> None:
        """Say that the owner lives. Raises as `require` does."""
        self.require()
        began = self._clock.elapsed()
        self._store.write(_content(self.owner, self._clock.now()), _name(self.epoch))
        self._require_here()
        self._confirmed = began

    def keep(self, ended: threading.Event) -> None:
        """Renew every few seconds until `ended`, or until it is lost; a store that does not answer is asked again."""
        while not ended.wait(HEARTBEAT_SECONDS):
            with suppress(Exception):  # of any kind; what counts is the time since the last success
                self.renew()
            if self.lost():
                return

    def release(self) -> None:
        """Leave the run to others, from the next epoch on. Raises as `require` does: it is theirs after a while."""
        self.require()
        self._store.write(_content(self.owner, NEVER), _name(self.epoch))

    def _require_here(self) -> None:
        if reason := self.lost():
            raise LeaseLostError(reason)

    def _lose(self, reason: str) -> None:
        if not self._lost:
            self._lost = reason
            self.on_loss(reason)


def take(store: LeaseStore, clock: Clock | None = None) -> Lease:
    """Take the lease of a run. Raises BeingDrivenError where another process has it or gets it at the same moment."""
    clock, owner = clock or RealClock(), secrets.token_hex(16)
    before = store.content(BEFORE, MOST_BYTES)
    latest = _latest(store)
    for held in (before, store.content(_name(latest), MOST_BYTES) if latest else None):
        record = None if held is None else _record(held)
        if record is not None and record.is_alive(clock.now()):
            raise _taken(store, record)
    epoch = latest + 1
    began = clock.elapsed()
    created = store.create(_content(owner, clock.now()), _name(epoch))
    if created is None:
        began = _settle(store, epoch, owner, clock)
    elif not created and _owner(store, epoch) != owner:  # its own, where an answer was lost
        raise _taken(store, _record(store.content(_name(epoch), MOST_BYTES) or b""))
    lease = Lease(store, epoch, owner, began, clock)
    try:
        lease.require()  # nobody has taken a later epoch meanwhile
    except LeaseLostError as error:
        if _owner(store, epoch) == owner:
            store.remove(_name(epoch))
        raise BeingDrivenError(f"another process is driving {redacted(store.url)}") from error
    if before is not None:
        store.remove(BEFORE)
    for name in store.names(FOLDER):
        if (_epoch(name) or epoch) < epoch:
            store.remove(name)
    return lease


def _settle(store: LeaseStore, epoch: int, owner: str, clock: Clock) -> float:
    """Have the file of an epoch by writing last; gives when it was written. Raises BeingDrivenError."""
    for _ in range(ATTEMPTS):
        began = clock.elapsed()
        if _owner(store, epoch) not in (None, owner):
            raise _taken(store, _record(store.content(_name(epoch), MOST_BYTES) or b""))
        store.write(_content(owner, clock.now()), _name(epoch))
        if clock.elapsed() - began > SETTLE_SECONDS / 2:
            continue  # too late: another one may think already that nobody else is there
        clock.sleep(SETTLE_SECONDS)
        if (other := _owner(store, epoch)) != owner:
            raise _taken(store, None if other is None else _record(store.content(_name(epoch), MOST_BYTES) or b""))
        return began
    raise OSError(f"{redacted(store.url)} answers too slowly to say who drives the run")


def is_lease(name: str) -> bool:
    """Whether a file of a run in a store is a lease."""
    return name == BEFORE or name.startswith(f"{FOLDER}/")


def process_mark() -> str:
    """What tells this process from all others on the machine, in other containers too; "" where nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino} {_started(os.getpid())}"
    except (OSError, ValueError, IndexError):
        return ""


def process_is_gone(mark: str, pid: int) -> bool:
    """Whether the process of a mark is certainly none any more: it was in this boot and this space of process ids."""
    mine = process_mark()
    if not mark or not mine or mark.split(" ")[:2] != mine.split(" ")[:2]:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    with suppress(OSError, ValueError, IndexError):
        return _started(pid) != mark.split(" ")[2]
    return False


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _content(owner: str, now: float) -> bytes:
    record = _Record(owner=owner, host=platform.node()[:300], pid=os.getpid(), time=now, process=process_mark())
    return json.dumps(record.model_dump()).encode()


def _record(content: bytes) -> _Record | None:
    """What a lease says; None where it is none, as half of one."""
    try:
        return _Record.model_validate_json(content)
    except ValidationError:
        return None


def _owner(store: LeaseStore, epoch: int) -> str | None:
    """Whose the lease of an epoch is; None where there is none, "" where it cannot be told."""
    held = store.content(_name(epoch), MOST_BYTES)
    if held is None:
        return None
    record = _record(held)
    return "" if record is None else record.owner


def _latest(store: LeaseStore) -> int:
    """The latest epoch of which there is a lease; 0 where there is none."""
    return max((_epoch(name) or 0 for name in store.names(FOLDER)), default=0)


def _name(epoch: int) -> str:
    return f"{FOLDER}/{epoch:08d}.json"


def _epoch(name: str) -> int | None:
    number = name.removeprefix(f"{FOLDER}/").removesuffix(".json")
    return int(number) if number.isdecimal() and len(number) <= 15 else None


def _taken(store: LeaseStore, record: _Record | None) -> BeingDrivenError:
    who = "" if record is None else f": process {record.pid} on {record.host}"
    return BeingDrivenError(
        f"another process is driving {redacted(store.url)}{who}; had it been killed, it would be given up after "
        f"{LEASE_SECONDS:.0f} seconds"
    )
