"""What a trial is measured by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

DIGITS = 6  # torchmetrics counts in float32, whose further digits are noise


def compute_metrics(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Measure `probabilities` float32 [rows, classes] against `labels` int64 [rows], which has at least one row.

    accuracy; balanced_accuracy (mean recall of the classes); macro_f1 (unweighted mean of the classes' F1);
    loss (mean negative log-likelihood in nats). Probabilities that are not finite make every figure NaN.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "loss"), float("nan"))
    scores, truth = torch.from_numpy(probabilities), torch.from_numpy(np.asarray(labels))
    classes = probabilities.shape[1]
    chosen = scores.argmax(dim=1)
    likelihood = scores[torch.arange(len(truth)), truth].double().clamp(min=1e-12)
    figures = {
        "accuracy": multiclass_accuracy(chosen, truth, classes, average="micro").item(),
        "balanced_accuracy": multiclass_accuracy(chosen, truth, classes, average="macro").item(),
        "macro_f1": multiclass_f1_score(chosen, truth, classes, average="macro").item(),
        "loss": -likelihood.log().mean().item(),
    }
    return {name: round(value, DIGITS) for name, value in figures.items()}
