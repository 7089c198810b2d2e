"""Searches in virtual time: workers that finish epochs of known learning curves, in the order of a clock that jumps.

Nothing is trained, so a search of hundreds of trials takes a fraction of a second, and two rules can be compared on the
same arrivals. Lower values are better everywhere; NaN is a trial that has diverged.
"""

from __future__ import annotations

import heapq
import json
import math
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

Params = dict[str, Any]
Decision = Literal["go", "stop", "pause"]


@dataclass(frozen=True)
class Curve:
    """What a trial would report: the metric and the virtual seconds of each epoch. `truth` has no noise."""

    values: np.ndarray
    seconds: np.ndarray
    truth: np.ndarray


class Suggest(Protocol):
    """The part of an Optuna trial that a problem's space asks for values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Problem:
    """A space, the curve of each point of it, and the best value (of any epoch) that any point reaches.

    `typical` is the median of random points' best values, so that (value - best) / (typical - best) is a regret that
    can be compared between problems.
    """

    name: str
    epochs: int
    suggest: Callable[[Suggest], Params]
    curve: Callable[[Params, int], Curve]
    best: float
    typical: float
    pool: Callable[[], Callable[[Params, int], Curve]] | None = None

    def open(self) -> Callable[[Params, int], Curve]:
        """The curves as one search meets them: of a pool, each is had once before any is had again."""
        return self.curve if self.pool is None else self.pool()

    def regret(self, value: float) -> float:
        """0 for the best there is, 1 for what a random point reaches."""
        return min(1.0, (value - self.best) / (self.typical - self.best))


class Draw:
    """Answers a problem's questions at random."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return float(math.exp(self.generator.uniform(math.log(low), math.log(high))))
        return float(self.generator.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        if log:
            return min(high, int(math.exp(self.generator.uniform(math.log(low), math.log(high + 1)))))
        return int(self.generator.integers(low, high + 1))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[int(self.generator.integers(len(choices)))]


# -- the event loop


class Arrivals(Protocol):
    """Where trials come from; hears of everything that becomes of them."""

    def next(self, number: int) -> Params: ...

    def report(self, number: int, epoch: int, value: float) -> None: ...

    def end(self, number: int, outcome: Literal["completed", "stopped", "failed", "paused"]) -> None: ...


class Policy(Protocol):
    """Early stopping: what a trial does after an epoch below the last, and which paused trial to take up again.

    Trials that run or are to come have done `arriving` epochs at least.
    """

    def decide(self, number: int, epoch: int, value: float) -> Decision: ...

    def end(self, number: int, *, completed: bool) -> None: ...

    def resume(self, arriving: float) -> int | None: ...


@dataclass
class Trace:
    """What a simulated search did."""

    trials: int = 0
    epochs: int = 0
    completed: int = 0
    seconds: float = 0.0  # at the last epoch
    incumbents: list[tuple[float, float]] = field(default_factory=list)  # (virtual second, truth at the best value)
    ended_at: Counter[int] = field(default_factory=Counter)

    def at(self, second: float) -> float:
        """The incumbent at a time; infinite before the first epoch."""
        return next((truth for time, truth in reversed(self.incumbents) if time <= second), math.inf)


def simulate(
    problem: Problem,
    arrivals: Arrivals,
    policy: Policy,
    *,
    workers: int,
    seconds: float = math.inf,
    trials: int | None = None,
    seed: int = 0,
    stop_nan: bool = True,
    take_up: float = 0.0,
) -> Trace:
    """Run a search until `seconds` have passed or `trials` have ended, on `workers` that are idle only at its end.

    With `stop_nan` a trial whose metric is NaN fails, as training ends it; else it runs on as Ray Tune would let it.
    To write a paused trial's checkpoint and to take the trial up again costs `take_up` seconds.
    """
    trace = Trace()
    curve = problem.open()
    curves: dict[int, Curve] = {}
    reached: dict[int, int] = {}
    queue: list[tuple[float, int, int]] = []
    best = math.inf
    order = 0

    def begin(number: int, now: float) -> None:
        nonlocal order
        heapq.heappush(queue, (now + float(curves[number].seconds[reached[number]]), order, number))
        order += 1

    def arriving() -> float:
        if trials is None or trace.trials < trials:
            return 0
        return min((reached[number] for _, _, number in queue), default=math.inf)

    def employ(now: float) -> None:
        """Give every idle worker a trial, as long as there are any."""
        while len(queue) < workers:
            number = policy.resume(arriving())
            if number is not None:
                begin(number, now + take_up)
            elif trials is None or trace.trials < trials:
                number = trace.trials
                trace.trials += 1
                curves[number] = curve(arrivals.next(number), seed * 100_003 + number)
                reached[number] = 0
                begin(number, now)
            else:
                return

    employ(0.0)
    while queue:
        now, _, number = heapq.heappop(queue)
        if now > seconds:
            break
        reached[number] = epoch = reached[number] + 1
        trace.epochs += 1
        trace.seconds = now
        value = float(curves[number].values[epoch - 1])
        if value < best:
            best = value
            trace.incumbents.append((now, float(curves[number].truth[epoch - 1])))
        if math.isnan(value) and stop_nan:
            decision: Decision = "stop"
            arrivals.end(number, "failed")
            policy.end(number, completed=False)
        else:
            arrivals.report(number, epoch, value)
            if epoch == problem.epochs:
                decision = "stop"
                trace.completed += 1
                arrivals.end(number, "completed")
                policy.end(number, completed=True)
            else:
                decision = policy.decide(number, epoch, value)
                if decision != "go":
                    arrivals.end(number, "stopped" if decision == "stop" else "paused")
                if decision == "stop":
                    policy.end(number, completed=False)
        if decision == "go":
            begin(number, now)
        else:
            trace.ended_at[epoch] += 1
        employ(now)
    return trace


class RandomArrivals:
    """Points drawn at random; with `improving`, trial i is the best of 1 + i // improving draws."""

    def __init__(self, problem: Problem, seed: int, improving: int | None = None) -> None:
        self.problem = problem
        self.draw = Draw(np.random.default_rng([seed, 1]))
        self.improving = improving

    def next(self, number: int) -> Params:
        count = 1 if self.improving is None else 1 + number // self.improving
        drawn = [self.problem.suggest(self.draw) for _ in range(count)]
        if count == 1:
            return drawn[0]
        return min(drawn, key=lambda params: _final(self.problem.curve(params, 0)))

    def report(self, number: int, epoch: int, value: float) -> None:
        pass

    def end(self, number: int, outcome: str) -> None:
        pass


def _final(curve: Curve) -> float:
    return math.inf if np.isnan(curve.truth).any() else float(curve.truth.min())


# -- problems


def calibrated(
    name: str,
    epochs: int,
    suggest: Callable[[Suggest], Params],
    curve: Callable[[Params, int], Curve],
    draws: int = 4000,
) -> Problem:
    """A problem whose best and typical values are found by drawing, the best refined by steps around it."""
    generator = np.random.default_rng(7)
    draw = Draw(generator)
    points = [suggest(draw) for _ in range(draws)]
    finals = np.array([_final(curve(point, 0)) for point in points])
    leaders = [points[i] for i in np.argsort(finals)[:5]]
    best = float(finals.min())
    for leader in leaders:
        here, value, width = leader, _final(curve(leader, 0)), 0.2
        for step in range(600):
            near = suggest(_Near(generator, here, width * 0.99**step))
            reached = _final(curve(near, 0))
            if reached < value:
                here, value = near, reached
        best = min(best, value)
    return Problem(name, epochs, suggest, curve, best, float(np.median(finals[np.isfinite(finals)])))


class _Near(Draw):
    """Answers near a given point: the same names, numbers a little off."""

    def __init__(self, generator: np.random.Generator, point: Params, width: float) -> None:
        super().__init__(generator)
        self.point = point
        self.width = width

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if name not in self.point:
            return super().suggest_float(name, low, high, log=log)
        ends = np.log([low, high]) if log else np.array([low, high])
        centre = math.log(self.point[name]) if log else self.point[name]
        moved = float(np.clip(centre + self.generator.normal() * self.width * (ends[1] - ends[0]), *ends))
        return math.exp(moved) if log else moved

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        if name not in self.point:
            return super().suggest_int(name, low, high, log=log)
        return round(self.suggest_float(name, low, high, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.point.get(name, super().suggest_categorical(name, choices))


Shape = Literal["monotone", "crossing", "overfitting"]
SPEED, NOISE = 0.25, 0.004


def shaped(final: float, slowness: float, shape: Shape, epochs: int, seed: int, *, pace: float = 1.0) -> Curve:
    """A curve that ends at `final` in [0, 1] from 1; `slowness` in [0, 1] is how late it falls.

    monotone: all fall at one speed. crossing: slow ones are still high when fast ones are down. overfitting: from a
    third to two thirds of the way the curve rises again, the faster the earlier.
    """
    epoch = np.arange(1, epochs + 1)
    speed = {"monotone": SPEED, "crossing": SPEED * (0.05 + 0.6 * slowness), "overfitting": SPEED * 0.5}[shape] * epochs
    truth = final + (1 - final) * np.exp(-epoch / speed)
    if shape == "overfitting":
        turn = epochs * (0.2 + 0.5 * slowness)
        truth = truth + 0.8 * np.clip(epoch - turn, 0, None) / epochs
    noise = np.random.default_rng(seed).normal(0, NOISE, epochs) if seed else 0.0
    return Curve(truth + noise, np.full(epochs, pace), truth)


def quadratic(shape: Shape, epochs: int = 27) -> Problem:
    """Four numbers, one of them on a log scale; the best lies inside the space and learns slowly."""

    def suggest(trial: Suggest) -> Params:
        return {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1.0, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.9),
            "momentum": trial.suggest_float("momentum", 0.0, 1.0),
            "width": trial.suggest_int("width", 16, 512, log=True),
        }

    def curve(params: Params, seed: int) -> Curve:
        rate = (math.log10(params["learning_rate"]) + 4) / 4
        width = math.log(params["width"] / 16) / math.log(32)
        distance = (rate - 0.3) ** 2 + 0.5 * (params["dropout"] - 0.4) ** 2 + 0.4 * (width - 0.75) ** 2
        distance += 0.3 * (params["momentum"] - 0.8 + 0.5 * (rate - 0.3)) ** 2
        return shaped(0.1 + min(0.85, 1.2 * distance), 1 - rate, shape, epochs, seed, pace=0.5 + width)

    return calibrated(f"quadratic, {shape}", epochs, suggest, curve)


OPERATIONS = ("linear", "blend", "elementwise_prod", "elementwise_sum", "tanh", "sigm", "leaky_relu")
AXES = 4


def rnn_curves(folder: Path) -> Problem:
    """The learning curves of 345 recurrent cells on WikiText-2 (NAS-Bench-NLP, Klyuchnikov et al. 2020).

    The cells are a pool, not a space. To have one that a sampler can learn from, a unit cube is cut in halves again
    and again, along the principal components of the cells' descriptions (how many nodes of each operation, how many
    parameters), until each cell has a box: all boxes are about as large, and neighbours are alike.
    """
    curves, rows = [], []
    with zipfile.ZipFile(folder / "logs.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                log = json.loads(archive.read(name))
                curves.append(_measured(log))
                rows.append(_description(log))
    table = np.array(rows)
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    components = table @ np.linalg.svd(table, full_matrices=False)[2][:AXES].T

    def suggest(trial: Suggest) -> Params:
        return {f"x{axis}": trial.suggest_float(f"x{axis}", 0.0, 1.0) for axis in range(AXES)}

    boxes = _boxes(components)
    centres = boxes.mean(axis=2)

    def curve(params: Params, seed: int) -> Curve:
        return curves[nearest(params, ())]

    def nearest(params: Params, tried: Collection[int]) -> int:
        """The cell whose box holds the point, or else, of those that have not been tried, the one nearest to it."""
        point = np.array([params[f"x{axis}"] for axis in range(AXES)])
        inside = ((boxes[:, :, 0] <= point) & (point < boxes[:, :, 1])).all(axis=1)
        distance = np.where(inside, -1.0, ((centres - point) ** 2).sum(axis=1))
        if len(tried) < len(curves):
            distance[list(tried)] = np.inf
        return int(np.argmin(distance))

    def pool() -> Callable[[Params, int], Curve]:
        tried: set[int] = set()

        def untried(params: Params, seed: int) -> Curve:
            cell = nearest(params, tried)
            tried.add(cell)
            return curves[cell]

        return untried

    finals = np.array([_final(curve) for curve in curves])
    reachable = finals[np.isfinite(finals)]
    return Problem("rnn_curves", 50, suggest, curve, float(reachable.min()), float(np.median(reachable)), pool)


def _boxes(components: np.ndarray) -> np.ndarray:
    """For each row its box in the unit cube: (rows, axes, 2), lower and upper ends."""
    boxes = np.zeros((*components.shape, 2))
    boxes[:, :, 1] = 1.0

    def cut(rows: np.ndarray, axis: int) -> None:
        if len(rows) > 1:
            rows = rows[np.argsort(components[rows, axis], kind="stable")]
            half = len(rows) // 2
            low, high = boxes[rows[0], axis]
            middle = low + (high - low) * half / len(rows)
            boxes[rows[:half], axis, 1] = middle
            boxes[rows[half:], axis, 0] = middle
            cut(rows[:half], (axis + 1) % AXES)
            cut(rows[half:], (axis + 1) % AXES)

    cut(np.arange(len(components)), 0)
    return boxes


def _measured(log: Mapping[str, Any]) -> Curve:
    values = np.full(50, np.nan)
    losses = np.array(log["val_losses"], dtype=float)[:50]
    values[: len(losses)] = losses
    seconds = np.array(log["wall_times"], dtype=float)[:50]
    seconds = np.concatenate([seconds, np.full(50 - len(seconds), seconds.mean() if len(seconds) else 420.0)])
    return Curve(values, seconds, values)


def _description(log: Mapping[str, Any]) -> list[float]:
    counts = Counter(node["op"].removeprefix("activation_") for node in json.loads(log["recepie"]).values())
    return [*(counts[name] for name in OPERATIONS), math.log(log["num_params"])]
