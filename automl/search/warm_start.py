"""What a search begins with from earlier runs: their trials for its sampler, or their best configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from automl.data.modalities import MODALITIES
from automl.search.proposals import Beginning
from automl.search.sampler import space_of
from automl.space import Alternatives, SearchSpec, Section, suggest
from automl.space.objectives import pareto_front, point
from automl.training.run_directory import INFEASIBLE, RunDirectory, write_json
from automl.training.run_files import Sought, WarmStart, read_manifest, read_part
from automl.training.study_file import load_study, objectives_of, reached_by

BEST = 3  # configurations of a run with other data or other objectives that are tried first
MOST_TRIALS = 100  # of all earlier runs, the best, that a sampler begins with
LEARNING = ("tpe", "gp")  # the others keep their own generations or learn nothing


@dataclass(frozen=True)
class _Found:
    params: dict[str, Any]
    values: list[float]  # of the objectives


def gather(spec: SearchSpec, fingerprint: str, path: Path) -> list[str]:
    """Read the runs of `warm_start` and write to `path` what the search begins with; gives a sentence for each.

    Trials count with their score where the run searched the same data for the same objectives and this search's sampler
    learns from trials; otherwise the best of them are tried again first. What does not lie in this space, with all
    that it fixes, is dropped. The runs are there (`check_files`).
    """
    trials: list[_Found] = []
    points: list[dict[str, Any]] = []
    said = []
    for name in spec.search.warm_start:
        run = RunDirectory(Path(name))
        manifest = read_manifest(run, Sought)
        sought = objectives_of(manifest)
        ended = [trial for trial in load_study(run).trials if _values(trial, manifest["mode"])]
        inside = [trial for trial in ended if _lies_in(spec, trial)]
        found = [_Found(dict(trial.params), _values(trial, manifest["mode"])) for trial in inside]
        found = _ordered(sought, found)
        same = manifest["data"]["fingerprint"] == fingerprint and sought == spec.search.sought
        if same and spec.search.sampler in LEARNING:
            used = found[:MOST_TRIALS]
            trials += used
            what = f"{len(used)} trials for the sampler"
        else:
            used = found[:BEST]
            points += [each.params for each in used]
            why = f"{spec.search.sampler} does not learn from them" if same else "data or objectives differ"
            what = f"its best {len(used)} configurations first, as {why}"
        outside = len(ended) - len(inside)
        said.append(f"{name}: {what}" + (f"; {outside} trials lie outside this space" if outside else ""))
    trials = _ordered(spec.search.sought, trials)
    content = {
        "points": points,
        "trials": [{"params": each.params, "values": each.values} for each in trials[:MOST_TRIALS]],
        "notes": said,
    }
    write_json(path, content)
    return said


def read_beginning(spec: SearchSpec, path: Path) -> Beginning:
    """What `gather` wrote at `path`; nothing where there is no such file."""
    content, space = read_part(path, WarmStart), space_of(spec)
    if content is None:
        return Beginning()
    trials = []
    for position, found in enumerate(content["trials"], start=1):
        trial = create_trial(
            params=found["params"],
            distributions={name: space[name] for name in found["params"]},
            values=found["values"],
            state=TrialState.COMPLETE,
        )
        trial.number = trial._trial_id = -position  # before all of this run's own
        trials.append(trial)
    return Beginning(content["points"], trials)


def _values(trial: FrozenTrial, mode: str) -> list[float]:
    """A trial's objectives at its best epoch, as on the leaderboard; none where it failed, still runs or never ran."""
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or INFEASIBLE in trial.user_attrs:
        return []
    return reached_by(trial, mode)


def _ordered(sought: Sequence[str], found: Sequence[_Found]) -> list[_Found]:
    """Those on the Pareto front first, then by the first objective."""
    points = [point(sought, each.values) for each in found]
    front = pareto_front(points)
    order = sorted(range(len(found)), key=lambda each: (points[each] not in front, points[each]))
    return [found[each] for each in order]


def _lies_in(spec: SearchSpec, trial: FrozenTrial) -> bool:
    """Whether the trial's configuration, data files aside, is one of this space, of the same parameters."""
    recorder = _Recorder(trial.params)
    try:
        config = suggest(spec, recorder)
    except (ValueError, TypeError, OverflowError):  # a parameter that the trial does not have, or outside its range
        return False
    other = trial.user_attrs.get("config")
    return recorder.asked == set(trial.params) and other is not None and _trained_alike(spec, config, other)


def _trained_alike(spec: SearchSpec, config: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configurations train the same network in the same way on inputs prepared in the same way."""
    shaping = {name for kind in MODALITIES.values() for name in kind.settings}
    data, other_data = ({name: each["data"][name] for name in shaping & set(each["data"])} for each in (config, other))
    prepared = [name in other_data and _agrees(getattr(spec.data, name), data[name], other_data[name]) for name in data]
    return all(prepared) and all(
        _agrees(getattr(spec, name), config[name], other[name]) for name in ("model", "training")
    )


def _agrees(value: Any, config: Any, other: Any) -> bool:
    """Whether two configurations of a section are the same; a setting that `other` was made without is its default."""
    if isinstance(value, Alternatives):
        (chosen,) = config
        return list(other) == [chosen] and _agrees(value.named()[chosen], config[chosen], other[chosen])
    if not isinstance(value, Section) or not isinstance(other, Mapping):
        return json.dumps(config, sort_keys=True) == json.dumps(other, sort_keys=True)
    fields = type(value).model_fields
    return set(other) <= set(config) and all(
        _agrees(getattr(value, name), config[name], other[name])
        if name in other
        else getattr(value, name) == field.get_default(call_default_factory=True)
        for name, field in fields.items()
    )


class _Recorder(FixedTrial):
    """Given parameters; ValueError where one is missing or outside its range."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(params)
        self.asked: set[str] = set()

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        self.asked.add(name)
        if name not in self._params:
            raise ValueError(name)
        inside = distribution.to_internal_repr(self._params[name])
        if not distribution._contains(inside):
            raise ValueError(name)
        return super()._suggest(name, distribution)
