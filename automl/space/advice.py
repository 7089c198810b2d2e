"""Warnings from experience about spaces that are valid and still not what their author wants."""

from __future__ import annotations

import math
from collections.abc import Iterator

from automl.space.early_stopping import Asha
from automl.space.grid import continuous, grid_size
from automl.space.parameters import parameters
from automl.space.ranges import Choice, IntRange
from automl.space.spec import SearchSpec

WIDE = 10  # from the low to the high end of a range: then a linear scale hardly tries the lower part
STARTUP = {"tpe": 10, "gp": 10}  # trials that these draw at random before they learn
FEW_FEASIBLE = 0.05


def advice(spec: SearchSpec, *, longest: int | None, feasible: float) -> Iterator[str]:
    """One sentence for each thing that a person who has run many searches would object to.

    `longest` is the 99th percentile of the texts' tokens where it is known, `feasible` the share of random
    configurations that meet the constraints.
    """
    yield from _scales(spec)
    yield from _kernels(spec, longest)
    yield from _budget(spec)
    if feasible == 0:
        yield "no random configuration met the constraints and limits; the search may find none to train"
    elif feasible < FEW_FEASIBLE:
        yield f"only {feasible:.0%} of random configurations meet the constraints; narrow the ranges instead"


def _scales(spec: SearchSpec) -> Iterator[str]:
    for parameter in parameters(spec):
        value = parameter.range
        if isinstance(value, Choice) or value.log or value.step is not None or value.ends[0] <= 0:
            continue
        low, high = value.ends
        rate = parameter.name.partition(".choice[")[0].endswith(("learning_rate", "weight_decay"))
        if high / low >= (WIDE if rate else WIDE**2):
            yield (
                f"{parameter.name} goes from {low:g} to {high:g} on a linear scale, so nine of ten trials have more "
                f"than {low + (high - low) / 10:.2g}; add log: true"
            )


def _kernels(spec: SearchSpec, longest: int | None) -> Iterator[str]:
    length = getattr(spec.data, "max_length", None)
    most = length if isinstance(length, int) else longest
    if most is None:
        return
    for name, section in spec.model.named().items():
        for setting in ("kernel_sizes", "kernel_size"):
            widest = max(_whole_numbers(getattr(section, setting, None)), default=0)
            if widest > most:
                yield f"model.{name}.{setting} has {widest}, and of the texts 99 % have at most {most} tokens"


def _whole_numbers(value: object) -> Iterator[int]:
    if isinstance(value, Choice):
        value = value.choice
    if isinstance(value, IntRange):
        yield value.ends[1]
    elif isinstance(value, list):
        for entry in value:
            yield from _whole_numbers(entry)
    elif isinstance(value, int):
        yield value


def _startup(spec: SearchSpec) -> int:
    """Trials that the sampler draws at random before it learns: of cmaes a generation (Hansen 2016, table 1)."""
    if spec.search.sampler == "cmaes":
        return 4 + math.floor(3 * math.log(len(parameters(spec))))
    return STARTUP.get(spec.search.sampler, 0)


def _budget(spec: SearchSpec) -> Iterator[str]:
    search = spec.search
    startup = _startup(spec)
    if search.trials <= startup and not search.warm_start:
        yield f"{search.sampler} draws its first {startup} trials at random, and there are {search.trials} in all"
    if search.sampler == "grid" and grid_size(spec) > search.trials:
        yield f"the grid has {grid_size(spec):,} configurations, of which {search.trials} are tried"
    if search.sampler != "grid" and not continuous(spec) and grid_size(spec) < search.trials:
        yield f"the space has {grid_size(spec):,} configurations in all, fewer than {search.trials} trials"
    way = search.early_stopping.way
    if isinstance(way, Asha) and not way.rungs():
        yield f"grace_period {way.grace_period} is max_epochs, so no trial is stopped early"
    if not parameters(spec):
        yield "nothing is searched: all values are fixed, and trials differ by their seed alone"
