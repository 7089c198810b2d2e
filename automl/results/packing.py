"""Models written as folders that need nothing else of the run: the best one, or any trial whose weights are kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.data.files import replace_folder, require_replaceable
from automl.data.private_folder import private_folder
from automl.results.calibration import calibrate, calibrated_figures, calibration_figures, fit_temperature
from automl.results.card import model_card
from automl.results.finalists import measure_trial, prepared_data
from automl.results.package import ENCODER_FILES, MOST_ENCODER
from automl.results.package_config import (
    FORMAT_VERSION,
    NAME,
    OF_NETWORKS,
    columns_of,
    is_of,
    read_package_config,
)
from automl.results.predictions import LINEAR, read_predictions
from automl.results.study import ENSEMBLE, RunRecord, TrialRecord
from automl.space import UserError
from automl.space.errors import listing
from automl.space.safe_files import read_regular
from automl.space.urls import redacted_values
from automl.training.metrics import compute_metrics
from automl.training.run_directory import RunDirectory, TrialDirectory, write_json

BESIDE_FIGURES = ("refit", "latency", "test_interval", "best_ahead", "ahead", "members", "linear")
MOST_NAMED = 20  # trials in a message


@dataclass(frozen=True)
class _Preparation:
    """How a network's inputs are prepared: how many tokens it knows, and what writes the encoder into a folder."""

    vocabulary: int
    save: Callable[[Path], None]


@dataclass(frozen=True)
class _Part:
    """One network of a package, and where its weights lie."""

    trial: TrialRecord
    weights: Path
    preparation: _Preparation


def write_best_model(record: RunRecord) -> Path | None:
    """Write `best_model/` of the best model: the trial that ranks first, the ensemble or the linear floor.

    None, and nothing written, where no trial has weights. Where the data has gone, the package stays that was written
    for the same trials; else raises UserError.
    """
    best = next((trial for trial in record.ranked if record.has_weights(trial)), None)
    if best is None or record.finalists is None:
        return None
    alone, linear = record.linear, record.made_of["linear"]
    numbers = record.made_of["members"] if linear or record.ensemble else [best.number]
    members = [trial for number in numbers for trial in record.ranked if trial.number == number]
    try:
        prepared = [prepared_data(record, trial.config) for trial in members]
        columns = columns_of(best.config["data"], prepared[0] if prepared else prepared_data(record, best.config))
        if linear and not record.directory.linear.is_dir():
            raise UserError(f"{record.directory.linear} has gone, which the best model is made of")
    except UserError:
        if not is_of(record.directory.best_model, numbers):
            raise
        return record.directory.best_model
    figures = dict(alone or record.ensemble or record.finalists["trials"][str(best.number)])
    if not alone and record.refitted(best.number) and figures.get("refit"):
        figures |= {"test": figures["refit"]["test"], "test_before_refit": figures["test"]}
    temperature = 1.0
    best_of: str | int = LINEAR if alone else ENSEMBLE if record.ensemble else best.number
    if record.finalists.get("confusion_of") == best_of:
        calibrated = dict(record.finalists["calibration"])
        temperature, in_sample = calibrated.pop("temperature"), calibrated.pop("in_sample", None)
        figures = _with_calibrated(figures, calibrated, in_sample)
    parts = [
        _Part(trial, _best_weights(record, trial), _Preparation(data.vocabulary, data.encoder().save))
        for trial, data in zip(members, prepared, strict=True)
    ]
    return _write(
        record, parts, columns, figures, record.directory.best_model, linear=bool(linear), temperature=temperature
    )


def _best_weights(record: RunRecord, trial: TrialRecord) -> Path:
    """The weights of a trial that is the best model or a part of it: those trained on train and validation rows
    together, where it was refitted."""
    refitted = record.refitted(trial.number)
    folder = TrialDirectory(record.directory.refit) if refitted else record.directory.trial(trial.number)
    return folder.weights


def trial_to_pack(record: RunRecord, number: int) -> TrialRecord:
    """The trial `number`; raises UserError where the run has no such trial, or no weights of it that can be packed."""
    found = {trial.number: trial for trial in record.trials}
    where = record.directory.path
    if number not in found:
        there = f"its trials are {min(found)} to {max(found)}" if found else "no trial has ended"
        raise UserError(f"the run {where} has no trial {number}; {there}")
    trial = found[number]
    if number not in {each.number for each in record.ranked}:
        state = "has failed" if trial.status == "failed" else "has not ended with a score"
        raise UserError(f"trial {number} of {where} {state}; {_those_kept(record)}")
    if not record.has_weights(trial):
        raise UserError(f"the weights of trial {number} of {where} are not kept; {_those_kept(record)}")
    return trial


def _those_kept(record: RunRecord) -> str:
    """`weights are kept of trials 3, 0 and 8`, best first."""
    kept = [trial.number for trial in record.ranked if record.has_weights(trial)]
    if not kept:
        return "no trial's weights are kept"
    more = [f"{len(kept) - MOST_NAMED} more"] if len(kept) > MOST_NAMED else []
    named = listing([*kept[:MOST_NAMED], *more], "and")
    return f"weights are kept of trial{'s' if len(kept) > 1 else ''} {named}"


def require_output(run: RunDirectory, folder: Path) -> None:
    """Raise UserError where a trial of a run is not to be packed into `folder`: it holds something else than a package.

    Or it is one that the run itself writes, such as `best_model/`, which has to stay what the leaderboard says.
    """
    own = [each.resolve() for each in (run.best_model, run.compressed)]
    if any(folder.resolve().is_relative_to(each) or each.is_relative_to(folder.resolve()) for each in own):
        raise UserError(f"{folder} is what the run itself writes; name another --output")
    try:
        read_package_config(folder)
    except (UserError, OSError):
        require_replaceable(folder)


def write_trial(record: RunRecord, number: int, folder: Path) -> Path:
    """Write trial `number`, with the weights that its row of the leaderboard was measured with, as a model directory.

    Temperature, figures and card are as those of the best model. They come from what the run keeps of its finalists,
    so that takes no data; of another trial, or one whose inputs are prepared otherwise than the best model's, the data
    is needed, and found as for a report. Raises UserError where there is no such trial or no weights of it.
    """
    trial = trial_to_pack(record, number)
    weights = _weights_inside(record.directory, number)
    preparation, columns = _preparation(record, trial)
    figures, temperature = _figures(record, trial)
    part = _Part(trial, weights, preparation)
    return _write(record, [part], columns, figures, folder, linear=False, temperature=temperature, asked=True)


@contextmanager
def packed_trial(record: RunRecord, number: int) -> Iterator[Path]:
    """A temporary folder with trial `number` as a model directory: what reads a run writes nothing into it.

    What the block raises names the trial's own folder.
    """
    with private_folder() as folder:
        package = write_trial(record, number, folder / "model")
        try:
            yield package
        except UserError as error:
            own = str(record.directory.trial(number).path)
            raise UserError(str(error).replace(str(package), own)) from error


def _weights_inside(run: RunDirectory, number: int) -> Path:
    """The weights of a trial; raises UserError where they are a link that leads out of the run."""
    path = run.trial(number).weights
    if not path.resolve().is_relative_to(run.path.resolve()):
        raise UserError(f"{path} is a link that leads out of the run, to {path.resolve()}: it is not read")
    return path


def _preparation(record: RunRecord, trial: TrialRecord) -> tuple[_Preparation, Mapping[str, Any]]:
    """How the inputs of a trial are prepared, and what is said of the columns of tables.

    As in `best_model/`, where that has a network whose inputs are prepared alike; else as the data is prepared.
    """
    folder = record.directory.best_model
    asked = redacted_values(trial.config["data"])
    try:
        config = read_package_config(folder)
        alike = next((member for member in config.members if member.config.data == asked), None)
        if alike is not None:
            part = folder / alike.folder
            files = {name: part / name for name in ENCODER_FILES if (part / name).exists()}
            if files and all(file.resolve().is_relative_to(folder.resolve()) for file in files.values()):
                content = {name: read_regular(file, MOST_ENCODER) for name, file in files.items()}
                columns: dict[str, Any] = {"column": config.column, "label_column": config.label_column}
                columns |= {"left_out": config.left_out, "steps": config.steps}
                return _Preparation(alike.vocabulary, lambda place: _write_files(place, content)), columns
    except (UserError, OSError):
        pass  # there is no such package, or it is damaged: the data says it, too
    prepared = prepared_data(record, trial.config)
    return _Preparation(prepared.vocabulary, prepared.encoder().save), columns_of(trial.config["data"], prepared)


def _write_files(place: Path, content: Mapping[str, bytes]) -> None:
    for name, each in content.items():
        (place / name).write_bytes(each)


def _figures(record: RunRecord, trial: TrialRecord) -> tuple[dict[str, Any], float]:
    """A trial's figures on validation and test, at the temperature that suits it, and that temperature.

    They are of what was kept of a finalist; of another trial of what it says now. Where the data has gone it is not
    calibrated, and there is its score alone.
    """
    name, kept = str(trial.number), read_predictions(record.directory)
    said = {split: each[name] for split, each in kept.said.items() if name in each}
    labels = kept.labels
    if "validation" not in said:
        try:
            said, labels = measure_trial(record, trial)
        except UserError:
            return {"validation": {record.metric: trial.score}, "test": None}, 1.0
    plain = {split: compute_metrics(each, labels[split]) for split, each in said.items()}
    temperature = fit_temperature(said["validation"], labels["validation"])
    validation, in_sample = calibrated_figures(said["validation"], labels["validation"], temperature)
    test = compute_metrics(calibrate(said["test"], temperature), labels["test"]) if "test" in said else None
    return _with_calibrated({"test": None, **plain}, {"validation": validation, "test": test}, in_sample), temperature


def _with_calibrated(
    figures: Mapping[str, Any], calibrated: Mapping[str, Any], in_sample: Mapping[str, float] | None
) -> dict[str, Any]:
    """The figures at a model's temperature, and what calibration has changed."""
    found = {**figures, **calibrated, "before_calibration": calibration_figures(figures)}
    return found | ({"calibrated_in_sample": dict(in_sample)} if in_sample else {})


def _write(
    record: RunRecord,
    parts: Sequence[_Part],
    columns: Mapping[str, Any],
    figures: Mapping[str, Any],
    target: Path,
    *,
    linear: bool,
    temperature: float,
    asked: bool = False,
) -> Path:
    """Write a package of networks and, with `linear`, the linear floor into `target`, whole or not at all."""
    config = {
        "format_version": OF_NETWORKS if parts else FORMAT_VERSION,
        "task": record.manifest["task"],
        "classes": list(record.manifest["data"]["classes"]),
        **columns,
        "run": record.directory.name,
        "members": [
            {
                "folder": f"members/{part.trial.number}" if len(parts) > 1 else ".",
                "trial": part.trial.number,
                "vocabulary": part.preparation.vocabulary,
                "config": redacted_values(part.trial.config),  # a model is given away
            }
            for part in parts
        ],
        "linear": "linear" if linear else None,
        "temperature": temperature,
    }
    written = {name: value for name, value in figures.items() if name not in BESIDE_FIGURES}
    with replace_folder(target) as folder:
        for member, part in zip(config["members"], parts, strict=True):
            (folder / member["folder"]).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part.weights, folder / member["folder"] / "model.safetensors")
            part.preparation.save(folder / member["folder"])
        if linear:
            shutil.copytree(record.directory.linear, folder / "linear")
        write_json(folder / NAME, config)
        write_json(folder / "metrics.json", written)
        members = [part.trial for part in parts]
        card = model_card(record, members, config, written, asked=asked)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return target
