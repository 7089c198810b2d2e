"""Which parameters mattered, judged where trials can be compared: at the first rung, which all of them reach."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from automl.results.study import RunRecord

ALL_TRIALS = "all trials"
FEWEST_TRIALS = 8
MOST_TRIALS = 200  # the forest's marginals take a time that grows with their square
TREES = 32


@dataclass(frozen=True)
class Importance:
    """Shares of the variance of the metric that parameters explain, most first, among `trials`.

    Each of these has as its value what it reached at the first rung.
    """

    among: str
    trials: tuple[FrozenTrial, ...]
    shares: dict[str, float]


def importances(record: RunRecord) -> list[Importance]:
    """Importances over all trials, and within each family over the parameters that only it has.

    Stopped trials have no final value, and the parameters of one family are absent in the others. So each trial
    counts with its value at the first rung, and each family is looked at on its own as well. Groups of fewer than
    eight trials are left out: they would show noise. Of large groups every so many trials are looked at.
    """
    step = min(record.manifest["rungs"], default=record.manifest["max_epochs"])
    at_rung = [
        create_trial(
            params=trial.params,
            distributions=trial.distributions,
            value=trial.intermediate_values[step],
            user_attrs={"family": trial.user_attrs.get("family", "")},
        )
        for trial in record.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if step in trial.intermediate_values
    ]
    families = sorted({trial.user_attrs["family"] for trial in at_rung})
    groups = [(ALL_TRIALS, at_rung)]
    if len(families) > 1:
        groups += [(name, [trial for trial in at_rung if trial.user_attrs["family"] == name]) for name in families]
    found = []
    shared: set[str] = set()
    for among, trials in groups:
        shares = _shares(trials, record, shared)
        if among == ALL_TRIALS:
            shared = set.intersection(*(set(trial.params) for trial in trials)) if trials else set()
        if shares:
            found.append(Importance(among, tuple(trials), shares))
    return found


def _shares(trials: list[FrozenTrial], record: RunRecord, leave_out: set[str]) -> dict[str, float]:
    if len(trials) < FEWEST_TRIALS:
        return {}
    common = set.intersection(*(set(trial.params) for trial in trials)) - leave_out
    varied = sorted(name for name in common if len({repr(trial.params[name]) for trial in trials}) > 1)
    if not varied or len({trial.value for trial in trials}) < 2:
        return {}
    study = optuna.create_study(direction="maximize" if record.maximize else "minimize")
    study.add_trials(trials[:: -(-len(trials) // MOST_TRIALS)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
        try:
            return optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
        except (ValueError, TypeError, OverflowError):  # ranges that no search has, in a study that was made up
            return {}
