"""AutoML hyperparameter search: a search-space file in, a leaderboard and the best model out.

The verbs of the command as functions: `automl.run("space.yaml")`, `automl.load_model("runs/...").predict(texts)`.
"""

import os

import platformdirs

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
    pack,
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
    "pack",
    "predict",
    "prepare",
    "profile",
    "report",
    "resume",
    "run",
    "schema",
]

# PyTorch's compiler keeps pickles in a cache. Unless it is told where, that is /tmp/torchinductor_<user>, which another
# user may have made before.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(platformdirs.user_cache_path("torchinductor")))
