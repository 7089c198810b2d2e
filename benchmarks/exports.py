"""Do exports of every family say what the model says on all test rows, and how fast are they on one CPU thread?

    python benchmarks/exports.py --data DIR      DIR holds train, validation and test.parquet: columns text, label

Each family's default network is trained for an epoch, exported both ways and compared with the original on the test
rows. The latency is the median for a batch of 32 validation rows.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer
from measure import wide_console
from rich.table import Table

import automl
from automl.data import Batch, batches
from automl.results.finalists import prepared_data
from automl.results.study import read_run
from automl.training.run_directory import RunDirectory

FAMILIES = ("cnn", "rnn", "cnn_rnn", "rnn_cnn", "dpcnn", "tcn")
SPACE = """
name: exports
data: {{train: {data}/train.parquet, validation: [{data}/validation.parquet], test: {data}/test.parquet,
       text: text, label: label}}
model: {{{family}: {{}}}}
search: {{trials: 1, early_stopping: {{none: {{max_epochs: 1}}}}}}
resources: {{per_trial: {{cpus: 1}}}}
"""


def milliseconds(answer: Any, made: list[Batch]) -> float:
    found = []
    for batch in made:
        clock = time.thread_time()
        answer(batch)
        found.append(1000 * (time.thread_time() - clock))
    return float(np.median(found[3:]))


def measure(data: Path, family: str, scratch: Path) -> dict[str, Any]:
    space = scratch / f"{family}.yaml"
    space.write_text(SPACE.format(data=data.resolve(), family=family))
    run = automl.run(space, output=scratch / family, quiet=True).path
    record = read_run(RunDirectory(run))
    rows = prepared_data(record, record.ranked[0].config).rows("validation")
    assert rows is not None
    made = list(batches(rows, 32, shuffle=np.random.default_rng(0)))
    ((_, network),) = automl.load_model(run).members
    exports = {format: automl.export(run, format=format) for format in ("torch", "onnx")}
    program = torch.export.load(Path(exports["torch"].path) / "model.pt2").module()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(Path(exports["onnx"].path) / "model.onnx"), options)
    with torch.inference_mode():
        took = {
            "network": milliseconds(lambda batch: network(batch.tokens, batch.lengths), made),
            "torch": milliseconds(lambda batch: program(batch.tokens, batch.lengths), made),
            "onnx": milliseconds(
                lambda batch: session.run(None, {"tokens": batch.tokens.numpy(), "lengths": batch.lengths.numpy()}),
                made,
            ),
        }
    differences = {format: exported.largest_difference for format, exported in exports.items()}
    return {"rows": exports["onnx"].rows, "largest_difference": differences, "milliseconds": took}


def main(
    data: Annotated[Path, typer.Option(help="A folder with train, validation and test.parquet.")],
    family: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(FAMILIES)}; all without.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Measure and print a table; automl.export raises where a label differs."""
    torch.set_num_threads(1)
    figures = {}
    table = Table("family", "rows", "difference: torch", "onnx", "ms: network", "torch", "onnx")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("AUTOML_CACHE", f"{scratch}/cache")
        for name in family or FAMILIES:
            found = figures[name] = measure(data, name, Path(scratch))
            table.add_row(
                name,
                f"{found['rows']:,}",
                *(f"{found['largest_difference'][format]:.1g}" for format in ("torch", "onnx")),
                *(f"{found['milliseconds'][format]:.2f}" for format in ("network", "torch", "onnx")),
            )
    wide_console().print(table)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
