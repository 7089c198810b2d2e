"""The leaders, and their ensemble, measured on the test set, which the search has never seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, nullcontext
from dataclasses import replace
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
from automl.results.calibration import calibrate, calibrated_figures, fit_temperature
from automl.results.predictions import LINEAR, SPLITS, Predictions, average, read_predictions, write_predictions
from automl.results.row_statistics import ahead, chance, choice, interval_on_test
from automl.results.study import ENSEMBLE, RunRecord, TrialRecord
from automl.space import UserError
from automl.training.answers import COMPARED, read_answers
from automl.training.floor import load_linear
from automl.training.inference import cpu_only, default_device, load_weights, one_thread, predict_probabilities
from automl.training.latency import latencies
from automl.training.metrics import compute_metrics
from automl.training.run_directory import TrialDirectory, write_json

DATA_SPLITS = ("train", "validation", "test")
LATENCY_BATCHES = (1, 32)
MATRIX_CLASSES = 1500  # at most, of a confusion matrix that is kept: larger files of a run are not read
LINEAR_ALONE = {"members": [], "linear": True}
NO_CONFUSION = {"split": "validation", "confusion": None}
FINALISTS = 3  # of a run that does not say how many

Probabilities = npt.NDArray[np.float32] | None
Voice = Callable[[TrialRecord, str, bool], Probabilities]
LinearVoice = Callable[[str], Probabilities]


def measure_finalists(record: RunRecord) -> dict[str, Any]:
    """Measure the best trials, and the best of each family, on validation and test; write and give `finalists.json`.

    `{"trials": {number: {"validation": figures, "test": figures or null, "test_interval": [low, high] or null,
    "latency": {"1": {"p50": ms, "p95": ms}, "32": the same}}}, "ensemble": the same figures, "members", whether it has
    the "linear" floor, and "best_ahead", a `Difference` on validation of the best trial from it, or null,
    "chance": {"groups": {number: group}, "behind_best": {number: a `Difference` on validation}},
    "linear": the same figures of the linear floor where it is ahead of the best trial on validation and may be packed,
    and how far it is "ahead", a `Difference` on validation from what else is best, or null,
    "choice": `row_statistics.choice`,
    "confusion_of": number, "ensemble" or "linear", "split": ..., "confusion": [[...]]}`. Latency is that of batches of
    1 and 32 validation rows on one CPU thread, measured while nothing else of the run is at work. Rows of the
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
        figures = dict(
            known["trials"].get(str(trial.number)) or _measure(record, trial, _together([trial], voice, None))
        )
        if "latency" not in figures:
            figures["latency"] = _latency(record, trial)
        if trial is leaders[0] and record.refitted(trial.number) and "refit" not in figures:
            refitted = voice(trial, "test", True)
            figures["refit"] = {"test": _figures(record, trial, refitted, "test")}
        trials[str(trial.number)] = figures

    asked = record.manifest.get("ensemble") or {"top": 0, "linear": False}
    there = bool(leaders) and record.directory.linear.exists()
    linear = asked["linear"] and there
    packable = there and _is_behind_floor(record, trials[str(leaders[0].number)])
    linear_voice = _linear_voice(record, leaders[0]) if linear or packable else None
    kept = _kept(record, leaders, voice, linear_voice)
    for number, figures in trials.items():
        if "test_interval" not in figures:
            figures["test_interval"] = interval_on_test(record, kept, {"members": [number], "linear": False})
    found_chance = chance(record, leaders, kept, _others(record, leaders, kept))
    members = _members(leaders, asked["top"], found_chance["groups"])
    ensemble = None
    if len(members) + linear > 1 and members:
        ensemble, made_of = known["ensemble"], {"members": [trial.number for trial in members], "linear": linear}
        if ensemble is None or not made_of.items() <= ensemble.items():
            together = _together(members, voice, linear_voice if linear else None)
            ensemble = {**made_of, **_measure(record, leaders[0], together)}
        if "test_interval" not in ensemble:
            ensemble = {**ensemble, "test_interval": interval_on_test(record, kept, ensemble)}
        if "best_ahead" not in ensemble:
            alone = {"members": ensemble["members"][:1], "linear": False}
            ensemble = {**ensemble, "best_ahead": ahead(record, kept, alone, ensemble)}

    content: dict[str, Any] = {"trials": trials, "ensemble": ensemble, "linear": None, "chance": found_chance}
    if packable and linear_voice is not None:
        other = replace(record, finalists=content).made_of
        content["linear"] = {
            **_measure(record, leaders[0], linear_voice),
            "test_interval": interval_on_test(record, kept, LINEAR_ALONE),
            "ahead": ahead(record, kept, LINEAR_ALONE, other),
        }
    if not leaders:
        write_json(record.directory.finalists, content | {"confusion_of": None, **NO_CONFUSION})
        return content
    chosen = replace(record, finalists=content)
    content["choice"] = choice(chosen, leaders, kept, ensemble)
    best = [trial for trial in leaders if trial.number in chosen.made_of["members"]]
    said = _together(best, voice, linear_voice if chosen.made_of["linear"] else None)
    name = LINEAR if chosen.linear else ENSEMBLE if chosen.ensemble else leaders[0].number
    if known["confusion_of"] == name and (name != ENSEMBLE or known["ensemble"] == ensemble):
        content |= {
            part: known[part] for part in ("confusion_of", "split", "confusion", "calibration") if part in known
        }
    else:
        content |= {"confusion_of": name, **_confusion(record, leaders[0], said)}
    if "calibration" not in content:
        winner = leaders[0]
        anew = voice(winner, "test", True) if name == winner.number and record.refitted(winner.number) else None
        content["calibration"] = _calibration(record, winner, said, anew)
    write_json(record.directory.finalists, content)
    return content


def measure_trial(
    record: RunRecord, trial: TrialRecord
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.int64]]]:
    """What a trial's model says of validation and test, float32 [rows, classes], and their labels int64 [rows].

    Raises UserError where the data has gone.
    """
    prepared = prepared_data(record, trial.config)
    voice = _voice(record)
    with cpu_only(record.cpu_only):
        heard = {split: voice(trial, split, False) for split in SPLITS}
    said = {split: each for split, each in heard.items() if each is not None}
    return said, {split: prepared.labels(split) for split in said}


def _leaders(record: RunRecord) -> list[TrialRecord]:
    """The best trials whose weights are kept, as many as the search says, and the best of each family, best first."""
    kept = [trial for trial in record.ranked if record.has_weights(trial)]
    count = max(record.manifest.get("finalists", FINALISTS), len(record.front))
    of_families = {trial.family: trial for trial in reversed(kept)}
    return kept[:count] + [trial for trial in kept[count:] if trial is of_families[trial.family]]


def _is_behind_floor(record: RunRecord, figures: Mapping[str, Any]) -> bool:
    """Whether the linear floor, where it may be packed, is ahead of a trial of these figures on validation."""
    if record.floor is None or not record.manifest.get("pack_linear", True):
        return False
    mine, its = figures["validation"].get(record.metric), record.floor["validation"].get(record.metric)
    return mine is not None and its is not None and bool(its > mine if record.maximize else its < mine)


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
            alone = linear(split) if linear else None
            found.said[split] = said if alone is None else {**said, LINEAR: alone}
    write_predictions(record.directory, found)
    return found


def _others(record: RunRecord, leaders: list[TrialRecord], kept: Predictions) -> dict[int, npt.NDArray[np.float32]]:
    """What the trials in reach of the best that are no leaders said of the validation rows, as far as it was kept.

    At least that many as a search keeps it of, best first.
    """
    labels, numbers = kept.labels.get("validation"), {trial.number for trial in leaders}
    if labels is None:
        return {}
    shape = len(labels), len(record.manifest["data"]["classes"])
    found = {}
    for trial in record.ranked[: len(numbers) + COMPARED]:
        if trial.number not in numbers:
            path = record.directory.trial(trial.number).answers
            said = read_answers(path, run=record.run_id, epoch=trial.best_epoch, shape=shape)
            if said is not None:
                found[trial.number] = said
    return found


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
    """What the linear model says of a split's rows, None where there is no such split; it is asked once."""

    @cache
    def probabilities(split: str) -> Probabilities:
        inputs = prepared_data(record, trial.config).inputs(split)
        return None if inputs is None else load_linear(record.directory.linear).predict_probabilities(inputs)

    return probabilities


def _together(trials: Sequence[TrialRecord], voice: Voice, linear: LinearVoice | None) -> LinearVoice:
    """The mean of what several models say of a split: deep ensembles (Lakshminarayanan et al. 2017, section 2.4).

    The linear model, which errs elsewhere than networks do, counts as much as all of them.
    """

    def probabilities(split: str) -> Probabilities:
        said = [voice(trial, split, False) for trial in trials]
        found = [each for each in said if each is not None]
        alone = None if linear is None else linear(split)
        return average(found, alone) if found or alone is not None else None

    return probabilities


def _measure(record: RunRecord, data_of: TrialRecord, said: LinearVoice) -> dict[str, Any]:
    """The figures of one model, or of several together, on validation and test."""
    return {split: _figures(record, data_of, said(split), split) for split in SPLITS}


def _confusion(record: RunRecord, data_of: TrialRecord, said: LinearVoice) -> dict[str, Any]:
    """`split` and `confusion` of the best model on test, or on validation where there is no test set.

    The matrix is null where there are more than `MATRIX_CLASSES` classes.
    """
    for split in ("test", "validation"):
        probabilities = said(split)
        if probabilities is not None:
            labels = prepared_data(record, data_of.config).labels(split)
            classes = probabilities.shape[1]
            few = classes <= MATRIX_CLASSES
            matrix = confusion_matrix(labels, probabilities.argmax(axis=1), classes) if few else None
            return {"split": split, "confusion": matrix}
    return NO_CONFUSION


def _calibration(
    record: RunRecord, data_of: TrialRecord, said: LinearVoice, refitted: Probabilities | None
) -> dict[str, Any]:
    """`temperature` of the best model, and its figures at it on validation and test.

    Weights that were refitted have seen the validation rows, so they are given the temperature of those before. On
    validation, loss and calibration error are out of fold; `in_sample` has them at the temperature itself.
    """
    validation, test = said("validation"), said("test") if refitted is None else refitted
    assert validation is not None  # every prepared data set has them
    labels = prepared_data(record, data_of.config).labels("validation")
    temperature = fit_temperature(validation, labels)
    figures, in_sample = calibrated_figures(validation, labels, temperature)
    tested = None if test is None else calibrate(test, temperature)
    return {
        "temperature": temperature,
        "validation": figures,
        "test": _figures(record, data_of, tested, "test"),
        "in_sample": in_sample,
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
