"""The best model looked at row by row: whether its probabilities are right, and what it is most wrong about.

What is found is kept in `examination.json`, so that a report can be written again without the data.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from automl.data import Prepared
from automl.data.images import ImageEncoder
from automl.data.modalities import modality_of
from automl.data.origins import find_origins
from automl.data.parts import open_split
from automl.data.sequences import unpack
from automl.results.calibration import calibrate, calibrate_out_of_fold
from automl.results.finalists import prepared_data
from automl.results.intervals import wilson_interval
from automl.results.predictions import LINEAR, average, read_predictions
from automl.results.study import RunRecord
from automl.space import UserError
from automl.space.objectives import BINS
from automl.training.run_directory import write_json
from automl.training.run_files import Examination, read_part

HARDEST = 12
MOST_CHARACTERS = 400
MOST_STEPS = 200  # of a series
MOST_CHANNELS = 3

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


def examine(record: RunRecord) -> None:
    """Write `examination.json` of the best model, from what it said of the rows that its confusion matrix counts.

    `{"model": [trials, and "linear"], "split": ..., "reliability": [bin, ...], "hardest": [row, ...]}`. Where the data
    has gone, what was written of the same model stays; of another it is removed.
    """
    run, finalists = record.directory, record.finalists or {}
    members = _members(record)
    said = read_predictions(run).said.get(finalists.get("split", ""), {})
    if not members or not set(members) <= said.keys():
        run.examination.unlink(missing_ok=True)
        return
    try:
        best = next(trial for trial in record.ranked if members[0] in (str(trial.number), LINEAR))
        prepared = prepared_data(record, best.config)
    except UserError:
        if run.examination.exists() and read_examination(record) is None:
            run.examination.unlink()
        return
    networks = [said[name] for name in members if name != LINEAR]
    together = average(networks, said[LINEAR] if LINEAR in members else None)
    probabilities = calibrate(together, finalists["calibration"]["temperature"])
    labels = prepared.labels(finalists["split"])
    out_of_fold = finalists["split"] == "validation" and "in_sample" in finalists["calibration"]
    shown = calibrate_out_of_fold(together, labels) if out_of_fold else probabilities
    write_json(
        run.examination,
        {
            "model": members,
            "split": finalists["split"],
            "reliability": reliability(shown, labels),
            "hardest": hardest(prepared, best.config["data"], finalists["split"], probabilities, labels),
        },
    )


def read_examination(record: RunRecord) -> Mapping[str, Any] | None:
    """What `examine` wrote of the model that is best now; else None."""
    found = read_part(record.directory.examination, Examination)
    return found if found and found["model"] == _members(record) else None


def _members(record: RunRecord) -> list[str]:
    """The names, in the predictions, of the models that the best model is made of."""
    if record.ensemble:
        return [*map(str, record.ensemble["members"]), *([LINEAR] if record.ensemble["linear"] else [])]
    best = (record.finalists or {}).get("confusion_of")
    return [str(best)] if isinstance(best, int) or record.linear else []


def calibration_text(record: RunRecord) -> str:
    """How far the best model's probabilities are from the truth, in words; empty before that is measured."""
    found = (record.finalists or {}).get("calibration")
    if not found:
        return ""
    split = (record.finalists or {}).get("split", "")
    error = (found.get(split) or {}).get("calibration_error")
    if error is None:
        return ""
    sentence = f"Its probabilities and how often it is right are {100 * error:.1f} points apart on average."
    own = "these" if split == "validation" else "the validation"
    if found["temperature"] == 1:
        return f"{sentence} No temperature made that better on {own} rows."
    said = f"{sentence} They are taken at a temperature of {found['temperature']:.2f}, chosen on {own} rows"
    if split == "validation" and "in_sample" in found:
        return f"{said}; each fifth of the rows is shown at one that was chosen on the others."
    return f"{said}."


def reliability(probabilities: Probabilities, labels: Labels) -> list[dict[str, float]]:
    """How often the model is right, by how sure it is (Guo et al. 2017, figure 1), in 15 bins of equal width.

    `probabilities` are float32 [rows, classes], `labels` int64 [rows]. Of each bin that has rows: how many, the mean of
    their highest probabilities, the share that is right, and its 95 % interval.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        share = float(right[inside].mean())
        low, high = wilson_interval(share, int(inside.sum()))
        found.append(
            {
                "rows": int(inside.sum()),
                "confidence": round(float(confidence[inside].mean()), 4),
                "right": round(share, 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }
        )
    return found


def hardest(
    prepared: Prepared, data: Mapping[str, Any], split: str, probabilities: Probabilities, labels: Labels
) -> list[dict[str, Any]]:
    """The wrong rows whose true class the model thought least likely, at most 12, with what they hold.

    `probabilities` are float32 [rows, classes], `labels` int64 [rows], of the rows of `split`.
    """
    of_truth = probabilities[np.arange(len(labels)), labels]
    rows = np.argsort(of_truth, kind="stable")[:HARDEST]
    rows = rows[probabilities[rows].argmax(axis=1) != labels[rows]]
    inputs = open_split(prepared.source / f"{split}.arrow").column(0).take(pa.array(rows)).to_pylist()
    origins = find_origins(prepared.source, split, rows.tolist()) or [f"row {row + 1} of {split}" for row in rows]
    return [
        {
            "row": int(row),
            "source": origin,
            "truth": prepared.classes[labels[row]],
            "said": prepared.classes[int(probabilities[row].argmax())],
            "probability_said": round(float(probabilities[row].max()), 4),
            "probability_truth": round(float(of_truth[row]), 4),
            **_shown(each, modality_of(data).name, prepared),
        }
        for row, each, origin in zip(rows, inputs, origins, strict=True)
    ]


def _shown(each: Any, kind: str, prepared: Prepared) -> dict[str, Any]:
    """What a page can show of a row: `text`, `image` (a data URI) or `series` ([channels][steps] from 0 to 1)."""
    if kind == "text":
        text = " ".join(each.split())
        return {"text": text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."}
    if kind == "image":
        encoder = prepared.encoder()
        assert isinstance(encoder, ImageEncoder)
        return {"image": _png(encoder.encode([each], others=[]).values[0])}
    steps = unpack(each)[:, :MOST_CHANNELS]
    steps = steps[:: -(-len(steps) // MOST_STEPS)]
    width = np.ptp(steps) or 1.0
    return {"series": ((steps - steps.min()) / width).round(3).T.tolist()}


def _png(pixels: npt.NDArray[Any]) -> str:
    """A data URI of an image uint8 [height, width, 1 or 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def confused(matrix: list[list[int]], classes: list[str], most: int) -> list[tuple[str, str, int, float]]:
    """The pairs that are taken for each other most: true and predicted class, rows, and share of the true class."""
    pairs = [
        (classes[truth], classes[said], count, count / sum(counts))
        for truth, counts in enumerate(matrix)
        for said, count in enumerate(counts)
        if count and said != truth
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]
