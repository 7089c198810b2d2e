"""Runs side by side: their best models on the same rows, and what was asked differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from automl.results.chance import Difference, differences, holm
from automl.results.predictions import LINEAR, SPLITS, Predictions, Probabilities, average, read_predictions
from automl.results.study import RunRecord
from automl.results.verdict import best_figures
from automl.space import UserError
from automl.space.urls import redacted

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Side:
    """One of the runs: its best model with the metric on each split (None where it was not measured), and its cost."""

    run: str
    best: str
    validation: float | None
    test: float | None
    trials: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Runs that looked for the same metric.

    `same_rows` says of validation and test whether all runs measured on the same rows, None where that is not known;
    `best` is the run that is best there, and `ahead` how far it is ahead of each other run that was measured on the
    same rows (p corrected for there being several); `differences` are, of two runs, those of the first less the second.
    `same_data` says whether all have the same data, prepared alike. `settings` are those that differ: by their path
    what each file asks for, None where it does not have the setting.
    """

    metric: str
    maximize: bool
    sides: tuple[Side, ...]
    same_data: bool
    same_rows: Mapping[str, bool | None]
    differences: Mapping[str, Difference]
    best: Mapping[str, str]
    ahead: Mapping[str, Mapping[str, Difference]]
    settings: Mapping[str, tuple[str | None, ...]]


def compare(records: Sequence[RunRecord], asked: Sequence[Settings]) -> Comparison:
    """Compare two runs or more; `asked` are the settings of their files, by path.

    Raises UserError where they looked for different metrics, or where no trial of one has ended.
    """
    names = names_of(records)
    for name, record in zip(names, records, strict=True):
        if not record.ranked:
            raise UserError(f"{name} has nothing to compare yet: no trial has ended")
    require_same_goal(records)
    kept = [read_predictions(record.directory) for record in records]
    sides = tuple(_side(name, record) for name, record in zip(names, records, strict=True))
    metric, maximize = records[0].metric, records[0].maximize
    same, differences_of_two, best, ahead = {}, {}, {}, {}
    for split in SPLITS:
        same[split] = _all_same_rows(split, records, kept)
        said = [_of_best(record, each, split) for record, each in zip(records, kept, strict=True)]
        leader = _leader(sides, split, maximize)
        if leader is None:
            continue
        best[split] = sides[leader].run
        found = _against(leader, split, records, kept, said)
        ahead[split] = {sides[other].run: difference for other, difference in found.items()}
        if len(records) == 2 and found:
            ((_, difference),) = found.items()
            differences_of_two[split] = difference if leader == 0 else _turned(difference)
    same_data = len({record.manifest["data"]["fingerprint"] for record in records}) == 1
    return Comparison(metric, maximize, sides, same_data, same, differences_of_two, best, ahead, _differing(asked))


def names_of(records: Sequence[RunRecord]) -> list[str]:
    """The names of runs; of those that share one, where they lie."""
    names = [record.directory.name for record in records]
    return [
        name if names.count(name) == 1 else redacted(record.directory.url or "") or str(record.directory.path)
        for name, record in zip(names, records, strict=True)
    ]


def require_same_goal(records: Sequence[RunRecord]) -> None:
    """Raise UserError where runs looked for different metrics, or one for more of it and one for less."""
    first, name = records[0], records[0].directory.name
    for other in records[1:]:
        if other.metric != first.metric:
            raise UserError(
                f"{name} looked for {first.metric} and {other.directory.name} for {other.metric}: "
                "they cannot be compared"
            )
        if other.maximize != first.maximize:
            raise UserError(
                f"{name} and {other.directory.name} do not agree whether more {first.metric} is better: "
                "they cannot be compared"
            )


def _leader(sides: Sequence[Side], split: str, maximize: bool) -> int | None:
    """The place of the run with the best figure; None where fewer than two have one."""
    figures = {place: getattr(side, split) for place, side in enumerate(sides) if getattr(side, split) is not None}
    return (max if maximize else min)(figures, key=lambda place: figures[place]) if len(figures) > 1 else None


def _against(
    leader: int,
    split: str,
    records: Sequence[RunRecord],
    kept: Sequence[Predictions],
    said: Sequence[Probabilities | None],
) -> dict[int, Difference]:
    """The leader less each other run that kept what it says of the same rows."""
    if said[leader] is None:
        return {}
    alike = [
        place
        for place in range(len(records))
        if place == leader
        or (
            said[place] is not None
            and _same_rows(split, (records[leader], records[place]), (kept[leader], kept[place]))
        )
    ]
    if len(alike) < 2:
        return {}
    pairs = differences(
        records[0].metric, [each for place in alike if (each := said[place]) is not None], kept[leader].labels[split]
    )
    corrected = holm({pair: each.p for pair, each in pairs.items()})
    found = {}
    for (one, other), raw in pairs.items():
        if leader in (alike[one], alike[other]):
            difference, first = replace(raw, p=corrected[one, other]), alike[one] == leader
            found[alike[other] if first else alike[one]] = difference if first else _turned(difference)
    return found


def _turned(found: Difference) -> Difference:
    """The same with the two runs the other way round."""
    return Difference(-found.value, -found.high, -found.low, found.p)


def _side(name: str, record: RunRecord) -> Side:
    best, figures = record.best_trial, best_figures(record)
    alone = f"trial {best.number}, {best.family}"
    return Side(
        run=name,
        best="the linear floor"
        if record.linear
        else f"average of {len(record.ensemble['members'])} trials"
        if record.ensemble
        else alone,
        validation=(figures["validation"] or {}).get(record.metric),
        test=(figures["test"] or {}).get(record.metric),
        trials=record.manifest["used"]["trials"],
        seconds=record.manifest["used"]["seconds"],
    )


def _same_rows(split: str, runs: tuple[RunRecord, RunRecord], kept: tuple[Predictions, Predictions]) -> bool | None:
    one, other = (each.rows.get(split) for each in kept)
    if one is None or other is None:
        return None
    return one == other and runs[0].manifest["data"]["classes"] == runs[1].manifest["data"]["classes"]


def _all_same_rows(split: str, records: Sequence[RunRecord], kept: Sequence[Predictions]) -> bool | None:
    found = {
        _same_rows(split, (records[0], record), (kept[0], each))
        for record, each in zip(records[1:], kept[1:], strict=True)
    }
    return False if False in found else None if None in found else True


def _of_best(record: RunRecord, kept: Predictions, split: str) -> Probabilities | None:
    """What the best model, a trial, the ensemble or the linear floor, says of a split; None where that was not kept."""
    made_of = record.made_of
    said = kept.said.get(split, {})
    names = [str(number) for number in made_of["members"]]
    if not {*names, *([LINEAR] if made_of["linear"] else [])} <= said.keys():
        return None
    return average([said[name] for name in names], said[LINEAR] if made_of["linear"] else None)


def _differing(asked: Sequence[Settings]) -> dict[str, tuple[str | None, ...]]:
    """The settings that differ; of an alternative that not all files name, only that."""
    paths = dict.fromkeys(path for each in asked for path in each)
    found = {path: tuple(each.get(path) for each in asked) for path in paths}
    found = {path: values for path, values in found.items() if len(set(values)) > 1}
    missing = [path for path, values in found.items() if None in values]
    return {path: values for path, values in found.items() if not any(path.startswith(f"{each}.") for each in missing)}
