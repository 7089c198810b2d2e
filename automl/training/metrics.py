"""What a trial is measured by."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from automl.space.objectives import BINS, LEAST_LIKELIHOOD, METRICS

DIGITS = 6  # torchmetrics counts in float32, whose further digits are noise


def compute_metrics(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.integer]) -> dict[str, float]:
    """Measure `probabilities` float32 [rows, classes] against `labels` [rows], which has at least one row.

    accuracy; balanced_accuracy (mean recall of the classes that rows have); macro_f1 (unweighted mean of the F1 of the
    classes that rows have or are given; both as scikit-learn has them); micro_f1 (of all rows together: where each row
    has one class it is the accuracy); auroc (each class against the rest, mean of
    the classes that rows have; not there where all rows are of one class); loss (log loss: mean negative log-likelihood
    in nats); calibration_error (expected calibration error: the mean distance of the highest probability from the share
    of rows that it was right for, in 15 bins; Naeini et al. 2015). Probabilities that are not finite make all NaN.
    """
    from torchmetrics.functional import classification as measures  # with SciPy and more: predict waits for none of it

    if not np.isfinite(probabilities).all():
        return dict.fromkeys(METRICS, float("nan"))
    scores, truth = torch.from_numpy(probabilities), torch.from_numpy(np.asarray(labels, dtype=np.int64))
    classes = probabilities.shape[1]
    chosen = scores.argmax(dim=1)
    likelihood = scores[torch.arange(len(truth)), truth].double().clamp(min=LEAST_LIKELIHOOD)
    figures = {
        "accuracy": measures.multiclass_accuracy(chosen, truth, classes, average="micro").item(),
        "balanced_accuracy": _balanced_accuracy(chosen, truth, classes),
        "macro_f1": measures.multiclass_f1_score(chosen, truth, classes, average="macro").item(),
        "micro_f1": measures.multiclass_f1_score(chosen, truth, classes, average="micro").item(),
        **_auroc(scores, truth, classes),
        "loss": -likelihood.log().mean().item(),
        "calibration_error": measures.multiclass_calibration_error(scores, truth, classes, n_bins=BINS).item(),
    }
    return {name: round(value, DIGITS) for name, value in figures.items()}


def _balanced_accuracy(chosen: Tensor, truth: Tensor, classes: int) -> float:
    """The mean over the classes that rows have; torchmetrics also counts 0 for one that is only predicted."""
    from torchmetrics.functional import classification as measures

    recalls = measures.multiclass_accuracy(chosen, truth, classes, average="none")
    return float(recalls[torch.unique(truth)].mean())


def _auroc(scores: Tensor, truth: Tensor, classes: int) -> dict[str, float]:
    """The mean over the classes that rows have; torchmetrics counts 0 for the others, which would be no figure."""
    from torchmetrics.functional import classification as measures

    there = torch.unique(truth)
    if len(there) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the others
        of_each = measures.multiclass_auroc(scores, truth, classes, average="none")
    return {"auroc": of_each[there].mean().item()}
