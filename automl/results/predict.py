"""A model applied to a file of rows: labels and probabilities beside them, or figures about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from automl.data.columns import blank, label_column
from automl.data.csv_rows import look_at_csv, require_closed_quotes
from automl.data.files import replace_atomically
from automl.data.formats import IMAGE_FOLDER, packing, table_format
from automl.data.tables import column_names, find_files, read_batches, require_columns
from automl.data.wide import Column, input_column, input_columns
from automl.results.finalists import confusion_matrix
from automl.results.given_files import STDIN, image_files, image_windows, local_file, single, skipped_in
from automl.results.input_rows import Window, open_rows, read_inputs
from automl.results.labelled_rows import DIGITS, Labelled, standard_output, write_labelled
from automl.results.package import Model
from automl.results.row_errors import isolate_failures
from automl.space import UserError
from automl.space.spinner import waiting
from automl.space.spreadsheet import spreadsheet_cell
from automl.training.metrics import compute_metrics

LABEL = "predicted_label"
ERROR = "prediction_error"
PROBABILITY = "probability_"
SHOWN_CLASSES = 10
LABELLING = "labelling the rows"


def predict_file(
    model: Model,
    input: str | Path,
    output: Path | None,
    *,
    text: str | None = None,
    excel: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Write the rows of `input` in their order, in its format, with a label and the probability of every class.

    `input` may be the text `-` for stdin, see `local_file`. Of a folder or of files of images they are the names of the
    files, as CSV; `tell` hears what of a folder is skipped. With `excel` no cell of a CSV file begins what a
    spreadsheet would run, numbers aside; without it cells are exact.

    A row that cannot be used (no text, another type, a line that cannot be parsed, one at which anything is raised)
    gets none, and the reason in the column `prediction_error`; the rows beside it get theirs. Every other column stays
    as it is. Rows pass through in windows, so memory does not grow with the file. Writes to stdout where `output` is
    None. Gives the number of rows without a label. Raises UserError where the file or the column is missing, `output`
    is `input` or another kind of file, or the columns to add are there already; then `output` is left as it was.
    """
    with local_file(input, model.modality) as path:
        return _predict_file(model, path, output, text or model.column, excel, tell, input == STDIN)


def _predict_file(
    model: Model,
    input: Path,
    output: Path | None,
    column: Column,
    excel: bool,
    tell: Callable[[str], None],
    is_stdin: bool,
) -> int:
    images = image_files(input, model.modality)
    folder = input
    input = input if images else single(input)
    kind = "csv" if images or table_format(input) == IMAGE_FOLDER else table_format(input)
    added = [LABEL, *(f"{PROBABILITY}{name}" for name in model.classes), ERROR]
    if excel and kind not in ("csv", "tsv"):
        raise UserError(f"--excel is for CSV; {input.name} and what is written of it are {kind}")
    guard = spreadsheet_cell if excel else str
    if images:
        shown = ["stdin"] if is_stdin else [str(image) for image in images]
        names, windows = ["file"], image_windows(images, model.modality, shown)
    else:
        names, windows = open_rows(input, column, model.modality, model.no_inputs, model.steps_in(column))
    _require_free(input, added, names)
    if (skipped := skipped_in(folder)) is not None:
        tell(skipped)
    if output is None:
        if kind in ("parquet", "arrow") and sys.stdout.isatty():
            raise UserError(f"{input.suffix} is no text; name a file with --output, or redirect stdout")
        with waiting(LABELLING):
            unlabelled = write_labelled(_labelled(model, windows), kind, names, added, standard_output(), guard)
        sys.stdout.flush()
        return unlabelled
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; name a file")
    if table_format(output) != kind:
        raise UserError(f"--output {output} is another kind of file than {input}; give it the ending .{kind}")
    if not output.parent.is_dir():
        raise UserError(f"there is no folder {output.parent}")
    if not images and output.exists() and output.samefile(input):
        raise UserError(f"--output {output} is the input itself; name another file")
    with (
        waiting(LABELLING),
        replace_atomically(output) as temporary,
        pa.output_stream(pa.OSFile(os.fsencode(temporary), "wb"), compression=packing(output)) as sink,
    ):
        return write_labelled(_labelled(model, windows), kind, names, added, sink, guard)


def read_usable(model: Model, input: str | Path) -> list[Any]:
    """The inputs of a file, without those that cannot be used; raises UserError as `predict_file` does."""
    with local_file(input, model.modality) as path:
        if images := image_files(path, model.modality):
            windows = image_windows(images, model.modality, [str(image) for image in images])
        else:
            others, steps = model.no_inputs, model.steps_in(model.column)
            _, windows = open_rows(single(path), model.column, model.modality, others, steps)
        return [each for window in windows for each in window.inputs if each is not None]


def evaluate_file(model: Model, data: str, *, text: str | None = None, label: str | None = None) -> dict[str, Any]:
    """Measure a model on labelled rows.

    Gives rows, skipped (rows that cannot be used), metrics, per_class (precision, recall, f1, rows) and confusion
    (true classes by row, predicted by column). `data` may be `-` for stdin. Raises UserError where a label is none of
    the model's classes.
    """
    with local_file(data, model.modality) as path, waiting("measuring the model"):
        return _evaluate(model, str(path), text or model.column, label or model.label_column)


def _evaluate(model: Model, data: str, place: Column, label: str) -> dict[str, Any]:
    others, steps = list(dict.fromkeys([label, *model.no_inputs])), model.steps_in(place)
    numbers = {name: number for number, name in enumerate(model.classes)}
    parts: list[npt.NDArray[np.float32]] = []
    truth: list[int] = []
    skipped = 0
    for path in find_files([data]):
        require_columns([path], [label])
        require_closed_quotes(path, look_at_csv(path, label))
        columns = input_columns(path, model.modality, place, column_names(path), others, steps)
        for batch in read_batches(path, [*columns, label]):
            column = input_column(batch, model.modality, place, others, steps)
            inputs, errors = read_inputs(column, f"{path}: column {place!r}", model.modality)
            names = label_column(batch.column(label), f"{path}: column {label!r}")
            unlabelled = blank(names)
            usable = [row for row, error in enumerate(errors) if error is None and not unlabelled[row]]
            found = names.take(pa.array(usable, pa.int64())).to_pylist()
            skipped += batch.num_rows - len(found)
            for name in found:
                if name not in numbers:
                    raise UserError(_unknown_label(path, name, model.classes))
            for name, said in zip(found, _said(model, [inputs[row] for row in usable])[0], strict=True):
                if said is None:
                    skipped += 1
                else:
                    parts.append(said)
                    truth.append(numbers[name])
    if not truth:
        raise UserError(f"{data} has no row with {_a(model.modality.name)} and a label")
    probabilities, labels = np.stack(parts), np.array(truth)
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


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _require_free(input: Path, added: Sequence[str], there: Sequence[str]) -> None:
    for name in added:
        if name in there:
            raise UserError(f"{input} has a column {name!r} already; rename or remove it first")


def _unknown_label(path: Path, name: str, classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:SHOWN_CLASSES]) + (", ..." if len(classes) > SHOWN_CLASSES else "")
    close = get_close_matches(name, classes, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{path}: label {name!r} is none of the model's classes{hint} (they are {shown})"


def _labelled(model: Model, windows: Iterator[Window]) -> Iterator[Labelled]:
    for window in windows:
        there = [number for number, each in enumerate(window.inputs) if each is not None]
        found: list[npt.NDArray[np.float32] | None] = [None] * len(window.inputs)
        for number, said, error in zip(there, *_said(model, [window.inputs[each] for each in there]), strict=True):
            found[number], window.errors[number] = said, error
        labels: list[str | None] = []
        probabilities: list[list[float | None]] = []
        for row in found:
            labels.append(None if row is None else model.classes[int(row.argmax())])
            probabilities.append(
                [None] * len(model.classes) if row is None else [round(float(share), DIGITS) for share in row]
            )
        yield window, labels, probabilities


def _said(model: Model, inputs: list[Any]) -> tuple[list[npt.NDArray[np.float32] | None], list[str | None]]:
    """The probabilities [classes] of each input, None where it cannot be computed, and the reasons."""
    found: list[npt.NDArray[np.float32] | None] = []
    errors: list[str | None] = []
    work = isolate_failures(lambda start, end: model.probabilities(inputs[start:end]), len(inputs))
    for start, end, said, error in work:
        found += [None] if said is None else list(said)
        errors += [error] * (end - start)
    return found, errors
