"""What a trial says of the validation rows at its best epoch, kept beside its weights: `validation.safetensors`.

It is computed in any case; kept, it tells which trials differ from the best by more than chance.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from automl.data.files import replace_atomically
from automl.space import UserError
from automl.training.identity import Identity, to_metadata, weights_identity
from automl.training.tensor_header import read_metadata

NAME = "probabilities"
EPOCH = "epoch"
MOST_NUMBERS = 2**21  # of a trial, 8 MiB: what has more rows or classes is not kept
COMPARED = 30  # trials, the best ones, whose answers are kept and compared with the best

Answers = npt.NDArray[np.float32]


def write_answers(path: Path, said: Answers | None, epoch: int, identity: Identity | None) -> bool:
    """Write probabilities float32 [validation rows, classes] of an epoch, whole or not at all.

    False where there are none or too many.
    """
    if said is None or said.size > MOST_NUMBERS:
        return False
    metadata = {**(to_metadata(identity) or {}), EPOCH: str(epoch)}
    with replace_atomically(path) as temporary:
        temporary.write_bytes(save({NAME: np.ascontiguousarray(said)}, metadata=metadata))
    return True


def read_answers(path: Path, *, run: str, epoch: int | None, shape: tuple[int, int]) -> Answers | None:
    """What `write_answers` wrote of that epoch for the run with the id `run`; None where that is not there or damaged.

    No more memory is taken than `shape`, rows and classes, says.
    """
    if math.prod(shape) > MOST_NUMBERS or not path.is_file():
        return None
    identity = weights_identity(path)
    if run and (identity is None or identity.run != run):
        return None
    try:
        if read_metadata(path).get(EPOCH) != str(epoch):
            return None
        with safe_open(path, framework="numpy") as file:
            if list(file.keys()) != [NAME]:
                return None
            part = file.get_slice(NAME)
            if part.get_dtype() != "F32" or tuple(part.get_shape()) != shape:
                return None
            said: Answers = file.get_tensor(NAME)
    except (SafetensorError, UserError, OSError, ValueError):
        return None
    return said if np.isfinite(said).all() and said.min() >= 0 and said.max() <= 1.001 else None
