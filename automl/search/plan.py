"""What a search will do, in the order of its steps: goal, budget, early stopping, end, resources, data, updates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from automl.data import Prepared
from automl.data.counted import facts
from automl.space import SearchSpec
from automl.space.early_stopping import Asha, Hyperband, Median, Stopping
from automl.space.errors import listing
from automl.space.objectives import mode


@dataclass(frozen=True)
class Plan:
    """A search before it begins. `updates` are the least and the most of a trial that is never stopped."""

    objectives: list[dict[str, str]]
    sampler: str
    seed: int
    trials: int
    time_budget: str | None
    gpu_hours: float | None
    plateau: int | None
    early_stopping: str
    max_epochs: int
    rungs: list[int]
    """Epochs after which trials are compared, in any bracket."""
    afterwards: list[str]
    resources: str
    """What of it runs at once on this machine; empty where no trial can."""
    wait: str | None
    """For how long all trials may wait for that where others hold it."""
    rows: dict[str, int]
    classes: int
    vocabulary: int | None
    """Tokens, of texts."""
    input: str
    preparations: int
    """In how many ways the data is prepared; vocabulary, input and updates are those of the first."""
    updates: tuple[int, int]
    cut: list[str]
    """What the preparation cuts, drops or replaces, as `automl data` says it."""
    warm_start: list[str]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def lines(self) -> Iterator[tuple[str, str]]:
        """A word and a sentence for each step."""
        goals = [
            f"{each['name']} ({'more' if each['mode'] == 'max' else 'less'} is better)" for each in self.objectives
        ]
        yield "looks for", f"{listing(goals, 'and')}; proposed by {self.sampler}, seed {self.seed}"
        yield "until", self._budget()
        yield "stops early", self.early_stopping
        if self.afterwards:
            yield "then", "; ".join(self.afterwards)
        yield "resources", self.resources or "this machine has not what a trial asks for"
        if self.wait is not None:
            yield "", f"where others hold them, trials wait for at most {self.wait}, which uses none of the time budget"
        rows = ", ".join(f"{count:,} {split}" for split, count in self.rows.items())
        test = "" if "test" in self.rows else "; no test rows, so no test figure"
        yield "data", f"{rows} rows; {self.classes:,} classes{test}"
        first = "" if self.preparations == 1 else f" (the first of {self.preparations:,} preparations)"
        yield "inputs", f"{self.input}{first}"
        yield from (("", sentence) for sentence in self.cut)
        least, most = self.updates
        between = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        yield "updates", f"{between} in the {_epochs(self.max_epochs)} of a trial that is never stopped"
        yield from (("warm start", note) for note in self.warm_start)

    def _budget(self) -> str:
        ends = [f"{self.trials:,} trial{'' if self.trials == 1 else 's'}"]
        ends += [self.time_budget] if self.time_budget else []
        ends += [f"{self.gpu_hours:g} GPU hours"] if self.gpu_hours else []
        ends += [f"{self.plateau} trials in a row without an improvement"] if self.plateau else []
        return ends[0] if len(ends) == 1 else f"{listing(ends)}, whichever comes first"


def plan(
    spec: SearchSpec,
    prepared: Prepared,
    drawn: Sequence[Mapping[str, Any]],
    *,
    resources: str,
    preparations: int,
    warm_start: Sequence[str] = (),
) -> Plan:
    """The plan of a search on its `prepared` data, with the batches of configurations `drawn` from its space."""
    search, profile = spec.search, prepared.profile
    counts = [updates(spec, config["training"], profile["rows"]["train"]) for config in drawn] or [0]
    return Plan(
        objectives=[{"name": name, "mode": mode(name)} for name in search.sought],
        sampler=search.sampler,
        seed=search.seed,
        trials=search.trials,
        time_budget=search.time_budget,
        gpu_hours=search.gpu_hours,
        plateau=search.plateau,
        early_stopping=describe_stopping(search.early_stopping.way),
        max_epochs=search.max_epochs,
        rungs=list(search.early_stopping.rungs()),
        afterwards=list(_afterwards(spec)),
        resources=resources,
        wait=spec.resources.wait,
        rows=dict(profile["rows"]),
        classes=len(prepared.classes),
        vocabulary=prepared.vocabulary or None,
        input=_input(spec, prepared),
        preparations=preparations,
        updates=(min(counts), max(counts)),
        cut=list(facts(profile)),
        warm_start=list(warm_start),
    )


def updates(spec: SearchSpec, training: Mapping[str, Any], rows: int) -> int:
    """Updates of the weights in the epochs of a trial that is never stopped, with `rows` train rows."""
    of_epoch: int = training["rows_per_epoch"] or rows
    batches: int = math.ceil(rows / training["batch_size"])
    passes = spec.search.max_epochs * of_epoch / max(1, rows)
    return max(spec.search.max_epochs, math.ceil(passes * batches))


def describe_stopping(way: Stopping) -> str:
    """A way of early stopping in a sentence's words: how long trials are, where they are compared, who goes on."""
    most = f"a trial has at most {_epochs(way.max_epochs)}"
    rungs = sorted({rung for bracket in way.brackets_of_rungs() for rung in bracket})
    after = f"after {'epoch' if len(rungs) == 1 else 'epochs'} {listing(rungs, 'and')}" if rungs else ""
    if isinstance(way, Asha) and rungs:
        waits = ", others wait" if way.promotion else ""
        brackets = f", in {way.brackets} brackets" if way.brackets > 1 else ""
        said = f"asha: {most}; {after} the best 1/{way.reduction_factor} go on{waits}{brackets}"
    elif isinstance(way, Hyperband):
        many = len(way.brackets_of_rungs())
        said = f"hyperband: {most}; {after} the best 1/{way.reduction_factor} go on, in {many} brackets"
    elif isinstance(way, Median):
        said = (
            f"median: {most}; from epoch {way.grace_period} on one that is worse than half of the others stops, "
            f"once there are {way.min_trials}"
        )
    else:
        said = f"no trial: each has {_epochs(way.max_epochs)}"
    if way.patience is not None:
        said += f"; one ends after {_epochs(way.patience)} without an improvement"
    return said


def _epochs(count: int) -> str:
    return f"{count:,} epoch{'' if count == 1 else 's'}"


def _afterwards(spec: SearchSpec) -> Iterator[str]:
    search = spec.search
    if search.confirm:
        top, seeds = search.confirm.top, search.confirm.seeds
        decides = ", whose means decide" if search.confirm.decides else ""
        yield f"the best {top} are trained again, each under {seeds} seeds{decides}"
    if search.refit:
        yield "the winner is trained on train and validation rows"
    if search.ensemble:
        linear = " and the linear floor" if search.ensemble.linear else ""
        yield f"the best {search.ensemble.top}{linear} are averaged"
    if search.compress:
        yield "the best model is made smaller"


def _input(spec: SearchSpec, prepared: Prepared) -> str:
    """Of what size inputs are once they are prepared."""
    profile = prepared.profile
    if prepared.vocabulary:
        return f"a vocabulary of {prepared.vocabulary:,} tokens; texts of at most {profile['max_length']:,}"
    *size, channels = profile["shape"]
    many = f"{channels} channel{'' if channels == 1 else 's'}"
    return f"{size[0]:,} steps, {many}" if len(size) == 1 else f"{size[0]} x {size[1]} pixels, {many}"
