"""The one place that asks the study for trials and tells it what became of them.

Ray Tune's searcher and scheduler are thin glue around it. Everything it knows is rebuilt from the journal, so a run
that was killed at any moment goes on from here. Every method may be called twice with the same news.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from automl.search.asha import survives
from automl.search.journal import make_sampler
from automl.space import SearchSpec, suggest


@dataclass(frozen=True)
class Proposal:
    """A trial to run: its number in the study, its configuration, and the epochs that the study already holds."""

    number: int
    config: dict[str, Any]
    epochs: int


@dataclass(frozen=True)
class Progress:
    """How far a search is."""

    budget: int
    running: int
    completed: int
    stopped: int
    failed: int
    best: float | None
    best_number: int | None
    best_family: str | None

    @property
    def finished(self) -> int:
        """Trials that will not run again."""
        return self.completed + self.stopped + self.failed


class Ledger:
    """Asks and tells one study; not safe to use from several threads, `progress` excepted."""

    def __init__(self, study: optuna.Study, spec: SearchSpec) -> None:
        self.study = study
        self.spec = spec
        self.maximize = spec.search.mode == "max"
        self.rungs = spec.search.early_stopping.rungs()
        self._open: dict[int, optuna.Trial] = {}
        self._values: dict[int, dict[int, float]] = {}
        self._states: Counter[TrialState] = Counter()
        self._results: dict[int, dict[str, Any]] = {}
        self._families: dict[int, str] = {}
        self._failed: set[int] = set()
        self._best: tuple[float, int] | None = None
        self._failures: list[str] = []
        self._unfinished: list[int] = []
        for trial in study.get_trials(deepcopy=False):
            self._values[trial.number] = dict(trial.intermediate_values)
            self._states[trial.state] += 1
            if trial.state == TrialState.RUNNING:
                self._open[trial.number] = optuna.Trial(study, trial._trial_id)
                self._unfinished.append(trial.number)
            elif trial.state == TrialState.FAIL:
                self._failed.add(trial.number)
            else:
                self._families[trial.number] = trial.user_attrs.get("family", "")
            if trial.state != TrialState.FAIL:
                self._note_best(trial.number)
        self.progress = self._progress()

    # -- asking

    def next(self) -> Proposal | None:
        """The next trial to run: first those that an interruption left unfinished, then new ones; then None."""
        if self._unfinished:
            number = self._unfinished.pop(0)
        elif len(self._values) < self.spec.search.trials:
            number = self._ask()
        else:
            return None
        trial = self._open[number]
        config = suggest(self.spec, trial)
        family = next(iter(config["model"]))
        if "config" not in trial.user_attrs:
            trial.set_user_attr("family", family)
            trial.set_user_attr("config", config)
        self._families[number] = family
        self.progress = self._progress()
        return Proposal(number, config, max(self._values[number], default=0))

    def _ask(self) -> int:
        self.study.sampler = make_sampler(self.spec, len(self._values))
        trial = self.study.ask()
        self._open[trial.number] = trial
        self._values[trial.number] = {}
        self._states[TrialState.RUNNING] += 1
        return trial.number

    # -- telling

    def record(self, number: int, result: Mapping[str, Any]) -> bool:
        """Write the result of one epoch and decide: true if the trial goes on.

        `result` has epoch, the metric, parameters and train_seconds, or else `error`: why the trial failed.
        """
        if number not in self._open:
            return False
        if "error" in result:
            self.fail(number, str(result["error"]))
            return False
        epoch, value = int(result["epoch"]), result[self.spec.search.metric]
        self._results[number] = {
            "epochs": epoch,
            "train_seconds": float(result["train_seconds"]),
            "parameters": int(result["parameters"]),
        }
        if value is None or not math.isfinite(value):
            self.fail(number, f"the loss was not finite in epoch {epoch}")
            return False
        if epoch not in self._values[number]:
            self._open[number].report(value, step=epoch)
            self._values[number][epoch] = value
            self._note_best(number)
        if epoch >= self.spec.search.max_epochs:
            self._close(number, TrialState.COMPLETE)
            return False
        if epoch in self.rungs and not self._survives(number, epoch):
            self._close(number, TrialState.PRUNED, f"asha: rung {epoch}")
            return False
        self.progress = self._progress()
        return True

    def _survives(self, number: int, rung: int) -> bool:
        earlier = [values[rung] for other, values in self._values.items() if other != number and rung in values]
        asha = self.spec.search.early_stopping.asha
        assert asha is not None  # without it there are no rungs
        return survives(self._values[number][rung], earlier, asha.reduction_factor, maximize=self.maximize)

    def fail(self, number: int, reason: str) -> None:
        """Write that a trial failed and why."""
        if number in self._open:
            self._failures.append(reason)
            self._close(number, TrialState.FAIL, reason)

    def end_of_budget(self) -> list[int]:
        """Rank the running trials at what they reached, give their numbers; what reached nothing stays unfinished."""
        reached = [number for number in self._open if self._values[number]]
        for number in reached:
            self._close(number, TrialState.PRUNED, "time budget")
        return reached

    def requeue(self) -> None:
        """Take back every trial that was given out and has not ended."""
        self._unfinished = sorted(self._open)
        self.progress = self._progress()

    def _close(self, number: int, state: TrialState, reason: str = "") -> None:
        trial = self._open.pop(number)
        attributes = self._results.pop(number, {}) | ({"reason": reason} if reason else {})
        for name, attribute in attributes.items():
            trial.set_user_attr(name, attribute)
        value = self.score(number) if state == TrialState.COMPLETE else None
        self.study.tell(trial, value, state=state, skip_if_finished=True)
        self._states[TrialState.RUNNING] -= 1
        self._states[state] += 1
        if state == TrialState.FAIL:
            self._failed.add(number)
            if self._best is not None and self._best[1] == number:
                self._best = None
                for other in self._values.keys() - self._failed:
                    self._note_best(other)
        else:
            self._failures.clear()
        self.progress = self._progress()

    # -- reading

    def unfinished(self) -> list[int]:
        """Numbers of the trials that have been asked for and have not ended."""
        return sorted(self._open)

    def remaining(self) -> int:
        """Trials still to end before the budget of trials is used."""
        return len(self._open) + max(0, self.spec.search.trials - len(self._values))

    def score(self, number: int) -> float | None:
        """The best value of a trial over its epochs: that of the epoch whose weights are kept."""
        values = self._values[number].values()
        return (max(values) if self.maximize else min(values)) if values else None

    def leaders(self, count: int) -> list[int]:
        """The `count` best trials that have ended without failing, best first."""
        sign = -1 if self.maximize else 1
        scored = [
            (sign * score, number)
            for number in self._values
            if number not in self._open and number not in self._failed and (score := self.score(number)) is not None
        ]
        return [number for _, number in sorted(scored)[:count]]

    def same_failure(self) -> tuple[str, int] | None:
        """The cause and count of the last trials' failures, where all that failed in a row failed of one cause."""
        if self._failures and len(set(self._failures)) == 1:
            return self._failures[0], len(self._failures)
        return None

    def _note_best(self, number: int) -> None:
        score = self.score(number)
        if score is None:
            return
        if self._best is None or (score > self._best[0] if self.maximize else score < self._best[0]):
            self._best = (score, number)

    def _progress(self) -> Progress:
        best, number = self._best or (None, None)
        return Progress(
            budget=self.spec.search.trials,
            running=self._states[TrialState.RUNNING] - len(self._unfinished),
            completed=self._states[TrialState.COMPLETE],
            stopped=self._states[TrialState.PRUNED],
            failed=self._states[TrialState.FAIL],
            best=best,
            best_number=number,
            best_family=self._families.get(number) if number is not None else None,
        )
