"""Runs and models damaged in every way that a file can be, opened with every command that reads them.

`python -m tests.damage_runs RUN FIRST COUNT SEED` prints, as JSON, what went wrong and the most memory that it took.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from tests.audit import audited
from tests.memory import peak_bytes

Damage = Callable[[Path, random.Random, Path], None]
SECONDS = 60  # after which an opening hangs
DEEP: Any = json.loads("[" * 400 + "]" * 400)
ABSURD: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    -1,
    0,
    0.5,
    10**9,
    2**70,
    -(2**63),
    1e308,
    float("nan"),
    float("inf"),
    True,
    "../../../outside",
    "http://127.0.0.1:9/x.csv",
    "a" * 50_000,
    "half \ud800 pair",
    "\x1b[2J\x00",
    [[]] * 500,
    {"x": {"y": []}},
    DEEP,
]
LINES: list[dict[str, Any]] = [
    {"op_code": 99, "worker_id": "x"},
    {"op_code": 4, "worker_id": "x", "study_id": 10**12, "datetime_start": None},
    {"op_code": 7, "worker_id": "x", "trial_id": 0, "step": 10**15, "intermediate_value": 1.0},
    {"op_code": 7, "worker_id": "x", "trial_id": 10**15, "step": 1, "intermediate_value": 1.0},
    {"op_code": 1, "worker_id": "x", "study_id": 0},
    {"op_code": 8, "worker_id": "x", "trial_id": 0, "user_attr": {"config": None}},
    {"op_code": 6, "worker_id": "x", "trial_id": 0, "state": 1, "values": ["a"], "datetime_complete": "never"},
    {"op_code": 4, "worker_id": "x", "study_id": 0, "datetime_start": "0001-01-01T00:00:00"},
    {"op_code": 4, "worker_id": "x", "study_id": 0, "datetime_start": None, "params": {"a": 1e400}},
]


def flip(path: Path, dice: random.Random, bait: Path) -> None:
    """Some bits are others."""
    content = bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 8)):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def resize(path: Path, dice: random.Random, bait: Path) -> None:
    """It is cut, empty, longer, or says nothing."""
    content = path.read_bytes()
    half = content[: dice.randrange(len(content))]
    path.write_bytes(dice.choice([half, b"", content + content, content + os.urandom(64), b"\0" * len(content)]))


def enlarge(path: Path, dice: random.Random, bait: Path) -> None:
    """It is larger than any such file, with holes or with very many values."""
    if dice.random() < 0.5:
        with path.open("r+b") as file:
            file.truncate(1 << 40)
    else:
        path.write_bytes(b"[" + b"[]," * 5_000_000 + b"[]]")


def replace(path: Path, dice: random.Random, bait: Path) -> None:
    """It is a link, a pipe, a device or a folder."""
    path.unlink()
    kind = dice.choice(["secret", "zero", "itself", "pipe", "folder", "nowhere"])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        target = {"secret": bait / "secret.txt", "zero": Path("/dev/zero"), "itself": path, "nowhere": bait / "none"}
        path.symlink_to(target[kind])


def rewrite(path: Path, dice: random.Random, bait: Path) -> None:
    """A value is another, missing, or of another kind."""
    if path.suffix in (".jsonl", ".journal"):
        lines = path.read_text().splitlines()
        place = dice.randrange(len(lines))
        choice = dice.randrange(4)
        if choice == 0:
            lines.insert(place, json.dumps(dice.choice(LINES)))
        elif choice == 1:
            other = dice.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        else:
            lines[place] = json.dumps(changed(json.loads(lines[place]), dice))
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".safetensors":
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        header = json.dumps(changed(json.loads(content[8 : 8 + size]), dice)).encode()
        claimed = dice.choice([len(header), len(header), len(header), 2**63, 0])
        path.write_bytes(struct.pack("<Q", claimed) + header + content[8 + size :])
    elif path.suffix == ".yaml":
        text = path.read_text()
        more = [
            f"extends: {bait / 'secret.txt'}\n",
            'model: {"evil_module:net": {}}\n',
            "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
            "x: " + "[" * 2000 + "\n",
            "data: {train: /dev/zero}\n",
        ]
        path.write_text(dice.choice(more) + text if dice.random() < 0.7 else dice.choice(more))
    else:
        path.write_text(json.dumps(changed(json.loads(path.read_text()), dice)))


DAMAGES: tuple[Damage, ...] = (rewrite, rewrite, rewrite, flip, resize, replace, enlarge)


def changed(content: Any, dice: random.Random) -> Any:
    """The content with one value, somewhere in it, that is another or missing."""
    places = list(_places(content))
    if not places or dice.random() < 0.02:
        return dice.choice(ABSURD)
    inside, key = dice.choice(places)
    if dice.random() < 0.2:
        del inside[key]
    else:
        inside[key] = dice.choice(ABSURD)
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in lists and mappings; of long lists the first."""
    pairs = (
        content.items() if isinstance(content, dict) else enumerate(content[:5]) if isinstance(content, list) else ()
    )
    for key, value in pairs:
        yield content, key
        yield from _places(value)


def damageable(run: Path) -> list[Path]:
    """The files of a run that are read, of its trials those of two."""
    kinds = {".json", ".jsonl", ".journal", ".safetensors", ".yaml"}
    names = sorted(path.relative_to(run) for path in run.rglob("*") if path.suffix in kinds and path.is_file())
    trials = sorted({name.parts[1] for name in names if name.parts[0] == "trials"})[:2]
    return [name for name in names if name.parts[0] != "trials" or name.parts[1] in trials]


def commands(run: Path, other: Path, rows: Path) -> list[list[str]]:
    """Every command that reads a run or a model, as its words."""
    return [
        ["leaderboard", str(run)],
        ["leaderboard", str(run), "--format", "json", "--sort", "parameters"],
        ["leaderboard", str(run), "--format", "md"],
        ["leaderboard", "--compare", str(other), str(run)],
        ["report", str(run)],
        ["predict", str(run), str(rows)],
        ["evaluate", str(run), str(rows)],
        ["predict", str(run), str(rows), "--trial", second(other)],
        ["pack", str(run), "--trial", second(other), "--output", str(run / "mine")],
    ]


def second(run: Path) -> str:
    """The second best of a run's finalists."""
    return list(json.loads((run / "finalists.json").read_text())["trials"])[1]


class Case:
    """One damaged copy of a run, opened."""

    def __init__(self, original: Path, number: int, seed: int, only: str = "") -> None:
        dice = random.Random(f"{seed} {number}")
        files = [name for name in damageable(original) if only.removeprefix("!") in str(name)]
        if only.startswith("!"):
            files = [name for name in damageable(original) if name not in files]
        self.name = files[number % len(files)]
        self.damage = dice.choice(DAMAGES)
        self.dice = dice
        self.original = original

    def open(self, scratch: Path) -> list[str]:
        """What went wrong, with every command that it takes turns with."""
        run, bait, temporary = scratch / "run", scratch / "bait", scratch / "temporary"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
        shutil.copytree(self.original, run)
        bait.mkdir()
        (bait / "secret.txt").write_text("name: the-secret\nkept: not to be shown\n")
        rows = scratch / "rows.jsonl"
        rows.write_text('{"text": "a good day", "label": "positive"}\n{"text": "a bad one", "label": "negative"}\n')
        self.damage(run / self.name, self.dice, bait)
        before = _content(bait)
        wrong = []
        every = commands(run, self.original, rows)
        for words in [every[0], *self.dice.sample(every[1:], 2)]:
            found = opened(words, [run, temporary, Path(os.environ["AUTOML_CACHE"])])
            wrong += [f"{self.damage.__name__} {self.name}: {' '.join(words[:2])}: {each}" for each in found]
        if _content(bait) != before:
            wrong.append(f"{self.damage.__name__} {self.name}: something outside was changed")
        return wrong


def opened(words: list[str], allowed: list[Path]) -> list[str]:
    """What went wrong when the command was given these words."""
    from automl.cli import main

    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    wrong: list[str] = []
    with audited(allowed) as offences, _deadline(), redirect_stdout(out), redirect_stderr(err):
        try:
            main(words)
            code: object = 0
        except SystemExit as error:
            code = error.code
        except BaseException as error:
            wrong.append("".join(traceback.format_exception(error)[-4:]))
            code = 1
    said = err.getvalue()
    if "Traceback" in said or "not to be shown" in said + out.buffer.getvalue().decode("utf-8", "replace"):  # type: ignore[attr-defined]
        wrong.append(f"it said: {said[-500:]}")
    if code not in (0, None, 1, 2) or (code == 2 and not re.search(r"^automl: ", said, re.MULTILINE)):
        wrong.append(f"it ended with {code}: {said[-500:]}")
    return wrong + offences


@contextmanager
def _deadline() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("it hangs")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def main(original: Path, first: int, count: int, seed: int, only: str = "") -> None:
    """Open `count` damaged copies, from the `first` on, and print what went wrong."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp())  # torchmetrics imports Matplotlib, which makes its folder
    with tempfile.TemporaryDirectory() as scratch:  # so that what libraries do once is done
        rows, run = Path(scratch) / "rows.jsonl", Path(shutil.copytree(original, Path(scratch) / "run"))
        rows.write_text('{"text": "a good day", "label": "positive"}\n')
        wrong = [f"undamaged: {each}" for words in commands(run, original, rows) for each in opened(words, [Path("/")])]
    for number in range(first, first + count):
        with tempfile.TemporaryDirectory() as scratch:
            found = Case(original, number, seed, only).open(Path(scratch))
        wrong += [f"{number}: {each}" for each in found]
        if os.environ.get("AUTOML_FUZZ_TELL"):
            took = peak_bytes() // 2**20
            print(number, took, "MiB", Case(original, number, seed, only).name, file=sys.stderr)
    peak = peak_bytes()
    imported = sorted(name for name in sys.modules if name.startswith("evil"))
    print(json.dumps({"wrong": wrong, "peak": peak, "imported": imported}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]), *sys.argv[5:6])
