"""AutoML hyperparameter search: a search-space file in, a leaderboard and the best model out.

The verbs of the command as functions: `automl.run("space.yaml")`, `automl.load_model("runs/...").predict(texts)`.
"""

from automl.space import SpaceError, UserError
from automl.verbs import (
    RunResult,
    check,
    compare,
    compress,
    evaluate,
    examples,
    export,
    leaderboard,
    load_model,
    predict,
    prepare,
    profile,
    report,
    resume,
    run,
    schema,
)

__all__ = [
    "RunResult",
    "SpaceError",
    "UserError",
    "check",
    "compare",
    "compress",
    "evaluate",
    "examples",
    "export",
    "leaderboard",
    "load_model",
    "predict",
    "prepare",
    "profile",
    "report",
    "resume",
    "run",
    "schema",
]
