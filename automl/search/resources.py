"""What a trial gets of the machines, and how many trials run at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from automl.data.machine import cpu_count
from automl.space import SearchSpec, UserError

HEADROOM = 0.9  # of a GPU's memory that trials measured beforehand may fill; other configurations need more
MAX_PER_GPU = 16


@dataclass(frozen=True)
class Capacity:
    """CPUs, GPUs and other named Ray resources that a search may use."""

    cpus: float
    gpus: float
    other: Mapping[str, float] = field(default_factory=dict)


def local_capacity() -> Capacity:
    """What this machine has for this process."""
    return Capacity(cpus=cpu_count(), gpus=torch.cuda.device_count())


@dataclass(frozen=True)
class Share:
    """What each worker of a trial gets, and how many trials run at once.

    `measure_first`: the share of a GPU is not known before a trial with a whole one has told what it takes.
    """

    cpus: float
    gpus: float
    other: Mapping[str, float]
    concurrent: int
    capacity: Capacity
    limit: int | None
    measure_first: bool = False
    workers: int = 1

    def request(self) -> dict[str, float]:
        """What each worker gets, in Ray Tune's words."""
        return {"cpu": self.cpus, "gpu": self.gpus, **self.other}

    def described(self) -> str:
        """How many trials run at once and what each has, in a sentence's end."""
        trials = f"{self.concurrent} trial{' runs' if self.concurrent == 1 else 's run'} at once"
        each = f"each of its {self.workers} workers" if self.workers > 1 else "each"
        cpus = f"{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}"
        gpus = "no GPU" if self.gpus == 0 else f"{self.gpus:g} GPU{'s' if self.gpus > 1 else ''}"
        until = ", until one has told how many fit on a GPU" if self.measure_first else ""
        return f"{trials}; {each} has {cpus} and {gpus}{until}"

    def worker_resources(self) -> dict[str, float]:
        """The same in the words of Ray Train."""
        return {"CPU": self.cpus, "GPU": self.gpus, **self.other}


def check_request(spec: SearchSpec, capacity: Capacity) -> Share:
    """Each trial's share of `capacity`; raises UserError where not even one trial fits, with what there is."""
    asked = spec.resources.per_trial
    auto = asked.gpus == "auto"
    gpus = float(capacity.gpus >= asked.workers) if auto else float(asked.gpus)
    wanted = {"cpus": (asked.cpus, capacity.cpus), "gpus": (gpus, capacity.gpus)}
    wanted |= {f"custom.{name}": (amount, capacity.other.get(name, 0.0)) for name, amount in asked.custom.items()}
    several = f" for {asked.workers} workers" if asked.workers > 1 else ""
    for name, (each, there) in wanted.items():
        if (amount := each * asked.workers) > there:
            known = ", ".join(sorted(capacity.other)) or "none"
            hint = f" (named resources there: {known})" if name.startswith("custom.") else ""
            raise UserError(
                f"resources.per_trial.{name} asks for {amount:g}{several}, but there "
                f"{'is' if there == 1 else 'are'} {there:g}{hint}; lower it, or name a cluster with --address"
            )
    most = spec.resources.max_concurrent
    limit = None if most == "auto" else int(most)
    first = auto and gpus > 0 and asked.workers == 1  # workers of one trial have a GPU each
    share = Share(asked.cpus, gpus, dict(asked.custom), 0, capacity, limit, first, asked.workers)
    return replace(share, concurrent=_concurrent(share))


def packed(share: Share, gpu_memory: float) -> Share:
    """As many trials on each GPU as fit, where one of them fills `gpu_memory` (0 to 1) of it."""
    fit = MAX_PER_GPU if gpu_memory * MAX_PER_GPU <= HEADROOM else math.floor(HEADROOM / gpu_memory)
    by_cpus = math.floor(share.capacity.cpus / share.capacity.gpus / share.cpus)
    count = max(1, min(fit, by_cpus))
    share = replace(share, gpus=math.floor(10_000 / count) / 10_000, measure_first=False)
    return replace(share, concurrent=_concurrent(share))


def whole(share: Share) -> Share:
    """The same with no neighbours on a trial's GPU, where it has a part of one."""
    if not 0 < share.gpus < 1 <= share.capacity.gpus:
        return share
    share = replace(share, gpus=1.0)
    return replace(share, concurrent=_concurrent(share))


def _concurrent(share: Share) -> int:
    """How many trials fit at once: at least one, at most the limit."""
    pairs = [(share.cpus, share.capacity.cpus)]
    if share.gpus > 0:
        per_gpu = math.floor(1 / share.gpus + 1e-9)  # a trial never straddles two GPUs
        whole = share.capacity.gpus * per_gpu if share.gpus <= 1 else share.capacity.gpus / share.gpus
        pairs.append((1.0, whole))
    pairs += [(amount, share.capacity.other[name]) for name, amount in share.other.items() if amount > 0]
    fits = min(math.floor(there / (each * share.workers) + 1e-9) for each, there in pairs)
    return max(1, fits if share.limit is None else min(fits, share.limit))
