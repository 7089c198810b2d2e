"""A model applied to a file of rows: labels and probabilities beside them, or figures about them."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from automl.data.files import replace_atomically
from automl.data.tables import find_files, read_batches, require_columns, table_format
from automl.results.finalists import confusion_matrix
from automl.results.package import Model
from automl.space import UserError
from automl.training.metrics import compute_metrics

LABEL = "predicted_label"
PROBABILITY = "probability_"
DIGITS = 6


def predict_file(model: Model, input: Path, output: Path | None, *, text: str | None = None) -> int:
    """Write the rows of `input` in their order, in its format, with a label and the probability of every class.

    Rows without text get none. Every other column stays as it is. Writes to stdout where `output` is None. Gives the
    number of rows without text. Raises UserError where the file or the column is missing or `output` is another
    kind of file.
    """
    (input,) = _single(input)
    column = text or model.text_column
    require_columns(input, [column])
    kind = table_format(input)
    if output is None:
        if kind in ("parquet", "arrow") and sys.stdout.isatty():
            raise UserError(f"{input.suffix} is no text; name a file with --output, or redirect stdout")
        skipped = _write(model, input, column, kind, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return skipped
    if table_format(output) != kind or output.suffix == ".gz":
        raise UserError(f"--output {output} is another kind of file than {input}; give it the same ending")
    if not output.parent.is_dir():
        raise UserError(f"there is no folder {output.parent}")
    with replace_atomically(output) as temporary, temporary.open("wb") as sink:
        return _write(model, input, column, kind, sink)


def evaluate_file(model: Model, data: str, *, text: str | None = None, label: str | None = None) -> dict[str, Any]:
    """Measure a model on labelled rows.

    Gives rows, skipped (rows without text or label), metrics, per_class (precision, recall, f1, rows) and confusion
    (true classes by row, predicted by column). Raises UserError where a label is none of the model's classes.
    """
    text, label = text or model.text_column, label or model.label_column
    numbers = {name: number for number, name in enumerate(model.classes)}
    parts: list[Any] = []
    truth: list[int] = []
    skipped = 0
    for path in find_files([data]):
        require_columns(path, [text, label])
        for batch in read_batches(path, [text, label]):
            pairs = [
                (content, str(name))
                for content, name in zip(batch.column(text).to_pylist(), batch.column(label).to_pylist(), strict=True)
                if not _missing(content) and not _missing(name)
            ]
            skipped += batch.num_rows - len(pairs)
            for _, name in pairs:
                if name not in numbers:
                    raise UserError(f"{path}: label {name!r} is none of the model's classes: {', '.join(numbers)}")
            parts.append(model.predict_probabilities([str(content) for content, _ in pairs]))
            truth.extend(numbers[name] for _, name in pairs)
    if not truth:
        raise UserError(f"{data} has no row with a text and a label")
    probabilities, labels = np.concatenate(parts), np.array(truth)
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), len(model.classes))
    return {
        "rows": len(labels),
        "skipped": skipped,
        "metrics": compute_metrics(probabilities, labels),
        "per_class": per_class(confusion, list(model.classes)),
        "classes": list(model.classes),
        "confusion": confusion,
    }


def per_class(confusion: list[list[int]], classes: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and rows of each class, from a confusion matrix [true][predicted]; 0 where undefined."""
    counts = np.array(confusion, dtype=float)
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    found = {}
    for number, name in enumerate(classes):
        precision = hits[number] / predicted[number] if predicted[number] else 0.0
        recall = hits[number] / true[number] if true[number] else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        found[name] = {"precision": precision, "recall": recall, "f1": f1, "rows": int(true[number])}
    return found


def _single(input: Path) -> list[Path]:
    files = find_files([str(input)])
    if len(files) != 1:
        raise UserError(f"{input} names {len(files)} files; give one")
    return files


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _write(model: Model, input: Path, column: str, kind: str, sink: IO[bytes]) -> int:
    skipped = 0
    writer: Any = None
    text_sink = io.TextIOWrapper(sink, encoding="utf-8", newline="") if kind in ("csv", "tsv", "jsonl") else None
    for batch, labels, probabilities in _predicted(model, input, column):
        skipped += labels.count(None)
        added = [LABEL, *(f"{PROBABILITY}{name}" for name in model.classes)]
        clash = set(added) & set(batch.schema.names)
        if clash:
            raise UserError(f"{input} has a column {sorted(clash)[0]!r} already")
        if text_sink is not None and kind != "jsonl":
            if writer is None:
                writer = csv.writer(text_sink, delimiter="\t" if kind == "tsv" else ",", lineterminator="\n")
                writer.writerow([*batch.schema.names, *added])
            values = [batch_column.to_pylist() for batch_column in batch.columns]
            for position, row in enumerate(zip(*values, strict=True)):
                writer.writerow([*row, labels[position], *_csv_numbers(probabilities[position])])
        elif text_sink is not None:
            for position, row in enumerate(batch.to_pylist()):
                extra = dict(zip(added, [labels[position], *probabilities[position]], strict=True))
                text_sink.write(json.dumps({**row, **extra}, ensure_ascii=False, default=str) + "\n")
        else:
            table = _with_columns(batch, added, labels, probabilities)
            if writer is None:
                make = pa.parquet.ParquetWriter if kind == "parquet" else pa.ipc.new_file
                writer = make(sink, table.schema)
            writer.write_table(table)
    if text_sink is not None:
        text_sink.flush()
        text_sink.detach()
    elif writer is not None:
        writer.close()
    return skipped


def _predicted(
    model: Model, input: Path, column: str
) -> Iterator[tuple[pa.RecordBatch, list[str | None], list[list[float | None]]]]:
    for batch in read_batches(input):
        texts = batch.column(column).to_pylist()
        usable = [position for position, text in enumerate(texts) if not _missing(text)]
        found = model.predict_probabilities([str(texts[position]) for position in usable])
        labels: list[str | None] = [None] * len(texts)
        probabilities: list[list[float | None]] = [[None] * len(model.classes) for _ in texts]
        for position, row in zip(usable, found, strict=True):
            labels[position] = model.classes[int(row.argmax())]
            probabilities[position] = [round(float(value), DIGITS) for value in row]
        yield batch, labels, probabilities


def _csv_numbers(row: list[float | None]) -> list[str]:
    return ["" if value is None else f"{value:.{DIGITS}f}" for value in row]


def _with_columns(
    batch: pa.RecordBatch, added: list[str], labels: list[str | None], probabilities: list[list[float | None]]
) -> pa.Table:
    table = pa.Table.from_batches([batch]).append_column(added[0], pa.array(labels, pa.string()))
    for position, name in enumerate(added[1:]):
        table = table.append_column(name, pa.array([row[position] for row in probabilities], pa.float64()))
    return table
