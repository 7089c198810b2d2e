"""Damages a model's package in many ways, and loads what is left: run by a test in a process of its own.

Prints a line for each thing that should not be, then the peak of the process's memory in MB.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.memory import peak_bytes

WRONG: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    -1,
    0,
    1.5,
    10**8,
    10**12,
    10**30,
    True,
    [None],
    {"this:s": {}},
    "\ud800",
    [[[]]],
]
UNASKED = {"antigravity", "this"}  # modules that a damaged package asks for
NUMBERS = [0, -1, 10**8, 10**12, float("nan"), float("inf"), "NaN"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of what stands in JSON; of long lists and mappings only the first and last few."""
    found = [path] if path else []
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys[:12] + keys[12:][-2:]:
        found += places(value[key], (*path, key))
    return found


def damage_json(path: Path, chance: random.Random) -> str:
    content = json.loads(path.read_text(encoding="utf-8"))
    where = chance.choice(places(content))
    value = chance.choice(WRONG + NUMBERS)
    inner = content
    for key in where[:-1]:
        inner = inner[key]
    if chance.random() < 0.2:
        del inner[where[-1]]
        value = "removed"
    else:
        inner[where[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    return f"{where} = {value!r}"


def damage_tensors(path: Path, chance: random.Random) -> str:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    name = chance.choice(sorted(set(header) - {"__metadata__"}))
    entry = header[name]
    kind = chance.choice(["shape", "dtype", "offsets", "numbers", "name", "entry"])
    if kind == "shape":
        entry["shape"] = chance.choice([[], [0], [-1], [10**8, 10**6], [2**62], [1.5], "x", entry["shape"][::-1]])
    elif kind == "dtype":
        entry["dtype"] = chance.choice(["F16", "F64", "I8", "BOOL", "X", None, 3])
    elif kind == "offsets":
        entry["data_offsets"] = chance.choice([[0, 2**62], [-1, 4], [4, 0], [0], "x", [2**63, 2**64], [0, 0]])
    elif kind == "name":
        header[chance.choice(["other", "int8:x", "mask:x", "shape:", "", "x" * 1000])] = header.pop(name)
    elif kind == "entry":
        header[name] = chance.choice(WRONG)
    data = bytearray(content[8 + size :])
    if kind == "numbers":
        start, end = entry["data_offsets"]
        data[start:end] = chance.choice([b"\xff", b"\x7f", b"\0", b"\x80"]) * (end - start)
    said = json.dumps(header).encode()
    path.write_bytes(len(said).to_bytes(8, "little") + said + data)
    return f"{kind} of {name}"


def damage_bytes(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    kind = chance.choice(["bits", "cut", "longer", "empty", "long header"])
    if kind == "bits":
        for _ in range(chance.choice([1, 3, 20])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[chance.randrange(len(content)) :]
    elif kind == "longer":
        content += b"\0" * chance.choice([1, 8, 1000])
    elif kind == "empty":
        content = bytearray()
    else:
        content[:8] = (2**63 - 1).to_bytes(8, "little")
    path.write_bytes(content)
    return kind


def damage_kind(path: Path, chance: random.Random) -> str:
    """Another kind of file in its place."""
    kind = chance.choice(["pipe", "zero", "outside", "loop", "nowhere", "folder", "huge", "deep"])
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(200 * 1024**3)
    elif kind == "deep":
        path.write_bytes(b"[" * 500_000)
    else:
        path.symlink_to({"zero": "/dev/zero", "outside": "/etc/passwd", "loop": path, "nowhere": "/no/where"}[kind])
    return kind


def damage_each(package: Path, name: str, scratch: Path, times: int, chance: random.Random) -> None:
    from automl.results.package import load_model
    from automl.space import UserError
    from tests.results.packages import inputs_of

    files = sorted(path.relative_to(package) for path in package.rglob("*") if path.is_file())
    load_model(package).predict(inputs_of(name))
    modules = set(sys.modules)
    for number in range(times):
        folder = scratch / f"{name}-{number}"
        shutil.copytree(package, folder)
        file = folder / files[number % len(files)]
        of_kind = damage_json if file.suffix == ".json" else damage_tensors
        damage = chance.choice([of_kind, of_kind, of_kind, damage_bytes, damage_kind])
        said = damage(file, chance)
        try:
            load_model(folder).predict(inputs_of(name))
        except UserError as error:
            if "\n" in str(error) or len(str(error)) > 1500:
                print(f"{name} {file.name} {said}: no sentence: {str(error)[:300]!r}")
        except BaseException:
            print(f"{name} {file.name} {said}: {traceback.format_exc()}")
        shutil.rmtree(folder)
    if imported := {module.partition(".")[0] for module in set(sys.modules) - modules} & UNASKED:
        print(f"{name}: imported {imported}")


def main(folder: Path, names: Sequence[str], scratch: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    for name in names:
        damage_each(folder / name, name, scratch, times, chance)
    print(peak_bytes() // 2**20)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
