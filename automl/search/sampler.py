"""Which sampler proposes a trial."""

from __future__ import annotations

import warnings

import optuna

from automl.space.search_section import Search


def make_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`.

    Seeded by the file's seed and the number, so that a resumed run proposes what an uninterrupted one would have and
    never the same point twice. `group` lets TPE model each branch of a conditional space jointly.
    """
    seed = (search.seed * 1_000_003 + number * 7919 + 1) % (2**32 - 1)
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # group and constant_liar
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=10,
        )
