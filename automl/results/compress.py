"""The best network made smaller and faster, in several ways, each measured as what it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from automl.data import DenseRows, Prepared, Rows
from automl.data.files import replace_folder, require_replaceable
from automl.models import build, can_be_narrowed, lexicon_of, narrow
from automl.results.calibration import calibrate, calibrated_figures, fit_temperature
from automl.results.finalists import prepared_data
from automl.results.package import load_model
from automl.results.package_config import OF_NETWORKS
from automl.results.packing import trial_to_pack
from automl.results.recommendation import may_be_guessing
from automl.results.story import original_text, tested_text
from automl.results.study import RunRecord, TrialRecord
from automl.space import UserError
from automl.space.urls import redacted_values
from automl.training.fine_tuning import fine_tune, prune_by_magnitude
from automl.training.inference import cpu_only, load_weights, one_thread, predict_probabilities
from automl.training.latency import latencies
from automl.training.metrics import compute_metrics
from automl.training.packed_weights import pack
from automl.training.run_directory import read_json, write_json
from automl.training.tensor_files import write_tensors

FEATURES_LEFT = {"half": "a half", "quarter": "a quarter"}
WEIGHTS_LEFT = 0.25
TURNS = 3  # in which latencies are measured; the least of the medians counts, for others use the machine too

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Variant:
    """One network: how it came about, how good it is, what it costs.

    `lost` is how much worse it is on validation than the original, `test_lost` on test (None without a test set), in
    units of the run's metric. `bytes` are those of its weights on disk; `latency_ms` is the median for a batch, by its
    size, on one CPU thread.
    """

    name: str
    how: str
    validation: float
    test: float | None
    lost: float
    test_lost: float | None
    bytes: int
    smaller: float
    latency_ms: dict[str, float]
    faster: dict[str, float]
    recommended: bool = False
    path: str | None = None


@dataclass(frozen=True)
class _Subject:
    """What is compressed and on what it is measured."""

    record: RunRecord
    trial: TrialRecord
    prepared: Prepared
    weights: Weights
    teacher: npt.NDArray[np.float32]
    epochs: int
    families: Sequence[str]

    def rows(self, split: str) -> Rows | DenseRows | None:
        return self.prepared.rows(split)

    def build(self, model: Mapping[str, Any], weights: Weights) -> nn.Module:
        sizes = {"vocabulary": self.prepared.vocabulary, "classes": len(self.prepared.classes)}
        module = build(model, **sizes, lexicon=lexicon_of(weights))
        module.load_state_dict(dict(weights))
        return module.eval()

    def tuned(self, module: nn.Module, masks: Mapping[str, Tensor] | None = None) -> nn.Module:
        train, validation = self.rows("train"), self.rows("validation")
        assert train is not None and validation is not None  # every prepared data set has them
        with one_thread():
            fine_tune(
                module,
                train,
                self.teacher,
                validation,
                self.trial.config["training"],
                epochs=self.epochs,
                seed=self.record.manifest["seed"],
                metric=self.record.metric,
                maximize=self.record.maximize,
                masks=masks,
            )
        return module


def compress(
    record: RunRecord,
    output: Path,
    *,
    trial: int | None = None,
    tolerance: float = 0.005,
    epochs: int = 5,
    families: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> list[Variant]:
    """Write smaller models of one of a run's trials into folders of `output`; gives the original and them.

    `int8` keeps the weights in eight bits. `pruned` keeps a quarter of them, the largest. `half` and `quarter` have
    that share of the features of each layer, also in eight bits. Pruned ones are trained on for `epochs`, with what the
    best model says of the train rows beside the labels. Each is a model directory as `automl predict` takes it,
    calibrated anew. Of those that lose at most `tolerance` on validation the one with the least bytes times
    milliseconds is recommended. What is made smaller is `trial`; without it the best trial, of an ensemble its first
    member (`story.original_text`). Raises UserError where there are no weights of it, where the run's data has gone,
    or where its model is of a user's own family that `families` does not name.
    """
    best = _original(record, trial)
    if not record.directory.best_model.is_dir():
        raise UserError(f"the run {record.directory.path} has no best model yet; automl report writes it")
    require_replaceable(output, record.directory.compressed_record.name)
    prepared = prepared_data(record, best.config)
    story = original_text(record, best)
    tell(story)
    tell(f"asking the best model about {record.manifest['data']['profile']['rows']['train']:,} train rows")
    with cpu_only(record.cpu_only):
        model = load_model(record.directory.best_model, families)
        teacher = model.probabilities(prepared.inputs("train") or [])
    weights = load_weights(
        best.config,
        vocabulary=prepared.vocabulary,
        classes=len(prepared.classes),
        path=record.directory.trial(best.number).weights,
        families=families,
    ).state_dict()
    subject = _Subject(record, best, prepared, weights, teacher, epochs, families)
    model = best.config["model"]

    found = [_measured(subject, "original", "as trained", subject.build(model, weights), model, None)]
    with replace_folder(output) as folder:

        def add(name: str, how: str, module: nn.Module, model: Mapping[str, Any]) -> None:
            variant = _measured(subject, name, how, _write(subject, name, module, model, folder), model, folder / name)
            found.append(_against(variant, found[0], record.maximize))
            tell(f"{name}: {record.metric} {variant.validation:.4f} on validation, {variant.bytes:,} bytes")

        add("int8", "weights in 8 bits", subject.build(model, weights), model)
        tell(f"pruning weights, {epochs} epochs")
        module = subject.build(model, weights)
        masks = prune_by_magnitude(module, WEIGHTS_LEFT)
        add("pruned", f"{WEIGHTS_LEFT:.0%} of the weights, in 8 bits", subject.tuned(module, masks), model)
        if can_be_narrowed(model):
            left: tuple[Mapping[str, Any], Weights] = (model, weights)
            for name, share in FEATURES_LEFT.items():
                tell(f"pruning features, {epochs} epochs")
                left = narrow(*left, 0.5)  # step by step: each time what is left has been trained on
                module = subject.tuned(subject.build(*left))
                left = (left[0], module.state_dict())
                add(name, f"{share} of the features, in 8 bits", module, left[0])
        else:
            tell(f"fewer features are not tried: {next(iter(model))} is no family whose features can be taken out")
        found = _recommend(found, tolerance, output, tells=not may_be_guessing(record, best.number))
        rows = [asdict(variant) for variant in found]
        content = {"schema_version": 1, "metric": record.metric, "trial": best.number, "text": story, "variants": rows}
        write_json(folder / record.directory.compressed_record.name, content)
    return found


def _original(record: RunRecord, asked: int | None) -> TrialRecord:
    """The trial that is made smaller: that which was asked for, else the best one whose weights are kept."""
    if asked is not None:
        return trial_to_pack(record, asked)
    best = next((trial for trial in record.ranked if record.has_weights(trial)), None)
    if best is None:
        why = "no trial's weights are kept" if record.ranked else "no trial has ended"
        raise UserError(f"the run {record.directory.path} has no best model: {why}")
    return best


def _write(subject: _Subject, name: str, module: nn.Module, model: Mapping[str, Any], output: Path) -> nn.Module:
    """Write the weights of a variant and how to build it; gives the network as it is loaded again."""
    folder = output / name
    folder.mkdir()
    write_tensors(folder / "model.safetensors", pack(module.state_dict()))
    subject.prepared.encoder().save(folder)
    config = {**subject.trial.config, "model": dict(model)}
    return load_weights(
        config,
        vocabulary=subject.prepared.vocabulary,
        classes=len(subject.prepared.classes),
        path=folder / "model.safetensors",
        families=subject.families,
    )


def _measured(
    subject: _Subject, name: str, how: str, module: nn.Module, model: Mapping[str, Any], folder: Path | None
) -> Variant:
    """Measure a network, and complete its folder as a model directory where it has one."""
    record, temperature = subject.record, 1.0
    figures: dict[str, dict[str, float]] = {}
    in_sample: dict[str, float] = {}
    for split in ("validation", "test"):
        rows = subject.rows(split)
        if rows is None:
            continue
        with one_thread():
            said = predict_probabilities(module, rows, device=next(module.parameters()).device)
        if split == "validation":
            temperature = fit_temperature(said, rows.labels)
            figures[split], in_sample = calibrated_figures(said, rows.labels, temperature)
        else:
            figures[split] = compute_metrics(calibrate(said, temperature), rows.labels)
        figures[split][record.metric] = compute_metrics(said, rows.labels)[record.metric]
    weights = folder / "model.safetensors" if folder else record.directory.trial(subject.trial.number).weights
    if folder is not None:
        part = {
            "folder": ".",
            "trial": subject.trial.number,
            "vocabulary": subject.prepared.vocabulary,
            "config": redacted_values({**subject.trial.config, "model": dict(model)}),
        }
        described = read_json(record.directory.best_model / "config.json")
        changed = {"members": [part], "linear": None, "temperature": temperature, "compressed": how}
        changed |= {"format_version": OF_NETWORKS}
        write_json(folder / "config.json", {**described, **changed})
        write_json(folder / "metrics.json", {"test": None, **figures, "calibrated_in_sample": in_sample})
        card = f"# {record.manifest['name']}, compressed: {how}\n\nMade of trial {subject.trial.number} of the run "
        card += (
            f"`{record.directory.name}`; `metrics.json` says how good it is. {original_text(record, subject.trial)} "
        )
        card += f"{tested_text(record, figures)}\n\nUse: `automl predict . your.csv`\n"
        (folder / "README.md").write_text(card, encoding="utf-8")
    latency = _latency(module, subject)
    one = dict.fromkeys(latency, 1.0)
    test = figures["test"][record.metric] if "test" in figures else None
    validation = figures["validation"][record.metric]
    return Variant(name, how, validation, test, 0.0, 0.0, weights.stat().st_size, 1.0, latency, one)


def _latency(module: nn.Module, subject: _Subject) -> dict[str, float]:
    rows = subject.rows("validation")
    assert rows is not None  # every prepared data set has them
    found = {}
    for size in (1, 32):
        medians = [np.median(latencies(module, rows, batch_size=size, clock=time.thread_time)) for _ in range(TURNS)]
        found[str(size)] = round(float(min(medians)), 4)
    return found


def _against(variant: Variant, original: Variant, maximize: bool) -> Variant:
    sign = 1 if maximize else -1
    both = variant.test is not None and original.test is not None
    return replace(
        variant,
        lost=round(sign * (original.validation - variant.validation), 6),
        test_lost=round(sign * (original.test - variant.test), 6) if both else None,  # type: ignore[operator]
        smaller=round(original.bytes / variant.bytes, 2),
        faster={size: round(original.latency_ms[size] / took, 2) for size, took in variant.latency_ms.items()},
    )


def _recommend(found: list[Variant], tolerance: float, output: Path, *, tells: bool) -> list[Variant]:
    """Say which one is recommended: the original where no other is good enough, or where the rows do not tell."""
    good = [variant for variant in found[1:] if variant.lost <= tolerance and tells]
    chosen = min(good, key=lambda variant: variant.bytes * variant.latency_ms["32"], default=found[0])
    return [
        replace(variant, recommended=variant is chosen, path=str(output / variant.name) if number else None)
        for number, variant in enumerate(found)
    ]
