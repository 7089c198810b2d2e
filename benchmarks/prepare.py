"""Rows a second and peak memory of preparing texts, beside the same with Hugging Face `datasets` and `tokenizers`.

    python benchmarks/prepare.py --data DIR                DIR holds train.parquet with columns `text` and `label`
    python benchmarks/prepare.py --data DIR --rows 300000 --arm ours --arm "one process" --arm "Ray Data"

Rows are sentences of DIR, each the beginning of one and the end of another; some have markup, addresses, names and
accents. All arms clean, fit a vocabulary of 20,000 words on train, encode and write, with the same cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from measure import use_cores, wide_console
from rich.table import Table

BASELINE = Path(__file__).parent / "baselines" / "prepare_datasets.py"
OURS = Path(__file__).parent / "prepare_here.py"
ARMS = {
    "ours": [OURS, "processes"],
    "datasets": [BASELINE, "own"],
    "datasets, our cleaning": [BASELINE, "ours"],
}
ON_REQUEST = {"one process": [OURS, "alone"], "Ray Data": [OURS, "ray"]}  # ours, by others than its processes
BATCH_ROWS = 50_000
VALIDATION = 0.05
LOOK_EVERY = 0.25  # seconds


def main(
    data: Annotated[Path, typer.Option(help="A folder with train.parquet.")],
    rows: Annotated[list[int] | None, typer.Option(help="Repeatable [1 and 5 million].")] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help=f"Repeatable [{', '.join(ARMS)}]; also {', '.join(ON_REQUEST)}.")
    ] = None,
    cores: Annotated[int, typer.Option(help="Cores, and processes of each arm.")] = 2,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Measure and print a table."""
    use_cores(cores)
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in rows or [1_000_000, 5_000_000]:
            files = {"train": Path(scratch, "train.parquet"), "validation": Path(scratch, "validation.parquet")}
            write_rows(data / "train.parquet", count, files["train"], seed=0)
            write_rows(data / "train.parquet", round(count * VALIDATION), files["validation"], seed=1)
            for name in arm or ARMS:
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    measured = run_arm(name, list(files.values()), Path(folder), cores)
                figures.append({"arm": name, "asked": count, **measured})
                print(json.dumps(figures[-1]), file=sys.stderr)
    wide_console().print(table_of(figures))
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


def write_rows(source: Path, count: int, path: Path, seed: int) -> None:
    """Sentences made of two halves, with the label of the first."""
    table = pq.read_table(source, columns=["text", "label"])
    labels = table.column("label").to_numpy(zero_copy_only=False)
    sentences = [text.split() for text in table.column("text").to_pylist()]
    generator = np.random.default_rng(seed)
    schema = pa.schema([("text", pa.string()), table.schema.field("label")])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, BATCH_ROWS):
            size = min(BATCH_ROWS, count - start)
            first, second = generator.integers(len(sentences), size=(2, size))
            texts = list(_varied(sentences, first.tolist(), second.tolist(), generator.random(size).tolist()))
            writer.write_table(pa.table([pa.array(texts), pa.array(labels[first])], schema=schema))


def _varied(sentences: list[list[str]], first: list[int], second: list[int], chances: list[float]) -> Iterator[str]:
    for one, other, chance in zip(first, second, chances, strict=True):
        head, tail = sentences[one], sentences[other]
        text = " ".join([*head[: len(head) // 2 + 1], *tail[len(tail) // 2 :]])
        if chance < 0.02:
            text = f"<p>{text}</p><br/>&amp; more"
        elif chance < 0.05:
            text = f"@user{one % 500} {text} https://t.co/{other}"
        elif chance < 0.07:
            text = text.replace("e", "é", 1).capitalize()
        yield text


def run_arm(name: str, files: list[Path], folder: Path, cores: int) -> dict[str, Any]:
    """Run one arm in a process of its own; seconds, CPU seconds and memory are of it and all that it starts."""
    said = folder / "figures.json"
    script, way = {**ARMS, **ON_REQUEST}[name]
    command = [sys.executable, *map(str, [script, *files, folder / "out", said, cores, way])]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(cores), "HF_HOME": str(folder / "home")}
    children = os.times()
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    peak = {"own": 0, "all": 0}
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, peak, done))
    watch.start()
    code = process.wait()
    seconds = time.monotonic() - started
    done.set()
    watch.join()
    if code:
        raise SystemExit(f"{name} ended with {code}")
    now = os.times()
    cpu = now.children_user + now.children_system - children.children_user - children.children_system
    found = json.loads(said.read_text())
    return {
        **found,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "rows_per_second": found["rows"] / seconds,
        "peak_bytes": peak["own"],
        "peak_with_files_bytes": peak["all"],
    }


def _watch(pid: int, peak: dict[str, int], done: threading.Event) -> None:
    """Let `peak` grow to the largest memory of a process and all below it, what they share counted once.

    `own` is without pages of mapped files, which the system drops when it needs room.
    """
    while not done.wait(LOOK_EVERY):
        own = total = 0
        try:
            tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in tree:
            found = _rollup(process.pid)
            total += found.get("Pss", 0)
            own += found.get("Pss", 0) - found.get("Pss_File", 0)
        peak["own"], peak["all"] = max(peak["own"], own), max(peak["all"], total)


def _rollup(pid: int) -> dict[str, int]:
    """Bytes by kind of a process's memory; nothing where it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def table_of(figures: list[dict[str, Any]]) -> Table:
    """One line for each arm and number of rows; ratios are to ours."""
    columns = [
        "rows",
        "arm",
        "seconds",
        "rows/s",
        "ours faster",
        "CPU s",
        "ours less CPU",
        "memory, MB",
        "with files, MB",
    ]
    table = Table(*columns, "vocabulary")
    ours = {each["asked"]: each for each in figures if each["arm"] == "ours"}
    for each in figures:
        base = ours.get(each["asked"], each)
        table.add_row(
            f"{each['asked']:,}",
            each["arm"],
            f"{each['seconds']:.1f}",
            f"{each['rows_per_second']:,.0f}",
            f"{each['seconds'] / base['seconds']:.2f}",
            f"{each['cpu_seconds']:.0f}",
            f"{each['cpu_seconds'] / base['cpu_seconds']:.2f}",
            f"{each['peak_bytes'] / 1e6:,.0f}",
            f"{each['peak_with_files_bytes'] / 1e6:,.0f}",
            f"{each['vocabulary']:,}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
