"""What will go wrong with a search, as far as its file, its prepared data and the costs of its models tell."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from automl.models.cost import Cost
from automl.search.plan import updates
from automl.search.resources import Capacity
from automl.space import SearchSpec
from automl.space.durations import duration_text

FEW_ROWS = 2  # of a class: with one row it cannot be in both train and validation, with two chance decides
SHOWN = 3  # classes named in a warning
TRAINING = 3  # times the operations of a forward pass: Kaplan et al. 2020, section 2.1
CORE_FLOPS = 1e11  # in a second, which no core exceeds by much
USUAL_FLOPS = 3e10  # in a second of a core, what networks of this size reach
USUAL_UPDATE = {"cpu": 3e-3, "gpu": 5e-4}  # seconds of an update, however small the network is
FEW_UPDATES = 50  # of a trial that is never stopped: Adam at its usual rates has then hardly left its beginning

Counts = Mapping[str, int]


def foresee(
    spec: SearchSpec,
    drawn: Sequence[Mapping[str, Any]],
    costs: Sequence[Cost],
    profile: Mapping[str, Any],
    capacity: Capacity,
) -> Iterator[str]:
    """One sentence for each thing that would leave a search without a result, or with one that says nothing.

    `drawn` are configurations of the space, `costs` those of some; `profile` is that of the prepared data.
    """
    classes, fraction = profile["classes"], isinstance(spec.data.validation, float)
    asides = {"validation": spec.data.validation, "test": spec.data.test}
    splits = ["train", *(split for split, part in asides.items() if isinstance(part, float))]
    read = {name: sum(classes[split].get(name, 0) for split in splits) for name in classes["train"]}
    yield from _few(read, lost=fraction)
    yield from _one_class(spec, {name: count for name, count in classes["validation"].items() if count}, read)
    yield from _few_updates(spec, drawn, profile["rows"]["train"])
    yield from _no_time(spec, drawn, costs, profile["rows"]["train"], capacity)


def _few(train: Counts, *, lost: bool) -> Iterator[str]:
    rarest = sorted(train.items(), key=lambda each: each[1])
    few = [f"{name!r} ({count})" for name, count in rarest if 0 < count <= FEW_ROWS]
    if few and len(train) > 1:
        more = f" and {len(few) - SHOWN} more" if len(few) > SHOWN else ""
        missing = "; a class with one row is missing from validation" if lost else ""
        named = ", ".join(few[:SHOWN])
        yield f"classes with one or two train rows: {named}{more}; nothing can be learned of them{missing}"


def _one_class(spec: SearchSpec, there: Counts, train: Counts) -> Iterator[str]:
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


def _few_updates(spec: SearchSpec, drawn: Sequence[Mapping[str, Any]], rows: int) -> Iterator[str]:
    found = sorted((updates(spec, config["training"], rows), config["training"]["batch_size"]) for config in drawn)
    few = [each for each in found if each[0] < FEW_UPDATES]
    if not few or 2 * len(few) < len(found):
        return
    (least, batch), epochs = found[0], spec.search.max_epochs
    whom = "a trial makes" if len(few) == len(found) else "most trials make"
    most = f" to {few[-1][0]}" if few[-1][0] > least else ""
    yield (
        f"{whom} {least}{most} updates of its weights in all ({rows:,} train rows in batches of {batch}, for {epochs} "
        f"epoch{'' if epochs == 1 else 's'}), too few to learn much; lower training.batch_size or raise max_epochs"
    )


def _no_time(
    spec: SearchSpec, drawn: Sequence[Mapping[str, Any]], costs: Sequence[Cost], rows: int, capacity: Capacity
) -> Iterator[str]:
    budget = spec.search.time_budget_seconds
    if budget is None:
        return
    cores = max(1.0, min(float(spec.resources.per_trial.cpus), capacity.cpus))
    asked = spec.resources.per_trial.gpus
    on_gpu = capacity.gpus > 0 and (asked == "auto" or float(asked) > 0)
    flops = [cost.flops for cost in costs] or [0]
    of_row = 0.0 if on_gpu else TRAINING / (CORE_FLOPS * cores)
    epoch = of_row * min(flops) * rows
    if budget < epoch:
        yield (
            f"the time budget of {duration_text(budget)} ends before any trial can have finished an epoch: the "
            f"first takes at least {epoch:.1g} s"
        )
        return
    most = spec.search.max_epochs
    steps = statistics.median(updates(spec, config["training"], rows) for config in drawn) if drawn else 0
    arithmetic = 0.0 if on_gpu else TRAINING * statistics.median(flops) * rows * most / (USUAL_FLOPS * cores)
    whole = max(arithmetic, USUAL_UPDATE["gpu" if on_gpu else "cpu"] * steps)
    if budget < whole:
        yield (
            f"max_epochs {most:,} is beyond the time budget of {duration_text(budget)}: a usual trial that is never "
            f"stopped takes about {duration_text(whole)}"
        )
