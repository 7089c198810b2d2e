"""Where everything of a run lies on disk: one place for the names of its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl.data.files import replace_atomically
from automl.data.store import Store

STUDY_NAME = "search"
WEIGHTS = "model.safetensors"
ANSWERS = "validation.safetensors"
TRIALS = "trials"  # the folder with a folder for each trial
REACHED = "objectives"  # the attribute of a trial with several objectives: their values at its best epoch
PAUSED = "paused"  # the attribute of a trial that waits at a rung: its epoch; 0 once it goes on
STAGNATION = "stagnation"  # the attribute of a trial that ended or waits: how many have, how many since the best score,
# the key of that score, and the rung at which the trial waits (0 where it has ended)
INFEASIBLE = "infeasible"  # the attribute of a proposal that was never run: which condition it did not meet


@dataclass(frozen=True)
class Allowed:
    """What outside of a run the user has named in this command: what the run itself names is not reached for.

    `study` is the URL of the database with its study, `data` whether its data may be read and fetched from wherever the
    run says that it lies.
    """

    study: str | None = field(default=None, repr=False)
    data: bool = False


@dataclass(frozen=True)
class RunDirectory:
    """A run's folder, `runs/<name>-<time>`; its properties are the paths of its files, which need not exist.

    Where the nodes of a cluster share no file system, `url` is the run's folder in a store, and `path` a copy of it.
    """

    path: Path
    url: str | None = None
    allowed: Allowed = Allowed()

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.path.resolve().name

    @property
    def space(self) -> Path:
        """The search-space file as it was submitted."""
        return self.path / "space.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, hardware, data and budget."""
        return self.path / "manifest.json"

    @property
    def journal(self) -> Path:
        """The Optuna study: the one source of truth about trials."""
        return self.path / "study.journal"

    @property
    def warm_start(self) -> Path:
        """What the search began with from earlier runs."""
        return self.path / "warm_start.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that drives this run."""
        return self.path / "driver.lock"

    @property
    def linear(self) -> Path:
        """The linear floor itself: it may be the best model, or a part of it."""
        return self.path / "linear"

    @property
    def floor(self) -> Path:
        """The linear baseline's figures."""
        return self.path / "floor.json"

    @property
    def finalists(self) -> Path:
        """Test figures of the best trials."""
        return self.path / "finalists.json"

    @property
    def predictions(self) -> Path:
        """What the finalists say of each validation and test row."""
        return self.path / "predictions.safetensors"

    @property
    def examination(self) -> Path:
        """How far the best model's probabilities can be trusted, and the rows that it is most wrong about."""
        return self.path / "examination.json"

    @property
    def confirmed(self) -> Path:
        """What the finalists reached under other seeds."""
        return self.path / "confirmed.json"

    @property
    def refit(self) -> Path:
        """The folder of the winner trained on train and validation rows together."""
        return self.path / "refit"

    @property
    def refit_record(self) -> Path:
        """Which trial that is, and for how many epochs it was trained."""
        return self.refit / "refit.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def best_model(self) -> Path:
        """The best model's package."""
        return self.path / "best_model"

    @property
    def compressed(self) -> Path:
        """The folder with the smaller models that were made of the best one."""
        return self.path / "compressed"

    @property
    def compressed_record(self) -> Path:
        """What those reach and cost."""
        return self.compressed / "compressed.json"

    def leaderboard(self, extension: str) -> Path:
        """The leaderboard as `csv`, `json`, `parquet` or `md`."""
        return self.path / f"leaderboard.{extension}"

    def trial(self, number: int) -> TrialDirectory:
        """The folder of trial `number`."""
        return self._inside(f"{TRIALS}/{number}")

    def refitted(self) -> TrialDirectory:
        """The folder `refit`, as that of a trial."""
        return self._inside(self.refit.name)

    def _inside(self, name: str) -> TrialDirectory:
        return TrialDirectory(self.path / name, self.url and f"{self.url}/{name}")

    def trials(self) -> Iterator[tuple[int, TrialDirectory]]:
        """Every trial folder there is, as (number, folder)."""
        for folder in sorted((self.path / TRIALS).glob("[0-9]*")):
            if folder.name.isascii() and folder.name.isdigit():
                yield int(folder.name), self.trial(int(folder.name))

    def has_begun(self) -> bool:
        """Whether a trial has begun."""
        return (self.path / TRIALS).exists() or (self.url is not None and bool(Store(self.url).names(TRIALS)))

    def remove_from_store(self) -> None:
        """Remove the run's files from its store, if it has one."""
        if self.url is not None:
            for name in Store(self.url).names():
                Store(self.url).remove(name)

    def with_weights(self) -> set[int]:
        """Numbers of the trials whose weights are kept, here or in the store."""
        return self._with(WEIGHTS)

    def with_answers(self) -> set[int]:
        """The same of what they say of the validation rows."""
        return self._with(ANSWERS)

    def _with(self, file: str) -> set[int]:
        names = Store(self.url).names(TRIALS) if self.url else []
        there = {name.split("/")[1] for name in names if name.count("/") == 2 and name.endswith(f"/{file}")}
        return {int(number) for number in there if number.isascii() and number.isdigit()} | {
            number for number, folder in self.trials() if (folder.path / file).exists()
        }


@dataclass(frozen=True)
class TrialDirectory:
    """One trial's folder, `trials/<number>`; `url` is the folder in a store that it is a copy of, if it is one."""

    path: Path
    url: str | None = None

    @property
    def config(self) -> Path:
        """The trial's configuration."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """One JSON line for each epoch."""
        return self.path / "metrics.jsonl"

    @property
    def weights(self) -> Path:
        """Weights of the best epoch so far (safetensors)."""
        return self.path / WEIGHTS

    @property
    def answers(self) -> Path:
        """What it says of the validation rows at that epoch (`automl.training.answers`)."""
        return self.path / ANSWERS

    def rerun(self, repetition: int) -> TrialDirectory:
        """The folder of the trial's repetition under another seed (from 1)."""
        name = f"reruns/{repetition}"
        return TrialDirectory(self.path / name, self.url and f"{self.url}/{name}")

    @property
    def checkpoint(self) -> Path:
        """Everything that an unfinished trial needs to go on."""
        return self.path / "checkpoint.pt"

    @property
    def stalled(self) -> Path:
        """Where the trial's worker was stuck when it ended itself."""
        return self.path / "stalled.txt"

    @property
    def reserved(self) -> Path:
        """Which placement group the trial's workers have, where it has several."""
        return self.path / "placement_group"

    def publish(self, *files: Path) -> None:
        """Copy files of this folder into its store, if it has one. Raises OSError where that does not work."""
        if self.url is not None:
            for file in files:
                Store(self.url).put(file, file.name)

    def fetch(self, *files: Path) -> None:
        """Bring files of this folder from its store, if it has one; what the store lacks is removed here."""
        if self.url is not None:
            for file in files:
                if not Store(self.url).get(file.name, file):
                    file.unlink(missing_ok=True)

    def remove(self, *files: Path) -> None:
        """Remove files of this folder, here and in its store."""
        for file in files:
            file.unlink(missing_ok=True)
            if self.url is not None:
                Store(self.url).remove(file.name)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as readable JSON, whole or not at all."""
    with replace_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
