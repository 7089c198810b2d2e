"""What the finalists' answers to each row tell of them: intervals, differences, how much the choice flatters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from automl.results.chance import Difference, differences, groups, holm, with_seeds
from automl.results.cross_fit import chooser, cross_fitted
from automl.results.guessing import Lead, leads
from automl.results.intervals import metric_interval
from automl.results.predictions import LINEAR, Predictions, Probabilities, average
from automl.results.resampling import measured
from automl.results.study import RunRecord, TrialRecord
from automl.training.metrics import DIGITS


def answers(kept: Predictions, split: str, made_of: Mapping[str, Any]) -> Probabilities:
    """What a model of these `members`, with the linear one where `linear` is true, says of the rows of a split."""
    said = kept.said[split]
    return average([said[str(number)] for number in made_of["members"]], said[LINEAR] if made_of["linear"] else None)


def interval_on_test(record: RunRecord, kept: Predictions, made_of: Mapping[str, Any]) -> list[float] | None:
    """95 % interval of the metric on test, of a model that is `made_of` these; None where there is no test set."""
    if "test" not in kept.said:
        return None
    interval = metric_interval(record.metric, answers(kept, "test", made_of), kept.labels["test"])
    return None if interval is None else [round(end, DIGITS) for end in interval]


def chance(
    record: RunRecord,
    leaders: Sequence[TrialRecord],
    kept: Predictions,
    others: Mapping[int, Probabilities] | None = None,
) -> dict[str, Any]:
    """Which leaders do not differ by more than chance, on the validation rows and over the seeds of reruns.

    And how far each is ahead of guessing. `others` are what further trials say of the validation rows, by number: they
    are compared with the best leader alone, and all comparisons are corrected together.
    """
    if not leaders:
        return {"groups": {}, "behind_best": {}}
    said = [kept.said["validation"][str(trial.number)] for trial in leaders]
    reruns = [record.confirmed.get(trial.number, ()) for trial in leaders]
    found = {
        (one, other): with_seeds(difference, reruns[one], reruns[other])
        for (one, other), difference in differences(record.metric, said, kept.labels["validation"]).items()
    }
    labels, further = kept.labels["validation"], list(others or {})
    behind = [differences(record.metric, [said[0], (others or {})[number]], labels)[0, 1] for number in further]
    raw = {pair: difference.p for pair, difference in found.items()}
    raw |= {(0, len(leaders) + place): difference.p for place, difference in enumerate(behind)}
    corrected = holm(raw)
    numbers = [str(trial.number) for trial in leaders]
    trials = len(record.ranked)
    level, ahead = leads(record.metric, said, labels, maximize=record.maximize)
    return {
        "guessing": {
            "value": round(level, DIGITS),
            "rows": len(labels),
            "trials": trials,
            "leads": {number: _rounded(each) for number, each in zip(numbers, ahead, strict=True)},
        },
        "groups": dict(zip(numbers, groups(len(leaders), corrected), strict=True)),
        "behind_best": {
            number: _rounded(replace(found[0, place], p=corrected[0, place]))
            for place, number in enumerate(numbers)
            if place
        },
        "others": {
            str(number): _rounded(replace(difference, p=corrected[0, len(leaders) + place]))
            for place, (number, difference) in enumerate(zip(further, behind, strict=True))
        },
    }


def ahead(record: RunRecord, kept: Predictions, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """What `one` model has more of the metric than another on the validation rows, a `Difference`."""
    said = [answers(kept, "validation", made_of) for made_of in (one, other)]
    return _rounded(differences(record.metric, said, kept.labels["validation"])[0, 1])


def choice(
    record: RunRecord, leaders: Sequence[TrialRecord], kept: Predictions, ensemble: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """How good the best model is on the validation rows that chose it, and on others: `cross_fit`.

    `{"models": how many there were to choose from, "in_sample": the metric, "cross_fitted": the metric}`; None where
    there was one. Trials and epochs that came before the finalists were chosen on the same rows, too, and that is not
    counted. Whether the finalists are averaged stays as it was found on all rows.
    """
    packable = (record.finalists or {}).get("linear") is not None
    averaged = ensemble is not None and (record.ensemble is not None or record.linear is not None)
    heard = averaged and ensemble is not None and bool(ensemble["linear"])
    models = len(leaders) + packable
    if models < 2 or record.first_by_score is not None:  # means under other seeds are of other trainings
        return None
    grouped = (record.finalists or {})["chance"]["groups"]
    choose = chooser(
        record.metric,
        [trial.family for trial in leaders],
        maximize=record.maximize,
        top=record.manifest["ensemble"]["top"] if averaged else 0,
        joining=[grouped[str(trial.number)] == 1 for trial in leaders],
        averaged_with_linear=heard,
        linear_alone=packable,
    )
    said, labels = kept.said["validation"], kept.labels["validation"]
    linear = said[LINEAR] if heard or packable else None
    found = cross_fitted(record.metric, [said[str(trial.number)] for trial in leaders], linear, labels, choose)
    in_sample = measured(record.metric, answers(kept, "validation", record.made_of), labels)
    return {"models": models, "in_sample": round(in_sample, DIGITS), "cross_fitted": round(found, DIGITS)}


def _rounded(found: Difference | Lead) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in asdict(found).items()}
