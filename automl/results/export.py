"""The best model for other programs: a `torch.export` program or ONNX, compared with the original on real rows."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from automl.data import Encoder, batches
from automl.data.files import replace_folder, require_replaceable
from automl.models.exportable import export_program
from automl.results.calibration import calibrate
from automl.results.package import Model
from automl.space import UserError
from automl.training.inference import predict_probabilities
from automl.training.run_directory import write_json

CLOSE = 1e-4  # how far a probability may be off
FILES = {"onnx": "model.onnx", "torch": "model.pt2"}

Answer = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.float32]]


class ExportError(Exception):
    """The model cannot be exported, or what was exported says something else."""


@dataclass(frozen=True)
class Exported:
    """An export and how it compares: on so many rows no probability is farther off than `largest_difference`."""

    path: str
    rows: int
    largest_difference: float


def export(model: Model, format: str, output: Path, texts: Sequence[str]) -> Exported:
    """Write `model` as `onnx` or `torch` and its preparation into the folder `output`, once compared on `texts`.

    The network takes tokens int64 [rows, length] (0 is padding) and lengths int64 [rows], and gives calibrated
    probabilities float32 [rows, classes], for any number of rows of any length. Raises UserError where the model is an
    average or a package is missing, ExportError where it cannot be exported or does not agree; then nothing is written.
    """
    if not model.members:
        raise UserError(
            "the model is the linear baseline, which is no network; automl compress makes small networks of the best "
            "trial to export, and search.pack_linear: false has a search pack a network"
        )
    if len(model.members) > 1 or model.linear is not None:
        raise UserError(
            "the model is an average of several, which is no single network; automl compress makes one of it to export"
        )
    ((encoder, network),) = model.members
    if not isinstance(encoder, Encoder):
        raise UserError("only models for texts can be exported")
    require_replaceable(output, *FILES.values())
    if format == "onnx":
        _require_onnx()
    try:
        program = export_program(network, model.temperature)
    except ValueError as error:
        raise ExportError(f"the network cannot be exported: {error}") from error
    with replace_folder(output) as folder:
        path = folder / FILES[format]
        if format == "onnx":
            _write_onnx(program, path)
            answer = _onnx(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of weights that share memory
                torch.export.save(program, path)
            answer = _program(path)
        difference = _compare(model, answer, texts)
        encoder.save(folder)
        described = {
            "classes": list(model.classes),
            "text_column": model.column,
            "inputs": {"tokens": "int64 [rows, length], 0 is padding", "lengths": "int64 [rows]"},
            "outputs": {"probabilities": "float32 [rows, classes]"},
            "compared": {"rows": len(texts), "largest_difference": difference},
        }
        write_json(folder / "config.json", described)
    return Exported(str(output), len(texts), difference)


def _require_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise UserError(f"ONNX needs the package {package}: pip install 'automl[export]'")


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not there
    names = {"input_names": ["tokens", "lengths"], "output_names": ["probabilities"]}
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(program, (), dynamo=True, verbose=False, **names)  # type: ignore[arg-type]
        assert made is not None  # as `dynamo` says
        made.save(str(path))


def _onnx(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def answer(tokens: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        (found,) = session.run(None, {"tokens": tokens, "lengths": lengths})
        probabilities: npt.NDArray[np.float32] = found
        return probabilities

    return answer


def _program(path: Path) -> Answer:
    module = torch.export.load(path).module()

    @torch.no_grad()
    def answer(tokens: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = module(torch.from_numpy(tokens), torch.from_numpy(lengths)).numpy()
        return found

    return answer


def _compare(model: Model, answer: Answer, texts: Sequence[str]) -> float:
    """The largest difference of a probability; raises ExportError where it or a label is another."""
    if not texts:
        raise UserError("there are no rows to compare the export with")
    ((encoder, network),) = model.members
    assert isinstance(encoder, Encoder)
    rows = encoder.encode(texts)
    # As the export computes: on the CPU in float32. A GPU's bfloat16 is off by more than may differ.
    exact = copy.deepcopy(network).cpu().float()
    said = predict_probabilities(exact, rows, device=torch.device("cpu"))
    wanted = calibrate(said, model.temperature)
    found = np.zeros_like(wanted)
    for batch in batches(rows, 64, shuffle=None):
        found[batch.index.numpy()] = answer(batch.tokens.numpy(), batch.lengths.numpy())
    difference = float(np.abs(found - wanted).max())
    top = np.sort(wanted, axis=1)
    clear = top[:, -1] - top[:, -2] > 2 * CLOSE if wanted.shape[1] > 1 else np.ones(len(wanted), dtype=bool)
    others = int((found.argmax(axis=1) != wanted.argmax(axis=1))[clear].sum())
    if not difference <= CLOSE or others:
        raise ExportError(
            f"the export does not agree with the model: of {len(texts):,} rows {others:,} have another label, and a "
            f"probability is off by up to {difference:.2g}"
        )
    return difference
