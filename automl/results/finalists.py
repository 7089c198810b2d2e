"""The leaders measured on the test set, which the search has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from automl.data import Prepared, prepare
from automl.results.study import RunRecord, TrialRecord
from automl.training.inference import default_device, load_weights, one_thread, predict_probabilities
from automl.training.metrics import compute_metrics
from automl.training.run_directory import TrialDirectory, write_json

FINALISTS = 3


def measure_finalists(record: RunRecord) -> dict[str, Any]:
    """Measure the best trials whose weights are kept on validation and test; write and give `finalists.json`.

    `{"trials": {number: {"validation": figures, "test": figures or null}}, "confusion_of": number, "split": ...,
    "confusion": [[...]]}`: rows of the confusion matrix are true classes, columns predicted ones, of the best trial on
    test (validation where there is no test set). Of a best trial that was refitted, `refit` holds what those weights
    reach on test. What has been measured before is not measured again: it needs no data.
    """
    known = record.finalists or {"trials": {}}
    leaders = [trial for trial in record.ranked if record.directory.trial(trial.number).weights.exists()][:FINALISTS]
    measured: dict[str, Any] = {}
    best = leaders[0].number if leaders else None
    split, confusion = "validation", None
    if best is not None and known.get("confusion_of") == best:
        split, confusion = known["split"], known["confusion"]
    for trial in leaders:
        is_best = trial.number == best
        figures: dict[str, Any] = known["trials"].get(str(trial.number), {})
        refitted = is_best and record.refitted(trial.number)
        measured[str(trial.number)] = figures
        if figures and (confusion or not is_best) and ("refit" in figures or not refitted):
            continue
        weights = record.directory.trial(trial.number).weights
        prepared = prepared_data(record, trial.config)
        for name in ("validation", "test"):
            probabilities = _probabilities(trial, prepared, name, weights)
            figures[name] = _figures(probabilities, prepared, name)
            if is_best and probabilities is not None:
                split = name
                labels = prepared.labels(name)
                confusion = confusion_matrix(labels, probabilities.argmax(axis=1), len(prepared.classes))
        if refitted:
            weights = TrialDirectory(record.directory.refit).weights
            figures["refit"] = {"test": _figures(_probabilities(trial, prepared, "test", weights), prepared, "test")}
    content = {"trials": measured, "confusion_of": best, "split": split, "confusion": confusion}
    write_json(record.directory.finalists, content)
    return content


def _probabilities(trial: TrialRecord, prepared: Prepared, split: str, weights: Path) -> npt.NDArray[np.float32] | None:
    """Class probabilities float32 [rows, classes] of a split's rows; None where there is no such split."""
    rows = prepared.rows(split)
    if rows is None:
        return None
    classes = len(prepared.classes)
    module = load_weights(trial.config, vocabulary=prepared.vocabulary, classes=classes, path=weights)
    with one_thread():
        return predict_probabilities(module.to(default_device()), rows, device=default_device())


def _figures(probabilities: npt.NDArray[np.float32] | None, prepared: Prepared, split: str) -> dict[str, float] | None:
    return None if probabilities is None else compute_metrics(probabilities, prepared.labels(split))


def confusion_matrix(labels: Any, predicted: Any, classes: int) -> list[list[int]]:
    """Counts [classes][classes]: true class by row, predicted class by column."""
    counts = np.bincount(np.asarray(labels) * classes + np.asarray(predicted), minlength=classes * classes)
    matrix: list[list[int]] = counts.reshape(classes, classes).tolist()
    return matrix


def prepared_data(record: RunRecord, config: Mapping[str, Any]) -> Prepared:
    """The data that a trial was trained on, as the run's cache has it (prepared again where it has gone)."""
    there = Path(record.manifest["working_directory"])
    with chdir(there if there.is_dir() else Path.cwd()):
        return prepare(config["data"], seed=record.manifest["seed"], cache=Path(record.manifest["prepared"]).parent)
