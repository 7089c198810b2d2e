"""The best model for other programs: a `torch.export` program or ONNX, compared with the original on real rows."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from automl.data.files import replace_folder, require_replaceable
from automl.models.exportable import export_program
from automl.results.calibration import calibrate
from automl.results.package import Model
from automl.results.ports import Preparation, columns_of, preparations_of
from automl.results.predictions import average
from automl.space import UserError
from automl.training.inference import predict_probabilities
from automl.training.run_directory import write_json

CLOSE = 1e-4  # how far a probability may be off
FILES = {"onnx": "model.onnx", "torch": "model.pt2"}
EXAMPLE = "example.py"
ROWS = 64  # that are compared at a time

Probabilities = npt.NDArray[np.float32]
Answer = Callable[..., Probabilities]
"""From the arrays of all preparations, in their order, to probabilities."""


class ExportError(Exception):
    """The model cannot be exported, or what was exported says something else."""


@dataclass(frozen=True)
class Exported:
    """An export and how it compares: on so many rows no probability is farther off than `largest_difference`."""

    path: str
    rows: int
    largest_difference: float


def export(model: Model, format: str, output: Path, inputs: Sequence[Any]) -> Exported:
    """Write `model` as `onnx` or `torch` and its preparation into the folder `output`, once compared on `inputs`.

    It is one graph of all members: from the arrays that `automl.results.ports` describes to calibrated probabilities
    float32 [rows, classes], for any number of rows. `example.py` beside it shows how raw inputs come into it. Raises
    UserError where there is no network, or a package is missing; ExportError where it cannot be exported or does not
    agree; then nothing is written.
    """
    if not model.members:
        raise UserError(
            "the model is the linear baseline, which is no network; automl compress makes small networks of the best "
            "trial to export, and search.pack_linear: false has a search pack a network"
        )
    require_replaceable(output, *FILES.values())
    if format == "onnx":
        _require_onnx()
    preparations, parts = preparations_of(model)
    names = [name for each in preparations for name in each.names]
    try:
        program = export_program(parts)
    except ValueError as error:
        raise ExportError(f"the network cannot be exported: {error}") from error
    with replace_folder(output) as folder:
        path = folder / FILES[format]
        if format == "onnx":
            _write_onnx(program, path, names)
            answer = _onnx(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of weights that share memory
                torch.export.save(program, path)
            answer = _program(path)
        difference = _compare(model, preparations, answer, inputs)
        for each in preparations:
            each.save(folder)
        described = {
            "classes": list(model.classes),
            **columns_of(model),
            "inputs": {name: said for each in preparations for name, said in each.described().items()},
            "outputs": {"probabilities": "float32 [rows, classes]"},
            "preparations": [
                {"kind": each.port.kind, "folder": each.folder, "inputs": list(each.names)} for each in preparations
            ],
            "networks": len(model.members),
            "compared": {"rows": len(inputs), "largest_difference": difference},
        }
        write_json(folder / "config.json", described)
        shutil.copyfile(Path(__file__).parent / "templates" / EXAMPLE, folder / EXAMPLE)
    return Exported(str(output), len(inputs), difference)


def _require_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise UserError(f"ONNX needs the package {package}: pip install 'automl[export]'")


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, names: Sequence[str] = ("tokens", "lengths")
) -> None:
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):  # that torchvision is not there, and what is not folded
        logging.getLogger(name).setLevel(logging.ERROR)
    named: dict[str, Any] = {"input_names": list(names), "output_names": ["probabilities"]}
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(program, (), dynamo=True, verbose=False, **named)
        assert made is not None  # as `dynamo` says
        made.save(str(path))


def _onnx(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def answer(*arrays: npt.NDArray[Any]) -> Probabilities:
        (found,) = session.run(None, dict(zip(names, arrays, strict=True)))
        probabilities: Probabilities = found
        return probabilities

    return answer


def _program(path: Path) -> Answer:
    module = torch.export.load(path).module()

    @torch.no_grad()
    def answer(*arrays: npt.NDArray[Any]) -> Probabilities:
        found: Probabilities = module(*map(torch.from_numpy, arrays)).numpy()
        return found

    return answer


def _compare(model: Model, preparations: Sequence[Preparation], answer: Answer, inputs: Sequence[Any]) -> float:
    """The largest difference of a probability; raises ExportError where it or a label is another."""
    if not inputs:
        raise UserError("there are no rows to compare the export with")
    wanted, found = _exact(model, inputs), []
    for start in range(0, len(inputs), ROWS):
        some = inputs[start : start + ROWS]
        found.append(answer(*(array for each in preparations for array in each.arrays(some))))
    answered = np.concatenate(found)
    difference = float(np.abs(answered - wanted).max())
    top = np.sort(wanted, axis=1)
    clear = top[:, -1] - top[:, -2] > 2 * CLOSE if wanted.shape[1] > 1 else np.ones(len(wanted), dtype=bool)
    others = int((answered.argmax(axis=1) != wanted.argmax(axis=1))[clear].sum())
    if not difference <= CLOSE or others:
        raise ExportError(
            f"the export does not agree with the model: of {len(inputs):,} rows {others:,} have another label, and a "
            f"probability is off by up to {difference:.2g}"
        )
    return difference


def _exact(model: Model, inputs: Sequence[Any]) -> Probabilities:
    """What the model says as the export computes it: on the CPU in float32.

    A GPU's bfloat16 is off by more than may differ.
    """
    found = []
    exact = [copy.deepcopy(network).cpu().float() for _, network in model.members]
    for start in range(0, len(inputs), model.step):
        some = inputs[start : start + model.step]
        rows = {id(encoder): encoder.encode(some) for encoder in model.encoders}
        said = [
            predict_probabilities(network, rows[id(encoder)], device=torch.device("cpu"))
            for (encoder, _), network in zip(model.members, exact, strict=True)
        ]
        linear = model.linear
        alone = None if linear is None else linear.predict_probabilities(some)
        found.append(calibrate(average(said, alone), model.temperature))
    return np.concatenate(found)
