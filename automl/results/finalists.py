"""The leaders measured on the test set, which the search has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from automl.data import Prepared, prepare
from automl.results.study import RunRecord
from automl.training.inference import default_device, load_weights, one_thread, predict_probabilities
from automl.training.metrics import compute_metrics
from automl.training.run_directory import write_json

FINALISTS = 3


def measure_finalists(record: RunRecord) -> dict[str, Any]:
    """Measure the best trials whose weights are kept on validation and test; write and give `finalists.json`.

    `{"trials": {number: {"validation": figures, "test": figures or null}}, "confusion_of": number, "split": ...,
    "confusion": [[...]]}`: rows of the confusion matrix are true classes, columns predicted ones, of the best trial on
    test (validation where there is no test set). What has been measured before is not measured again: it needs no data.
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
        if str(trial.number) in known["trials"] and (confusion or not is_best):
            measured[str(trial.number)] = known["trials"][str(trial.number)]
            continue
        prepared = prepared_data(record, trial.config)
        module = load_weights(
            trial.config,
            vocabulary=prepared.vocabulary,
            classes=len(prepared.classes),
            path=record.directory.trial(trial.number).weights,
        )
        module.to(default_device())
        figures: dict[str, Any] = {"validation": None, "test": None}
        for name in figures:
            rows = prepared.rows(name)
            if rows is None:
                continue
            with one_thread():
                probabilities = predict_probabilities(module, rows, device=default_device())
            figures[name] = compute_metrics(probabilities, rows.labels)
            if is_best:
                split = name
                confusion = confusion_matrix(rows.labels, probabilities.argmax(axis=1), len(prepared.classes))
        measured[str(trial.number)] = figures
    content = {"trials": measured, "confusion_of": best, "split": split, "confusion": confusion}
    write_json(record.directory.finalists, content)
    return content


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
