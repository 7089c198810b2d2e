"""How long honest clients of `automl serve` wait, alone and beside hostile ones.

    python benchmarks/serve.py MODEL          a run or a model for texts

200 honest clients ask for one to four texts each, and again after up to a second; 50 hostile ones are slow, hang up,
send too much, nonsense, or as much as they may. Server, honest and hostile clients are three processes on the loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

WORDS = ("great", "flight", "bad", "seat", "crew", "late", "lovely", "delayed", "never", "thanks", "awful", "luggage")
HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def post(texts: list[str], said: int | None = None) -> bytes:
    body = json.dumps({"texts": texts}).encode()
    return HEAD.format(len(body) if said is None else said).encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(size)


async def honest(port: int, number: int, until: float, found: list[tuple[int, float]]) -> None:
    """Ask, look at the answer, think, and ask again."""
    chance = random.Random(number)
    await asyncio.sleep(chance.random())
    streams: Streams | None = None
    while time.monotonic() < until:
        texts = [" ".join(chance.choices(WORDS, k=12)) for _ in range(chance.randint(1, 4))]
        clock, status = time.perf_counter(), 0
        try:
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", port)
            streams[1].write(post(texts))
            status, body = await answer(streams[0])
            if status == 200 and len(json.loads(body)["predictions"]) != len(texts):
                status = -1
        except (OSError, EOFError):
            streams = None
        found.append((status, time.perf_counter() - clock))
        if chance.random() < 0.3 and streams is not None:  # some keep their connection, some do not
            streams[1].close()
            streams = None
        await asyncio.sleep(chance.random())


async def slow_headers(_: Streams, writer: asyncio.StreamWriter) -> None:
    for byte in HEAD.encode():
        writer.write(bytes([byte]))
        await asyncio.sleep(0.5)


async def slow_body(_: Streams, writer: asyncio.StreamWriter) -> None:
    writer.write(post(["a"] * 100, said=5_000_000))
    for _ in range(60):
        writer.write(b" ")
        await asyncio.sleep(0.5)


async def slow_reader(_: Streams, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(post(["a lovely flight"] * 4096))
    await asyncio.sleep(20)


async def hangs_up(_: Streams, writer: asyncio.StreamWriter) -> None:
    writer.write(post(["a lovely flight"] * 4096))
    await asyncio.sleep(0.05)
    writer.transport.abort()


async def oversized(_: Streams, writer: asyncio.StreamWriter) -> None:
    writer.write(post([], said=20_000_000) + b" " * 20_000_000)
    await writer.drain()


async def malformed(_: Streams, writer: asyncio.StreamWriter) -> None:
    nonsense = (
        os.urandom(2000),
        HEAD.format(100_000).encode() + b"[" * 100_000,
        b"GET / HTTP/9\r\n\r\n",
        b"{}\r\n\r\n",
    )
    writer.write(random.choice(nonsense))
    await asyncio.sleep(0.05)


async def greedy(streams: Streams, writer: asyncio.StreamWriter) -> None:
    writer.write(post([" ".join(random.choices(WORDS, k=200))] * 4096))
    await answer(streams[0])


HOSTILE: tuple[Callable[[Streams, asyncio.StreamWriter], Awaitable[None]], ...] = (
    slow_headers,
    slow_body,
    slow_reader,
    hangs_up,
    oversized,
    malformed,
    greedy,
)


async def hostile(port: int, number: int, until: float, found: list[tuple[int, float]]) -> None:
    """Do one bad thing after the other."""
    while time.monotonic() < until:
        writer = None
        try:
            async with asyncio.timeout(until - time.monotonic()):
                streams = await asyncio.open_connection("127.0.0.1", port)
                writer = streams[1]
                await HOSTILE[number % len(HOSTILE)](streams, writer)
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            if writer is not None:
                writer.transport.abort()
        found.append((number % len(HOSTILE), 0.0))
        await asyncio.sleep(0.05)


async def clients(kind: str, port: int, count: int, seconds: float) -> list[tuple[int, float]]:
    """What `count` clients of a kind found within so many seconds."""
    found: list[tuple[int, float]] = []
    one = {"honest": honest, "hostile": hostile}[kind]
    await asyncio.gather(*(one(port, number, time.monotonic() + seconds, found) for number in range(count)))
    return found


def start(kind: str, port: int, count: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--clients", kind, str(port), str(count), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def figures(found: list[tuple[int, float]]) -> dict[str, Any]:
    p50, p99 = np.percentile([seconds for _, seconds in found], [50, 99])
    statuses = Counter(str(status) for status, _ in found)
    return {"requests": len(found), "statuses": dict(statuses), "p50_ms": p50 * 1000, "p99_ms": p99 * 1000}


def main(
    model: Annotated[Path, typer.Argument(help="A run directory or a best_model directory, for texts.")],
    honest: Annotated[int, typer.Option(help="Honest clients.")] = 200,
    hostile: Annotated[int, typer.Option(help="Hostile clients.")] = 50,
    seconds: Annotated[float, typer.Option(help="Of each half.")] = 20,
    runs: Annotated[int, typer.Option(help="How often to measure.")] = 3,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Measure and print a table."""
    table = Table("run", "clients", "requests", "answered", "p50, ms", "p99, ms", "p99, ratio", "memory, MB")
    measured = []
    for run in range(1, runs + 1):
        command = [sys.executable, "-m", "automl", "serve", str(model), "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            port = int(server.stderr.readline().rpartition(":")[2])
            found: dict[str, dict[str, Any]] = {}
            for arm, bad in (("quiet", 0), ("beside hostile ones", hostile)):
                attackers = start("hostile", port, bad, seconds + 2) if bad else None
                asking = start("honest", port, honest, seconds)
                found[arm] = figures(json.loads(asking.communicate()[0]))
                found[arm]["memory_mb"] = psutil.Process(server.pid).memory_info().rss / 1e6
                if attackers is not None:
                    attackers.communicate()
            clock = time.monotonic()
            server.send_signal(signal.SIGTERM)
            server.wait()
            ratio = found["beside hostile ones"]["p99_ms"] / found["quiet"]["p99_ms"]
            measured.append({**found, "ratio": ratio, "end_seconds": time.monotonic() - clock})
        finally:
            server.kill()
        for arm, row in found.items():
            share = row["statuses"].get("200", 0) / row["requests"]
            shown = "" if arm == "quiet" else f"{ratio:.1f}"
            times = (f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}")
            table.add_row(
                str(run), arm, f"{row['requests']:,}", f"{share:.2%}", *times, shown, f"{row['memory_mb']:.0f}"
            )
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps(measured, indent=2), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--clients"]:
        kind, port, count, seconds = sys.argv[2:]
        print(json.dumps(asyncio.run(clients(kind, int(port), int(count), float(seconds)))))
    else:
        typer.run(main)
