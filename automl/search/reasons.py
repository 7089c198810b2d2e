"""What became of a trial that raised, in one line."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from typing import Any

import torch
from ray.exceptions import RayActorError, RayTaskError

from automl.space import UserError
from automl.space.search_section import Search

LONGEST = 500  # characters of a reason
DISK_FULL = "the disk is full"
ONE_CLASS = "validation has rows of one class only"
NOT_WRITTEN = (DISK_FULL, "the run cannot be written")  # why a search ends that can go on once that is mended
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_GPU_MEMORY = ("CUDA error: out of memory", "HIP error: out of memory", "STATUS_ALLOC_FAILED")
_ALLOCATION = re.compile(r"tried to allocate (\d+) bytes")


def result_of(error: BaseException, folder: str, *, halved: bool = False) -> dict[str, Any]:
    """The result of a trial that raised `error`: `error` with the reason, or `disk_full` with the place.

    `out_of_gpu_memory` is there too where that is the reason.

    `folder` is where the trial writes; `halved` says whether it had been trained in half batches already.
    """
    full = _disk_full(error)
    if full is not None:
        where = f"{full.filename or folder}: {os.strerror(full.errno or 0)}"
        return {"disk_full": one_line(_said(error)) if isinstance(error, UserError) else where}
    reason = {"error": one_line(_reason(error, halved))}
    return reason | ({"out_of_gpu_memory": True} if out_of_gpu_memory(error) else {})


def out_of_gpu_memory(error: BaseException | None) -> bool:
    """Whether a GPU had too little memory for what raised `error`, which may be what Ray says of a worker's end."""
    if isinstance(error, RayTaskError):
        error = error.cause
    if isinstance(error, torch.OutOfMemoryError):
        return True
    said = _said(error) if isinstance(error, RuntimeError) else ""  # of libraries that allocate by themselves
    return any(each in said for each in _NO_GPU_MEMORY)


def not_written(error: OSError) -> str:
    """Why what the driver had to write is not written."""
    return f"{NOT_WRITTEN[error.errno not in FULL]}: {error.strerror if error.errno == errno.EIO else error}"


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    return one_line(_reason(error, False))


def worker_end(error: BaseException | None) -> str:
    """Why a trial's worker process is gone, in one line; `error` is what Ray says of it."""
    if isinstance(error, RayTaskError):
        return f"its worker process cannot be trusted any more: {first_line(error.cause)}"
    said = "" if error is None else str(error).strip()
    if isinstance(error, RayActorError) and "creation task" in said:  # the traceback in the worker ends with the cause
        return f"its worker could not start: {one_line(said.splitlines()[-1])}"
    return "its worker process ended unexpectedly"


def nothing_reached(ended: str, failures: Sequence[str], search: Search) -> str:
    """Why a search ended without one trial that has a score, and what to do; `ended` is what ended it.

    `failures` are the causes of the trials that failed, the most frequent first.
    """
    if failures:
        return f"no trial ended with a score; the cause, most often: {failures[0]}{advice_on(failures[0])}"
    if ended == "time budget":
        return (
            f"the time budget of {search.time_budget} ended before any trial had finished its first epoch; give it "
            "more with --time-budget (resume takes it, too), or take fewer rows or smaller models"
        )
    if ended:
        return f"{ended}: it ended before any trial had finished its first epoch; give it more"
    return "no trial ended with a score"


def advice_on(failure: str) -> str:
    """What to do about the cause of a trial's failure, where that is known: a sentence's end, or nothing."""
    if ONE_CLASS in failure:
        return "; give validation rows of other classes, or search for another metric"
    if failure.startswith("out of memory"):
        return "; lower resources.max_concurrent, the batch size or the sizes of the models"
    if failure.startswith("the loss was not finite"):
        return "; lower the learning rates"
    return ""


def one_line(text: str) -> str:
    """The text without line breaks, cut to `LONGEST` characters."""
    line = " ".join(text[: 20 * LONGEST].split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def _reason(error: BaseException, halved: bool) -> str:
    said = _said(error)
    if isinstance(error, torch.OutOfMemoryError):
        return f"out of GPU memory{', even with half a batch at a time' if halved else ''}: {said}"
    if isinstance(error, MemoryError):
        return f"out of memory{': ' if said else ''}{said}"
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator" in said:
        found = _ALLOCATION.search(said)
        return f"out of memory{f': it asked for {int(found[1]) / 2**30:.1f} GiB' if found else ''}"
    if isinstance(error, UserError):
        return said
    return f"{type(error).__name__}: {said}"


def _said(error: BaseException) -> str:
    """The first line of an exception's message."""
    try:
        text = str(error)
    except Exception as broken:
        return f"its message cannot be shown ({type(broken).__name__})"
    return text[: 20 * LONGEST].strip().partition("\n")[0]


def _disk_full(error: BaseException | None) -> OSError | None:
    """The full disk that caused an exception."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None
