"""The one place that asks the study for trials and tells it what became of them.

Ray Tune's searcher and scheduler are thin glue around it. Everything it knows is rebuilt from the journal, so a run
that was killed at any moment goes on from here. Every method may be called twice with the same news, and none costs
more as the study grows.
"""

from __future__ import annotations

import copy
import math
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from optuna.trial import FixedTrial, FrozenTrial, TrialState

from automl.search.feasibility import Judge, judge_of, mark
from automl.search.journal import Journal
from automl.search.proposals import Beginning, History, propose
from automl.search.ranking import Ranking
from automl.search.reasons import ONE_CLASS
from automl.search.standing import ALONE, Progress, Proposal, Streaks
from automl.search.stopping import StoppingRule, stopping_rule
from automl.space import SearchSpec, suggest
from automl.space.grid import grid_size
from automl.space.starting_points import start_points
from automl.training.run_directory import INFEASIBLE, PAUSED, REACHED, STAGNATION

INFEASIBLE_AT_ONCE = 50  # of them, before other trials are looked after again
RUNNING_SEEN = 100  # the latest of the running trials, which a sampler keeps its distance from
MAX_RESTARTS = 2  # how often a trial whose worker was lost is run again


class Ledger:
    """Asks and tells one study; not safe to use from several threads, `progress` excepted.

    OSError from a method (the disk is full) means that its news is not in the journal; the ledger may not be used
    any further.
    """

    def __init__(
        self,
        journal: Journal,
        spec: SearchSpec,
        judge: Judge | None = None,
        warm: Beginning | None = None,
    ) -> None:
        self.journal = journal
        self.spec = spec
        self._judge = judge or judge_of(spec)
        warm = warm or Beginning()
        self._beginning = Beginning([*start_points(spec), *warm.points], warm.trials)
        self._grid = len(self._beginning.points) + grid_size(spec) if spec.search.sampler == "grid" else sys.maxsize
        self._streaks = Streaks()
        self._rule: StoppingRule = stopping_rule(spec)
        self._count = 0
        self._states: Counter[TrialState] = Counter()
        self._open: dict[int, dict[int, float]] = {}  # the values after each epoch of trials that have not ended
        self._reached: dict[int, list[float]] = {}  # of the same, all objectives at the best epoch, where several
        self._latest: dict[int, Mapping[str, Any]] = {}  # of those that run, what was told last
        self._waiting: deque[int] = deque()  # open trials that no worker has and that are to go on
        self._alone: set[int] = set()  # trials that run without neighbours on their GPU
        self._waiting_alone: deque[int] = deque()  # those of them that no worker has
        self._paused: dict[int, int] = {}  # open trials that no worker has, and the rung that each waits at
        self._ended: list[int] = []  # since `take_ended`
        self._restarts: Counter[int] = Counter()
        self._history = History(spec.search.sampler)
        self._sought = spec.search.sought
        self._ranking = Ranking(self._sought)
        self._ends = 0  # of trials, and pauses: each is noted with its number
        trials = journal.study.get_trials(deepcopy=False)
        for trial in trials:
            self._recall(trial)
        self._recall_ranking(trials)
        self.progress = self._progress()

    def _recall(self, trial: FrozenTrial) -> None:
        """Take up a trial of the journal."""
        number, values = trial.number, trial.intermediate_values
        self._count += 1
        if INFEASIBLE in trial.user_attrs:
            self._note_infeasible(number)
            return
        self._streaks.propose(feasible=True)
        self._states[trial.state] += 1
        if ALONE in trial.user_attrs:
            self._alone.add(number)
        if trial.state == TrialState.RUNNING:
            self._open[number] = dict(values)
            self._waiting.append(number)
            self._restarts[number] = trial.user_attrs.get("restarts", 0)
            if REACHED in trial.user_attrs:
                self._reached[number] = trial.user_attrs[REACHED]
        reason = trial.user_attrs.get("reason", "")
        self._rule.restore(number, values, ended=trial.state.is_finished(), reason=reason)

    def _recall_ranking(self, trials: Sequence[FrozenTrial]) -> None:
        """Rank the trials of the journal in the order in which they ended, which their numbers do not tell."""
        feasible = [trial for trial in trials if INFEASIBLE not in trial.user_attrs]
        scored = [trial for trial in feasible if trial.state not in (TrialState.RUNNING, TrialState.FAIL)]
        for trial in sorted(scored, key=lambda trial: trial.datetime_complete or datetime.max):
            if trial.intermediate_values:
                self._ranking.see(trial.number, trial.intermediate_values)
                self._note_end(trial.number, trial.intermediate_values, trial.user_attrs.get(REACHED))
        for number, values in self._open.items():
            self._ranking.see(number, values)
        noted = [(trial, trial.user_attrs[STAGNATION]) for trial in feasible if STAGNATION in trial.user_attrs]
        # Of a trial that has not ended, how often it waited: the end itself may have been torn off.
        counted = [note for trial, note in noted if trial.state.is_finished() or note[-1]]
        if counted:
            self._ends, since_best, best, _ = max(counted, key=lambda note: int(note[0]))
            self._ranking.recall(since_best, best)

    # -- asking

    def next(self, *, alone: bool = False) -> Proposal | None:
        """The next trial to run: first those that were interrupted, then new ones; None where there is none now.

        Those that are to run without neighbours on their GPU are given out `alone` only.
        """
        if alone:
            return self._give(self._waiting_alone.popleft()) if self._waiting_alone else None
        while self._waiting:
            number = self._waiting.popleft()
            values = self._open[number]
            if values and self._settle(number, max(values)):
                continue
            if number not in self._alone:
                return self._give(number)
            self._waiting_alone.append(number)
        if not self._waiting_alone and (best := self._rule.promote(self._arriving())) is not None:
            self._go_on(best)
            if best not in self._alone:
                return self._give(best)
            self._waiting_alone.append(best)
        if self._waiting_alone:
            return None
        for _ in range(INFEASIBLE_AT_ONCE):
            if self._left() == 0:
                if self.running() == 0:
                    self._give_up_paused()
                return None
            if proposal := self._propose():
                return proposal
        return None

    def _arriving(self) -> float:
        """The fewest epochs of a trial that runs or is to come."""
        if self._left() > 0:
            return 0
        running = (values for number, values in self._open.items() if number not in self._paused)
        return min((max(values, default=0) for values in running), default=math.inf)

    def _give(self, number: int) -> Proposal:
        self.progress = self._progress()
        return Proposal(number, self.config(number), max(self._open[number], default=0))

    def waiting_alone(self) -> int:
        """Trials that wait for a GPU without neighbours."""
        return len(self._waiting_alone)

    def _go_on(self, number: int) -> None:
        """Take up a trial that waits at a rung."""
        del self._paused[number]
        self._history.resume(number)
        self.journal.note(number, **{PAUSED: 0})
        self.journal.commit()

    def _give_up_paused(self) -> None:
        for number, epoch in list(self._paused.items()):
            self._close(number, TrialState.PRUNED, self._rule.stopped_at(epoch))

    def _propose(self) -> Proposal | None:
        """A new trial; None where what is proposed does not meet the constraints, which costs no trial."""
        number = self._count
        several = len(self._sought) > 1
        running = islice(reversed(self._open), RUNNING_SEEN)
        seen = sorted({*self._history.numbers(), *running, *(self._ranking.front if several else ())})
        trial, config = propose(self.spec, number, [self._seen(each) for each in seen], self._beginning)
        trial.user_attrs = {"family": next(iter(config["model"])), "config": config}
        feasible = mark(trial, self._judge(config))
        self.journal.add(trial)
        self.journal.commit()
        self._count += 1
        if feasible:
            self._streaks.propose(feasible=True)
            self._states[TrialState.RUNNING] += 1
            self._open[number] = {}
        else:
            self._note_infeasible(number)
        self.progress = self._progress()
        return Proposal(number, config, 0) if feasible else None

    def _seen(self, number: int) -> FrozenTrial:
        """A trial as a sampler is to see it: one that waits at a rung is as good as stopped there."""
        trial = self.journal.trial(number)
        if number in self._paused:
            trial = copy.copy(trial)
            trial.state = TrialState.PRUNED
        return trial

    def _note_infeasible(self, number: int) -> None:
        self._streaks.propose(feasible=False)
        self._history.reject(number)

    def config(self, number: int) -> dict[str, Any]:
        """The configuration of a trial, made again from its parameters."""
        trial = self.journal.trial(number)
        return suggest(self.spec, FixedTrial(trial.params, number))

    def pauses(self, number: int) -> list[int]:
        """The epochs after which a trial may have to wait, and so needs a checkpoint."""
        return self._rule.pauses(number)

    # -- telling

    def record(self, number: int, result: Mapping[str, Any]) -> bool:
        """Write the result of one epoch and decide: true if the trial goes on.

        `result` has epoch, the metric and all other objectives, parameters, bytes and train_seconds, or else `error`:
        why the trial failed.
        """
        if number not in self._open:
            return False
        if "error" in result:
            self.fail(number, str(result["error"]))
            return False
        epoch, value = int(result["epoch"]), result[self.spec.search.metric]
        if value is None or not math.isfinite(value):
            self._note_figures(number, result)
            self.fail(number, f"the loss was not finite in epoch {epoch}")
            return False
        reached = [result.get(name) for name in self._sought]
        for name, each in zip(self._sought, reached, strict=True):
            if each is None or not math.isfinite(each):
                self._note_figures(number, result)
                undefined = name == "auroc" and each is None
                missing = f"{ONE_CLASS}, of which there is no {name}"
                self.fail(number, missing if undefined else f"its {name} after epoch {epoch} is no number: {each}")
                return False
        values = self._open[number]
        if epoch not in values:
            values[epoch] = float(value)
            if len(reached) > 1 and self._best_epoch(values) == epoch:
                self._reached[number] = [float(each) for each in reached if each is not None]
                self.journal.note(number, **{REACHED: self._reached[number]})  # first: a write may be torn after it
            self.journal.report(number, epoch, values[epoch])
            self._ranking.see(number, values)
        ended = self._settle(number, epoch, result)
        if not ended:
            self._latest[number] = result
            self.journal.commit()
            self.progress = self._progress()
        return not ended

    def _settle(self, number: int, epoch: int, result: Mapping[str, Any] | None = None) -> bool:
        """End a trial whose last epoch is `epoch` if it is to end there; true if it has."""
        if epoch >= self.spec.search.max_epochs:
            state, reason = TrialState.COMPLETE, ""
        else:
            state, reason = TrialState.PRUNED, self._rule.decide(number, epoch, self._open[number]) or ""
            if not reason:
                return False
            if reason == PAUSED:
                self._pause(number, epoch, result)
                return True
        if result is not None:
            self._note_figures(number, result)
        self._close(number, state, reason)
        return True

    def _pause(self, number: int, epoch: int, result: Mapping[str, Any] | None) -> None:
        """Let a trial wait at a rung, and give up those that will never go on."""
        if result is not None:
            self._note_figures(number, result)
        self._paused[number] = epoch
        self._latest.pop(number, None)
        self._streaks.succeed()
        self.journal.note(number, **{PAUSED: epoch})
        if self.journal.trial(number).user_attrs.get(STAGNATION, [0])[-1] != epoch:  # else it did before a resume
            self._ranking.pause()
            self._note_stagnation(number, waits_at=epoch)
        self._history.end(number, self._ranking.key(self._ranking.score(self._open[number])))
        self.journal.commit(durable=True)
        for other, reason in list(self._rule.hopeless()):
            self._close(other, TrialState.PRUNED, reason)
        self.progress = self._progress()

    def fail(self, number: int, reason: str) -> None:
        """Write that a trial failed and why."""
        if number in self._open:
            self._streaks.fail(reason)
            self._close(number, TrialState.FAIL, reason)

    def restart(self, number: int, reason: str) -> bool:
        """A trial lost its worker: it waits for another, or fails for `reason` once that has happened too often.

        True if it is to run again.
        """
        if number not in self._open or number in self._paused or self._waits(number):
            return number in self._open
        self._restarts[number] += 1
        if self._restarts[number] > MAX_RESTARTS:
            self.fail(number, f"{reason} ({self._restarts[number]} times)")
            return False
        self.journal.note(number, restarts=self._restarts[number])
        self.journal.commit()
        self._waiting.appendleft(number)
        self.progress = self._progress()
        return True

    def retry_alone(self, number: int) -> bool:
        """A trial ran out of a GPU's memory beside others: it waits for one without neighbours, once.

        True if it is to run again.
        """
        if number not in self._open or number in self._alone:
            return False
        self.journal.note(number, **{ALONE: True})
        self.journal.commit()
        self._alone.add(number)
        self._waiting_alone.append(number)
        self.progress = self._progress()
        return True

    def end_of_budget(self, reason: str) -> list[int]:
        """Rank the running trials at what they reached, give their numbers; what reached nothing stays unfinished."""
        reached = [number for number, values in self._open.items() if values]
        for number in reached:
            if number in self._latest:
                self._note_figures(number, self._latest[number])
            rung = self._paused.get(number)
            self._close(number, TrialState.PRUNED, reason if rung is None else self._rule.stopped_at(rung))
        return reached

    def requeue(self) -> None:
        """Take back every trial that was given out and has not ended."""
        self._waiting = deque(sorted(self._open.keys() - self._paused))
        self._waiting_alone.clear()
        self.progress = self._progress()

    def _close(self, number: int, state: TrialState, reason: str = "") -> None:
        values, waited = self._open.pop(number), self._paused.pop(number, None) is not None
        self._latest.pop(number, None)
        self._ended.append(number)
        self._rule.end(number, finished=state == TrialState.COMPLETE)
        for queue in (self._waiting, self._waiting_alone):
            if number in queue:
                queue.remove(number)
        if reason:
            self.journal.note(number, reason=reason)
        reached = self._reached.pop(number, None)
        if state == TrialState.FAIL:
            self._ranking.forget(number, self._open.items())
        else:
            self._streaks.succeed()
            self._note_end(number, values, reached, waited=waited)
        self._note_stagnation(number)
        self.journal.end(number, state, None if state == TrialState.FAIL else reached or self._value(values, state))
        self.journal.commit(durable=True)
        self._states[TrialState.RUNNING] -= 1
        self._states[state] += 1
        self.progress = self._progress()

    def _value(self, values: Mapping[int, float], state: TrialState) -> list[float] | None:
        """A stopped trial's value is its last one, as Optuna has it; a completed one's is its score."""
        if not values:
            return None
        return [self._ranking.score(values) if state == TrialState.COMPLETE else values[max(values)]]

    def _note_end(
        self, number: int, values: Mapping[int, float], reached: Sequence[float] | None, *, waited: bool = False
    ) -> None:
        family = self.journal.trial(number).user_attrs["family"]
        key = self._ranking.end(number, family, values, reached or [self._ranking.score(values)], waited=waited)
        if not waited:
            self._history.end(number, key)

    def _note_stagnation(self, number: int, *, waits_at: int = 0) -> None:
        """Write with a trial that ends or waits for how many the best score has stood, which only their order tells."""
        self._ends += 1
        best = None if self._ranking.best is None else self._ranking.best[0]
        self.journal.note(number, **{STAGNATION: [self._ends, self._ranking.since_best, best, waits_at]})

    def _note_figures(self, number: int, result: Mapping[str, Any]) -> None:
        figures = {"epochs": int(result["epoch"]), "train_seconds": float(result["train_seconds"])}
        self.journal.note(number, **figures, parameters=int(result["parameters"]), bytes=int(result["bytes"]))
        if "cpu_hours" in result:
            self.journal.note(number, cost={name: round(result[name], 6) for name in ("cpu_hours", "gpu_hours")})
        if result.get("accumulation", 1) > 1:
            self.journal.note(number, accumulation=int(result["accumulation"]))

    # -- reading

    def unfinished(self) -> list[int]:
        """Numbers of the trials that have been asked for and have not ended."""
        return sorted(self._open)

    def take_ended(self) -> list[int]:
        """Numbers of the trials that have ended since this was asked last."""
        ended, self._ended = self._ended, []
        return ended

    def running(self) -> int:
        """Trials that have been given out."""
        return len(self._open) - len(self._waiting) - len(self._waiting_alone) - len(self._paused)

    def _waits(self, number: int) -> bool:
        return number in self._waiting or number in self._waiting_alone

    def remaining(self) -> int:
        """Trials still to end before the budget of trials is used."""
        return len(self._open) + self._left()

    def _left(self) -> int:
        """Trials that may still be proposed."""
        if self.exhausted():
            return 0
        return max(0, min(self.spec.search.trials - (self._count - self._streaks.infeasible), self._grid - self._count))

    def exhausted(self) -> str:
        """Why nothing more can be proposed before the budget is used; nothing where that is not so."""
        return self._streaks.exhausted()

    def leaders(self, count: int) -> list[int]:
        """The `count` best trials that have ended without failing: those on the Pareto front first, then by score."""
        return self._ranking.leaders(count)

    def finalists(self) -> list[int]:
        """Those whose weights are kept: the leaders, with several objectives at least the whole front, and the best of
        each family."""
        several = len(self._sought) > 1
        leaders = self.leaders(max(self.spec.search.finalists, len(self._ranking.front) if several else 0))
        return list(dict.fromkeys(leaders + self._ranking.best_of_families))

    def best_epoch(self, number: int) -> int:
        """The epoch at which a trial reached its score."""
        return self._best_epoch(self.journal.trial(number).intermediate_values)

    def _best_epoch(self, values: Mapping[int, float]) -> int:
        score = self._ranking.score(values)
        return min(epoch for epoch, value in values.items() if value == score)

    def same_failure(self) -> tuple[str, int] | None:
        """The cause and count of the last trials' failures, where all that failed in a row failed of one cause."""
        return self._streaks.same_failure()

    def failures(self) -> list[str]:
        """Why trials failed, the most frequent cause first."""
        reasons = (self.journal.trial(number).user_attrs.get("reason", "") for number in range(self._count))
        return [reason for reason, _ in Counter(each for each in reasons if each).most_common()]

    def since_best(self) -> int:
        """Trials that have ended since the best score so far was reached, or the front changed."""
        return self._ranking.since_best

    def _progress(self) -> Progress:
        key, number = self._ranking.best or (None, None)
        return Progress(
            budget=min(self.spec.search.trials, self._grid),
            running=self.running(),
            completed=self._states[TrialState.COMPLETE],
            stopped=self._states[TrialState.PRUNED],
            failed=self._states[TrialState.FAIL],
            paused=len(self._paused),
            best=None if key is None else self._ranking.key(key),
            best_number=number,
            best_family=None if number is None else self.journal.trial(number).user_attrs["family"],
            infeasible=self._streaks.infeasible,
        )
