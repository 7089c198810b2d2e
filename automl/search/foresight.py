"""What will go wrong with a search, as far as its file, the classes' rows and the costs of its models tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from automl.models.cost import Cost
from automl.search.resources import Capacity
from automl.space import SearchSpec
from automl.space.durations import duration_text

FEW_ROWS = 2  # of a class: with one row it cannot be in both train and validation, with two chance decides
SHOWN = 3  # classes named in a warning
START_SECONDS = 4.0  # of a worker, which imports PyTorch; then its trial begins
TRAINING = 3  # times the operations of a forward pass: Kaplan et al. 2020, section 2.1
CORE_FLOPS = 1e11  # in a second, which no core exceeds by much

Counts = Mapping[str, int]


def foresee(
    spec: SearchSpec, costs: Sequence[Cost], train: Counts | None, validation: Counts | None, capacity: Capacity
) -> Iterator[str]:
    """One sentence for each thing that would leave a search without a result.

    `train` and `validation` are the rows of each class in these files, None where they are not known or there are none.
    """
    if train:
        yield from _few(spec, train)
        yield from _one_class(spec, train, validation)
    yield from _no_time(spec, costs, sum((train or {}).values()), capacity)


def _few(spec: SearchSpec, train: Counts) -> Iterator[str]:
    few = [f"{name!r} ({count})" for name, count in train.items() if count <= FEW_ROWS]
    if few and len(train) > 1:
        more = f" and {len(few) - SHOWN} more" if len(few) > SHOWN else ""
        lost = "; a class with one row is missing from validation" if isinstance(spec.data.validation, float) else ""
        named = ", ".join(few[:SHOWN])
        yield f"classes with one or two train rows: {named}{more}; nothing can be learned of them{lost}"


def _one_class(spec: SearchSpec, train: Counts, validation: Counts | None) -> Iterator[str]:
    there = validation if isinstance(spec.data.validation, list) else _drawn(train)
    if not there or len(there) >= min(2, len(train)):
        return
    (only,) = there
    if "auroc" in spec.search.sought:
        yield (
            f"validation will have rows of the class {only!r} alone, of which there is no auroc, so every trial will "
            "fail; give it rows of others, or search for another metric"
        )
    else:
        yield f"validation will have rows of the class {only!r} alone, so it cannot tell which trial is better"


def _drawn(train: Counts) -> Counts:
    """The classes of which a fraction of train has rows: each gives at least one row and keeps one."""
    return {name: count for name, count in train.items() if count > 1}


def _no_time(spec: SearchSpec, costs: Sequence[Cost], rows: int, capacity: Capacity) -> Iterator[str]:
    budget = spec.search.time_budget_seconds
    if budget is None:
        return
    cores = max(1.0, min(float(spec.resources.per_trial.cpus), capacity.cpus))
    asked = spec.resources.per_trial.gpus
    on_gpu = capacity.gpus > 0 and (asked == "auto" or float(asked) > 0)
    least = min((cost.flops for cost in costs), default=0)
    epoch = 0.0 if on_gpu else TRAINING * least * rows / (CORE_FLOPS * cores)
    if budget < START_SECONDS + epoch:
        yield (
            f"the time budget of {duration_text(budget)} ends before any trial can have finished an epoch: a worker "
            f"takes about {START_SECONDS:.0f} s to start, and the first epoch at least {epoch:.1g} s"
        )
