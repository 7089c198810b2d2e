"""Two runs side by side: their best models on the same rows, and what was asked differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from automl.results.chance import LEVEL, Difference, differences
from automl.results.predictions import LINEAR, SPLITS, Predictions, Probabilities, average, read_predictions
from automl.results.study import RunRecord
from automl.results.verdict import best_figures
from automl.space import UserError
from automl.space.durations import duration_text
from automl.space.printable import Text, cell

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
    """Two runs that looked for the same metric.

    `same_rows` says of validation and test whether both runs measured on the same rows, None where that is not known;
    `differences` are those of the best models there, the first less the second. `settings` are those that differ: by
    their path what either file asks for, None where it does not have the setting.
    """

    metric: str
    maximize: bool
    sides: tuple[Side, Side]
    same_rows: Mapping[str, bool | None]
    differences: Mapping[str, Difference]
    settings: Mapping[str, tuple[str | None, str | None]]


def compare(one: RunRecord, other: RunRecord, asked: tuple[Settings, Settings]) -> Comparison:
    """Compare two runs; `asked` are the settings of their files, by path.

    Raises UserError where they looked for different metrics, or where no trial of one has ended.
    """
    for record in (one, other):
        if not record.ranked:
            raise UserError(f"{record.directory.name} has nothing to compare yet: no trial has ended")
    if one.metric != other.metric:
        raise UserError(
            f"{one.directory.name} looked for {one.metric} and {other.directory.name} for {other.metric}: "
            "they cannot be compared"
        )
    kept = read_predictions(one.directory), read_predictions(other.directory)
    same = {split: _same_rows(split, (one, other), kept) for split in SPLITS}
    found = {}
    for split in SPLITS:
        said = [_of_best(record, each, split) for record, each in zip((one, other), kept, strict=True)]
        if same[split] and said[0] is not None and said[1] is not None:
            found[split] = differences(one.metric, [said[0], said[1]], kept[0].labels[split])[0, 1]
    return Comparison(one.metric, one.maximize, (_side(one), _side(other)), same, found, _differing(*asked))


def _side(record: RunRecord) -> Side:
    best, figures = record.best_trial, best_figures(record)
    alone = f"trial {best.number}, {best.family}"
    return Side(
        run=record.directory.name,
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


def _of_best(record: RunRecord, kept: Predictions, split: str) -> Probabilities | None:
    """What the best model, a trial, the ensemble or the linear floor, says of a split; None where that was not kept."""
    made_of = record.made_of
    said = kept.said.get(split, {})
    names = [str(number) for number in made_of["members"]]
    if not {*names, *([LINEAR] if made_of["linear"] else [])} <= said.keys():
        return None
    return average([said[name] for name in names], said[LINEAR] if made_of["linear"] else None)


def _differing(one: Settings, other: Settings) -> dict[str, tuple[str | None, str | None]]:
    """The settings that differ; of an alternative that only one file names, only that it does."""
    pairs = {path: (one.get(path), other.get(path)) for path in dict.fromkeys((*one, *other))}
    found = {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}
    missing = [path for path, pair in found.items() if None in pair]
    return {path: pair for path, pair in found.items() if not any(path.startswith(f"{each}.") for each in missing)}


def render_comparison(comparison: Comparison) -> Group:
    """The comparison for a terminal of 80 columns or more."""
    sides = comparison.sides
    lines = {
        "best model": [side.best for side in sides],
        f"validation {comparison.metric}": [_figure(side.validation) for side in sides],
        f"test {comparison.metric}": [_figure(side.test) for side in sides],
        "trials": [str(side.trials) for side in sides],
        "time": [duration_text(side.seconds) for side in sides],
    }
    parts: list[RenderableType] = [_columns(sides, lines)]
    measured = [split for split in SPLITS if None not in [getattr(side, split) for side in sides]]
    parts += [Text(_in_words(comparison, split)) for split in measured]
    if comparison.settings:
        parts += [
            Text("\nasked differently", style="bold"),
            _columns(None, {path: [value or "-" for value in pair] for path, pair in comparison.settings.items()}),
        ]
    else:
        parts.append(Text("Both files ask for the same."))
    return Group(*parts)


def _columns(sides: tuple[Side, Side] | None, lines: Mapping[str, list[str]]) -> Table:
    table = Table(box=None, show_header=sides is not None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", *(side.run for side in sides)) if sides else ("", "", ""):
        table.add_column(cell(title), overflow="fold")
    for name, values in lines.items():
        table.add_row(*map(cell, (name, *values)))
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _in_words(comparison: Comparison, split: str) -> str:
    """`On the same test rows b is ahead by 0.0057 (95 % interval -0.0012 to 0.0126): that may be chance (p = 0.09).`"""
    same, found = comparison.same_rows[split], comparison.differences.get(split)
    if found is None:
        why = "they are not the same rows" if same is False else "a run did not keep what its model says of them"
        return f"The {split} figures cannot be compared by row: {why}."
    first, second = comparison.sides
    if found.value == 0:
        return f"On the same {split} rows both are equal (95 % interval {found.low:.4f} to {found.high:.4f})."
    ahead = (found.value > 0) == comparison.maximize
    sign = 1 if found.value > 0 else -1
    low, high = sorted((sign * found.low, sign * found.high))
    chance = "that may be chance" if found.p >= LEVEL else "that is more than chance"
    return (
        f"On the same {split} rows {first.run if ahead else second.run} is ahead by {abs(found.value):.4f} "
        f"(95 % interval {low:.4f} to {high:.4f}): {chance} (p = {found.p:.2g})."
    )
