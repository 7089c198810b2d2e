"""What `automl compress` makes of networks that were trained as usual: accuracy lost, bytes, latency on one CPU thread.

    python benchmarks/compression.py --data DIR      DIR holds train, validation and test.parquet: columns text, label

Each network is trained alone for `--epochs` epochs under each seed, then compressed. Figures are means over the seeds,
latencies their medians. Pruned networks are trained five epochs more; `trained on` is the original after the same, so
that what those epochs are worth is not taken for a merit of pruning.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from measure import wide_console
from rich.table import Table

import automl
from automl.models import build
from automl.results.finalists import prepared_data
from automl.results.study import read_run
from automl.training.fine_tuning import fine_tune
from automl.training.inference import load_weights, predict_probabilities
from automl.training.metrics import compute_metrics
from automl.training.run_directory import RunDirectory

SETTINGS = "embedding: 128, dropout: 0.5, token_dropout: 0.2, head: 0"
NETWORKS = {
    "cnn": f"{{{SETTINGS}, channels: 100, kernel_sizes: [3, 4, 5], activation: relu, pooling: max}}",
    "rnn": f"{{{SETTINGS}, cell: lstm, hidden: 128, bidirectional: true, pooling: max, layers: 1}}",
}
MORE_EPOCHS = 5
SPACE = """
name: compression
data: {{train: {data}/train.parquet, validation: [{data}/validation.parquet], test: {data}/test.parquet,
       text: text, label: label, tokenizer: {{word: {{min_count: 1, vocabulary: 20000}}}}}}
model: {{{family}: {network}}}
training: {{optimizer: {{adamw: {{learning_rate: 0.001}}}}, batch_size: 64}}
search: {{trials: 1, seed: {seed}, early_stopping: {{none: {{max_epochs: {epochs}}}}}}}
resources: {{per_trial: {{cpus: 1}}}}
"""


def measure(data: Path, family: str, seed: int, epochs: int, scratch: Path) -> list[dict[str, Any]]:
    """The rows of one network: the original, the original trained on, and its smaller ones."""
    space = scratch / f"{family}-{seed}.yaml"
    space.write_text(
        SPACE.format(data=data.resolve(), family=family, network=NETWORKS[family], seed=seed, epochs=epochs)
    )
    run = automl.run(space, output=scratch / f"run-{family}-{seed}", quiet=True).path
    variants = automl.compress(run, epochs=MORE_EPOCHS)
    rows = [{**vars(variant)} for variant in variants]
    rows.insert(1, trained_on(RunDirectory(run), rows[0]))
    return rows


def trained_on(run: RunDirectory, original: dict[str, Any]) -> dict[str, Any]:
    record = read_run(run)
    trial = record.ranked[0]
    prepared = prepared_data(record, trial.config)
    sizes = {"vocabulary": prepared.vocabulary, "classes": len(prepared.classes)}
    module = build(trial.config["model"], **sizes)
    module.load_state_dict(load_weights(trial.config, **sizes, path=run.trial(trial.number).weights).state_dict())
    train, validation, test = (prepared.rows(split) for split in ("train", "validation", "test"))
    assert train is not None and validation is not None and test is not None
    teacher = automl.load_model(run.path).predict_probabilities(prepared.texts("train") or [])
    fine_tune(
        module,
        train,
        teacher,
        validation,
        trial.config["training"],
        epochs=MORE_EPOCHS,
        seed=record.manifest["seed"],
        metric="accuracy",
        maximize=True,
    )
    found = {}
    for split, rows in (("validation", validation), ("test", test)):
        said = predict_probabilities(module, rows, device=torch.device("cpu"))
        found[split] = compute_metrics(said, rows.labels)["accuracy"]
    return {
        **original,
        **found,
        "name": "trained on",
        "recommended": False,
        "test_lost": original["test"] - found["test"],
    }


def main(
    data: Annotated[Path, typer.Option(help="A folder with train, validation and test.parquet.")],
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs that the original is trained for.")] = 12,
    family: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(NETWORKS)}; all without.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Measure and print a table for each network."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("AUTOML_CACHE", f"{scratch}/cache")
        for name in family or NETWORKS:
            runs = [measure(data, name, seed, epochs, Path(scratch)) for seed in range(seeds)]
            figures[name] = runs
            table = Table("model", "test", "points lost", "KB", "smaller", "faster, 1 row", "32 rows", "recommended")
            for rows in zip(*runs, strict=True):
                speed = {size: np.median([row["faster"][size] for row in rows]) for size in ("1", "32")}
                table.add_row(
                    rows[0]["name"],
                    f"{np.mean([row['test'] for row in rows]):.4f}",
                    f"{100 * np.mean([row['test_lost'] for row in rows]):+.2f}",
                    f"{np.mean([row['bytes'] for row in rows]) / 1000:,.0f}",
                    f"{np.mean([row['smaller'] for row in rows]):.1f}x",
                    f"{speed['1']:.1f}x",
                    f"{speed['32']:.1f}x",
                    f"{sum(row['recommended'] for row in rows)} of {len(rows)}",
                )
            wide_console().print(name, table)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
