"""What a search begins with from earlier runs: their trials for its sampler, or their best configurations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from automl.data.modalities import MODALITIES
from automl.search.proposals import Beginning
from automl.search.sampler import space_of
from automl.space import Alternatives, SearchSpec, Section, suggest
from automl.space.objectives import pareto_front, point
from automl.space.ranges import choice_key
from automl.training.run_directory import INFEASIBLE, RunDirectory, write_json
from automl.training.run_files import Sought, WarmStart, read_manifest, read_part
from automl.training.study_file import load_study, objectives_of, reached_by

BEST = 3  # configurations of a run with other data or other objectives that are tried first
MOST_TRIALS = 100  # of all earlier runs, the best, that a sampler begins with
LEARNING = ("tpe", "gp")  # the others keep their own generations or learn nothing
SHOWN = 3  # reasons for which trials are left out


@dataclass(frozen=True)
class _Found:
    params: dict[str, Any]
    values: list[float]  # of the objectives
    number: tuple[int, int]  # of the run in the file, and of the trial in it


@dataclass(frozen=True)
class WarmStarts:
    """What a search begins with: `points` to try first, `trials` for its sampler in the order in which they were run.

    `notes` has a sentence for each run of `warm_start`: what was taken of it and what not, and why.
    """

    points: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    notes: list[str]

    @property
    def useless(self) -> bool:
        """Whether earlier runs were named, and nothing of them fits."""
        return bool(self.notes) and not self.points and not self.trials


def gather(spec: SearchSpec, fingerprint: str, path: Path) -> list[str]:
    """Write to `path` what the search begins with (`look_back`); gives a sentence for each earlier run."""
    found = look_back(spec, fingerprint)
    write_json(path, {"points": found.points, "trials": found.trials, "notes": found.notes})
    return found.notes


def look_back(spec: SearchSpec, fingerprint: str) -> WarmStarts:
    """Read the runs of `warm_start`; `fingerprint` is that of the data as this search has it prepared.

    Trials count with their score where the run searched the same data for the same objectives and this search's sampler
    learns from trials; otherwise the best of them are tried again first. What does not lie in this space, with all
    that it fixes, is dropped. The runs are there (`check_files`). Raises UserError where one is damaged.
    """
    trials: list[_Found] = []
    points: list[dict[str, Any]] = []
    said = []
    for place, name in enumerate(spec.search.warm_start):
        run = RunDirectory(Path(name))
        manifest = read_manifest(run, Sought)
        sought = objectives_of(manifest)
        there = load_study(run).trials
        ended = [trial for trial in there if _values(trial, manifest["mode"])]
        fits = [_fit(spec, trial) for trial in ended]
        reasons = [reason for reason, _ in fits]
        found = [
            _Found(params, _values(trial, manifest["mode"]), (place, trial.number))
            for trial, (reason, params) in zip(ended, fits, strict=True)
            if not reason
        ]
        found = _ordered(sought, found)
        same = manifest["data"]["fingerprint"] == fingerprint and sought == spec.search.sought
        if same and spec.search.sampler in LEARNING:
            used = found[:MOST_TRIALS]
            trials += used
            best = f", the best of {len(found):,}" if len(used) < len(found) else ""
            what = f"{_counted(len(used))} for the sampler{best}"
        else:
            used = found[:BEST]
            points += [each.params for each in used]
            why = f"{spec.search.sampler} does not learn from them" if same else "data or objectives differ"
            configurations = "configuration" if len(used) == 1 else f"{len(used)} configurations"
            what = f"its best {configurations} first, as {why}"
        said.append(f"{name}: {'; '.join([what if used else 'nothing is taken', *_left(reasons, len(there))])}")
    if len(trials) > MOST_TRIALS:
        said.append(f"of these {_counted(len(trials))} the best {MOST_TRIALS} are used")
    used = sorted(_ordered(spec.search.sought, trials)[:MOST_TRIALS], key=lambda each: each.number)
    return WarmStarts(points, [{"params": each.params, "values": each.values} for each in used], said)


def _counted(trials: int) -> str:
    return f"{trials:,} trial{'' if trials == 1 else 's'}"


def _left(reasons: Sequence[str], there: int) -> Iterator[str]:
    """What of a run's trials is not taken, and why: for each trial with a score a reason, empty where it is taken."""
    outside = Counter(filter(None, reasons))
    if count := outside.total():
        whys = [f"{why} ({number})" for why, number in outside.most_common(SHOWN)]
        more = ", ..." if len(outside) > SHOWN else ""
        yield f"{_counted(count)} {'lies' if count == 1 else 'lie'} outside this space: {', '.join(whys)}{more}"
    if without := there - len(reasons):
        yield f"{_counted(without)} without a score"
    if not there:
        yield "it has no trials"


def read_beginning(spec: SearchSpec, path: Path) -> Beginning:
    """What `gather` wrote at `path`; nothing where there is no such file."""
    content, space = read_part(path, WarmStart), space_of(spec)
    if content is None:
        return Beginning()
    trials = []
    for position, found in enumerate(content["trials"]):
        trial = create_trial(
            params=found["params"],
            distributions={name: space[name] for name in found["params"]},
            values=found["values"],
            state=TrialState.COMPLETE,
        )
        trial.number = trial._trial_id = position - len(content["trials"])  # before all of this run's own
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


def _fit(spec: SearchSpec, trial: FrozenTrial) -> tuple[str, dict[str, Any]]:
    """Why the trial's configuration, data files aside, is none of this space (empty where it is), and its parameters.

    What is fixed here may have been searched there, if it had this value, and the other way round.
    """
    other = trial.user_attrs.get("config")
    if not isinstance(other, Mapping) or not isinstance(other.get("model"), Mapping):
        return "its configuration is not known", {}
    if (family := next(iter(other["model"]), "")) not in spec.model.named():
        return f"the family {family} is not searched here", {}
    recorder = _Recorder(trial.params, other)
    try:
        config = suggest(spec, recorder)
    except _OutsideError as error:
        return str(error), {}
    except (ValueError, TypeError, OverflowError):  # a value of another type
        return "a parameter is of another kind", {}
    return _difference(spec, config, other), recorder.asked


def _difference(spec: SearchSpec, config: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What differs between two configurations that decides which network is trained, how, and on which inputs."""
    shaping = sorted({name for kind in MODALITIES.values() for name in kind.settings} & set(config["data"]))
    pairs: list[tuple[str, Any, Any, tuple[str, ...]]]
    pairs = [(f"data.{name}", getattr(spec.data, name), config["data"][name], ("data", name)) for name in shaping]
    pairs += [(name, getattr(spec, name), config[name], (name,)) for name in ("model", "training")]
    for path, value, mine, keys in pairs:
        its: Any = other
        for key in keys:
            if key not in its:
                return f"{path} is another"
            its = its[key]
        if found := _disagreement(value, mine, its, path):
            return f"{found} is another"
    return ""


def _disagreement(value: Any, config: Any, other: Any, path: str) -> str:
    """The first setting that two configurations of a section do not share; one that `other` lacks is its default."""
    if isinstance(value, Alternatives):
        (chosen,) = config
        if list(other) != [chosen]:
            return path
        return _disagreement(value.named()[chosen], config[chosen], other[chosen], f"{path}.{chosen}")
    if not isinstance(value, Section) or not isinstance(other, Mapping):
        return "" if json.dumps(config, sort_keys=True) == json.dumps(other, sort_keys=True) else path
    if unknown := sorted(set(other) - set(config)):
        return f"{path}.{unknown[0]}"
    for name, field in type(value).model_fields.items():
        here = f"{path}.{name}"
        if name in other:
            if found := _disagreement(getattr(value, name), config[name], other[name], here):
                return found
        elif getattr(value, name) != field.get_default(call_default_factory=True):
            return here
    return ""


class _OutsideError(ValueError):
    """A parameter that a trial does not have, or that has another range here; its text says so."""


class _Recorder(FixedTrial):
    """Given parameters, or what was fixed in the configuration; _OutsideError where one is outside its range."""

    def __init__(self, params: dict[str, Any], config: Mapping[str, Any]) -> None:
        super().__init__(dict(params))
        self._config = config
        self.asked: dict[str, Any] = {}

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self._params:
            self._params[name] = _fixed(self._config, name, distribution)
        self.asked[name] = self._params[name]
        try:
            inside = distribution._contains(distribution.to_internal_repr(self._params[name]))
        except (ValueError, TypeError, OverflowError):  # a choice that is none here, or another kind of range
            inside = False
        if not inside:
            raise _OutsideError(f"{name} is outside its range here")
        return super()._suggest(name, distribution)


def _fixed(config: Mapping[str, Any], name: str, distribution: BaseDistribution) -> Any:
    """The value of a setting that was not searched, as Optuna has it; of alternatives the one that was named."""
    value: Any = config
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise _OutsideError(f"{name} was not searched there")
        value = value[part]
    if isinstance(value, Mapping):
        value = next(iter(value), None)
    if isinstance(distribution, CategoricalDistribution) and (
        isinstance(value, list) or value not in distribution.choices
    ):
        value = choice_key(value)
    return value
