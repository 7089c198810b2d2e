"""The leaders, and their ensemble, measured on the test set, which the search has never seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import chdir, nullcontext
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from automl.data import Prepared, prepare
from automl.data.fingerprint import ChangedDataError, changed_data, fingerprint_files
from automl.data.prepared import known_files, require_allowed, require_known
from automl.data.remote import cache_directory
from automl.data.store import is_url
from automl.results.calibration import calibrate, fit_temperature
from automl.results.chance import Difference, differences, groups, holm, with_seeds
from automl.results.intervals import metric_interval
from automl.results.predictions import LINEAR, SPLITS, Predictions, average, read_predictions, write_predictions
from automl.results.study import ENSEMBLE, RunRecord, TrialRecord
from automl.space import UserError
from automl.training.floor import load_linear
from automl.training.inference import default_device, load_weights, one_thread, predict_probabilities
from automl.training.latency import latencies
from automl.training.metrics import DIGITS, compute_metrics
from automl.training.run_directory import TrialDirectory, write_json

DATA_SPLITS = ("train", "validation", "test")
LATENCY_BATCHES = (1, 32)
MATRIX_CLASSES = 1500  # at most, of a confusion matrix that is kept: larger files of a run are not read
FINALISTS = 3  # of a run that does not say how many

Probabilities = npt.NDArray[np.float32] | None
Voice = Callable[[TrialRecord, str, bool], Probabilities]
LinearVoice = Callable[[str], npt.NDArray[np.float32]]


def measure_finalists(record: RunRecord) -> dict[str, Any]:
    """Measure the best trials, and the best of each family, on validation and test; write and give `finalists.json`.

    `{"trials": {number: {"validation": figures, "test": figures or null, "test_interval": [low, high] or null,
    "latency": {"1": {"p50": ms, "p95": ms}, "32": the same}}}, "ensemble": the same figures, "members", whether it has
    the "linear" floor, and "best_ahead", a `Difference` on validation of the best trial from it, or null,
    "chance": {"groups": {number: group}, "behind_best": {number: a `Difference` on validation}},
    "confusion_of": number or "ensemble", "split": ..., "confusion": [[...]]}`. Latency is that of batches of 1 and 32
    validation rows on one CPU thread, measured while nothing else of the run is at work. Rows of the
    confusion matrix are true classes, columns predicted ones, of the best model on test (validation where there is no
    test set). Of a best trial that was refitted, `refit` holds what those weights reach on test. `calibration` is the
    temperature that suits the best model on validation, with the figures that it has then (of the refitted weights on
    test). What the models say of each row is kept in `predictions.safetensors`. What has been measured before is not
    measured again: it needs no data.
    """
    known = {"trials": {}, "ensemble": None, "confusion_of": None, **(record.finalists or {})}
    leaders = _leaders(record)
    voice = _voice(record)

    trials = {}
    for trial in leaders:
        figures = dict(known["trials"].get(str(trial.number)) or _measure(record, [trial], voice))
        if "latency" not in figures:
            figures["latency"] = _latency(record, trial)
        if trial is leaders[0] and record.refitted(trial.number) and "refit" not in figures:
            refitted = voice(trial, "test", True)
            figures["refit"] = {"test": _figures(record, trial, refitted, "test")}
        trials[str(trial.number)] = figures

    asked = record.manifest.get("ensemble") or {"top": 0, "linear": False}
    linear = asked["linear"] and bool(leaders) and record.directory.linear.exists()
    linear_voice = _linear_voice(record, leaders[0]) if linear else None
    kept = _kept(record, leaders, voice, linear_voice)
    for number, figures in trials.items():
        if "test_interval" not in figures:
            figures["test_interval"] = _test_interval(record, kept, [number], linear=False)
    chance = _chance(record, leaders, kept)
    members = _members(leaders, asked["top"], chance["groups"])
    ensemble = None
    if len(members) + linear > 1 and members:
        ensemble, made_of = known["ensemble"], {"members": [trial.number for trial in members], "linear": linear}
        if ensemble is None or not made_of.items() <= ensemble.items():
            ensemble = {**made_of, **_measure(record, members, voice, linear_voice)}
        if "test_interval" not in ensemble:
            named = [str(number) for number in ensemble["members"]]
            ensemble = {**ensemble, "test_interval": _test_interval(record, kept, named, linear=linear)}
        if "best_ahead" not in ensemble:
            ensemble = {**ensemble, "best_ahead": _rounded(_best_ahead(record, kept, ensemble))}

    content: dict[str, Any] = {"trials": trials, "ensemble": ensemble, "chance": chance}
    averaged = replace(record, finalists=content).ensemble is not None
    best = members if averaged else leaders[:1]
    name = ENSEMBLE if averaged else best[0].number if best else None
    if name is not None and known["confusion_of"] == name and (name != ENSEMBLE or known["ensemble"] == ensemble):
        content |= {
            part: known[part] for part in ("confusion_of", "split", "confusion", "calibration") if part in known
        }
    else:
        content |= {"confusion_of": name, **_confusion(record, best, voice, linear_voice if averaged else None)}
    if best and "calibration" not in content:
        content["calibration"] = _calibration(record, best, voice, linear_voice if averaged else None)
    write_json(record.directory.finalists, content)
    return content


def _leaders(record: RunRecord) -> list[TrialRecord]:
    """The best trials whose weights are kept, as many as the search says, and the best of each family, best first."""
    kept = [trial for trial in record.ranked if record.has_weights(trial)]
    count = max(record.manifest.get("finalists", FINALISTS), len(record.front))
    of_families = {trial.family: trial for trial in reversed(kept)}
    return kept[:count] + [trial for trial in kept[count:] if trial is of_families[trial.family]]


def _members(leaders: list[TrialRecord], top: int, groups: Mapping[str, int]) -> list[TrialRecord]:
    """What an ensemble is made of: the best `top`, and the best of each other family where that may be as good.

    Networks of different kinds err on different rows. None where `top` is 0.
    """
    members = leaders[:top]
    for trial in leaders[top:] if top else []:
        if trial.family not in {member.family for member in members} and groups[str(trial.number)] == 1:
            members.append(trial)
    return members


def _voice(record: RunRecord) -> Voice:
    """What a trial's model says of a split's rows, float32 [rows, classes]; None where there is no such split."""

    @cache
    def probabilities(number: int, split: str, refitted: bool) -> Probabilities:
        trial = next(trial for trial in record.ranked if trial.number == number)
        folder = TrialDirectory(record.directory.refit) if refitted else record.directory.trial(number)
        prepared = prepared_data(record, trial.config)
        rows = prepared.rows(split)
        if rows is None:
            return None
        module = _load(record, prepared, trial, folder)
        with one_thread():
            return predict_probabilities(module.to(default_device()), rows, device=default_device())

    return lambda trial, split, refitted: probabilities(trial.number, split, refitted)


def _load(record: RunRecord, prepared: Prepared, trial: TrialRecord, folder: TrialDirectory) -> nn.Module:
    classes = len(prepared.classes)
    return load_weights(
        trial.config,
        vocabulary=prepared.vocabulary,
        classes=classes,
        path=folder.weights,
        families=record.families,
    )


def _kept(record: RunRecord, leaders: list[TrialRecord], voice: Voice, linear: LinearVoice | None) -> Predictions:
    """What the leaders, and the linear model where it is heard, say of validation and test; kept for later."""
    known = read_predictions(record.directory)
    wanted = {str(trial.number) for trial in leaders} | ({LINEAR} if linear else set())
    if wanted <= known.said.get("validation", {}).keys():
        return known
    found = Predictions()
    for split in SPLITS:
        heard = {str(trial.number): voice(trial, split, False) for trial in leaders}
        said = {name: probabilities for name, probabilities in heard.items() if probabilities is not None}
        if said:
            prepared = prepared_data(record, leaders[0].config)
            found.rows[split], found.labels[split] = prepared.digest(split), prepared.labels(split)
            found.said[split] = {**said, LINEAR: linear(split)} if linear else said
    write_predictions(record.directory, found)
    return found


def _test_interval(record: RunRecord, kept: Predictions, numbers: list[str], *, linear: bool) -> list[float] | None:
    """95 % interval of the metric on test, of one model or of several together; None where there is no test set."""
    if "test" not in kept.said:
        return None
    said = average([kept.said["test"][number] for number in numbers], kept.said["test"][LINEAR] if linear else None)
    interval = metric_interval(record.metric, said, kept.labels["test"])
    return None if interval is None else [round(end, DIGITS) for end in interval]


def _chance(record: RunRecord, leaders: list[TrialRecord], kept: Predictions) -> dict[str, Any]:
    """Which leaders do not differ by more than chance, on the validation rows and over the seeds of reruns."""
    if not leaders:
        return {"groups": {}, "behind_best": {}}
    said = [kept.said["validation"][str(trial.number)] for trial in leaders]
    reruns = [record.confirmed.get(trial.number, ()) for trial in leaders]
    found = {
        (one, other): with_seeds(difference, reruns[one], reruns[other])
        for (one, other), difference in differences(record.metric, said, kept.labels["validation"]).items()
    }
    corrected = holm({pair: difference.p for pair, difference in found.items()})
    numbers = [str(trial.number) for trial in leaders]
    return {
        "groups": dict(zip(numbers, groups(len(leaders), corrected), strict=True)),
        "behind_best": {
            number: _rounded(replace(found[0, place], p=corrected[0, place]))
            for place, number in enumerate(numbers)
            if place
        },
    }


def _best_ahead(record: RunRecord, kept: Predictions, ensemble: Mapping[str, Any]) -> Difference:
    """What the best trial alone has more of the metric than the average, on the validation rows."""
    said = [kept.said["validation"][str(number)] for number in ensemble["members"]]
    together = average(said, kept.said["validation"][LINEAR] if ensemble["linear"] else None)
    return differences(record.metric, [said[0], together], kept.labels["validation"])[0, 1]


def _rounded(difference: Difference) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in asdict(difference).items()}


def _latency(record: RunRecord, trial: TrialRecord) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of the milliseconds for a batch, of each batch size."""
    prepared = prepared_data(record, trial.config)
    rows = prepared.rows("validation")
    assert rows is not None  # every prepared data set has them
    module = _load(record, prepared, trial, record.directory.trial(trial.number))
    found = {}
    for size in LATENCY_BATCHES:
        p50, p95 = np.percentile(latencies(module, rows, batch_size=size), [50, 95]).tolist()
        found[str(size)] = {"p50": round(p50, 4), "p95": round(p95, 4)}
    return found


def _linear_voice(record: RunRecord, trial: TrialRecord) -> LinearVoice:
    """What the linear model says of a split's rows; it is asked once, for the figures and for the confusion matrix."""

    @cache
    def probabilities(split: str) -> npt.NDArray[np.float32]:
        inputs = prepared_data(record, trial.config).inputs(split) or []
        return load_linear(record.directory.linear).predict_probabilities(inputs)

    return probabilities


def _together(trials: list[TrialRecord], split: str, voice: Voice, linear: LinearVoice | None) -> Probabilities:
    """The mean of what several models say: deep ensembles (Lakshminarayanan et al. 2017, section 2.4).

    The linear model, which errs elsewhere than networks do, counts as much as all of them.
    """
    said = [voice(trial, split, False) for trial in trials]
    found = [probabilities for probabilities in said if probabilities is not None]
    if not found:
        return None
    return average(found, None if linear is None else linear(split))


def _measure(
    record: RunRecord, trials: list[TrialRecord], voice: Voice, linear: LinearVoice | None = None
) -> dict[str, Any]:
    """The figures of one model, or of several together, on validation and test."""
    return {split: _figures(record, trials[0], _together(trials, split, voice, linear), split) for split in SPLITS}


def _confusion(
    record: RunRecord, trials: list[TrialRecord], voice: Voice, linear: LinearVoice | None
) -> dict[str, Any]:
    """`split` and `confusion` of the best model on test, or on validation where there is no test set.

    The matrix is null where there are more than `MATRIX_CLASSES` classes.
    """
    for split in ("test", "validation"):
        probabilities = _together(trials, split, voice, linear)
        if probabilities is not None:
            labels = prepared_data(record, trials[0].config).labels(split)
            classes = probabilities.shape[1]
            few = classes <= MATRIX_CLASSES
            matrix = confusion_matrix(labels, probabilities.argmax(axis=1), classes) if few else None
            return {"split": split, "confusion": matrix}
    return {"split": "validation", "confusion": None}


def _calibration(
    record: RunRecord, trials: list[TrialRecord], voice: Voice, linear: LinearVoice | None
) -> dict[str, Any]:
    """`temperature` of the best model, and its figures at it on validation and test.

    Weights that were refitted have seen the validation rows, so they are given the temperature of those before.
    """
    validation = _together(trials, "validation", voice, linear)
    assert validation is not None  # every prepared data set has them
    temperature = fit_temperature(validation, prepared_data(record, trials[0].config).labels("validation"))
    refitted = linear is None and len(trials) == 1 and record.refitted(trials[0].number)
    test = voice(trials[0], "test", True) if refitted else _together(trials, "test", voice, linear)
    said = {"validation": validation, "test": test}
    return {
        "temperature": temperature,
        **{
            split: _figures(record, trials[0], None if found is None else calibrate(found, temperature), split)
            for split, found in said.items()
        },
    }


def _figures(record: RunRecord, trial: TrialRecord, said: Probabilities, split: str) -> dict[str, float] | None:
    """The metrics of probabilities on a split, whose labels are the same for all trials; None where it is not there."""
    return None if said is None else compute_metrics(said, prepared_data(record, trial.config).labels(split))


def confusion_matrix(labels: Any, predicted: Any, classes: int) -> list[list[int]]:
    """Counts [classes][classes]: true class by row, predicted class by column."""
    counts = np.bincount(np.asarray(labels) * classes + np.asarray(predicted), minlength=classes * classes)
    matrix: list[list[int]] = counts.reshape(classes, classes).tolist()
    return matrix


def prepared_data(record: RunRecord, config: Mapping[str, Any]) -> Prepared:
    """The data that a trial was trained on, as the cache has it where the run was made, else prepared from local files.

    The run may come from someone else, so files are only used where they hold what the run was made of, as its manifest
    says by a digest which nobody knows who does not have them; at URLs only where the user allows it (`Allowed`).
    Raises UserError where the data is not there.
    """
    manifest, fetch, cache = record.manifest, record.directory.allowed.data, cache_directory().absolute()
    there = Path(manifest["working_directory"])
    data, seed = _from(there, config["data"]), manifest["seed"]
    try:
        elsewhere = (there / manifest["prepared"]).parent.resolve() != cache.resolve()
        with chdir(there) if fetch and there.is_dir() else nullcontext():  # from where a table names its images
            known = manifest["data"].get("files") or _known_files(record, data, fetch=fetch)
            if elsewhere:
                require_known(data, cache, known, fetch=fetch)  # made with another cache, so this one does not count
            return prepare(data, seed=seed, cache=cache, known=known, fetch=fetch)
    except ChangedDataError as error:
        raise ChangedDataError(f"this needs the data of {record.directory.path}: {error}") from error
    except UserError as error:
        how = "" if fetch else "; --fetch-data takes it from wherever the run says that it lies"
        raise UserError(f"this needs the data of {record.directory.path}: {error}{how}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # a trial's `data`, which nobody has checked
        raise UserError(f"{record.directory.path} is damaged: the data section of a trial is wrong: {error}") from error


def _known_files(record: RunRecord, data: Mapping[str, Any], *, fetch: bool) -> str:
    """The digest of the data's files, for a run of an earlier version, which has only that of what was made of them.

    Raises UserError where they lie at a URL and may not be fetched, or hold something else now.
    """
    folder = Path(record.manifest["working_directory"])
    sections = [data, *(_from(folder, trial.config["data"]) for trial in record.trials)]
    for section in {json.dumps(each, sort_keys=True): each for each in sections}.values():
        if not fetch and any(
            is_url(each) for split in DATA_SPLITS if isinstance(section[split], list) for each in section[split]
        ):
            raise UserError("it lies at a URL")
        require_allowed(section, fetch=fetch)
        fingerprint = record.manifest["data"]["fingerprint"]
        files = known_files(section, seed=record.manifest["seed"], cache=cache_directory(), fingerprint=fingerprint)
        if files is not None:
            return files
    raise changed_data(data, "", fingerprint_files(data, cache_directory()))


def _from(folder: Path, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A section `data` whose files are named from `folder`, where the run was started."""
    try:
        named = {split: data[split] for split in DATA_SPLITS if isinstance(data[split], list)}
        there = {
            split: [each if is_url(each) else str(folder / each) for each in files] for split, files in named.items()
        }
    except (LookupError, TypeError) as error:
        raise UserError(f"a trial is damaged: it names no data files: {error}") from error
    return {**data, **there}
