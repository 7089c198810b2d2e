"""Whether some process drives a run, by the lock that it holds."""

from __future__ import annotations

import fcntl

from automl.space import UserError
from automl.space.safe_files import open_regular
from automl.training.run_directory import RunDirectory


def is_driven(run: RunDirectory) -> bool | None:
    """Whether a process holds the run; None where that cannot be known, as on a file system without locks."""
    try:
        with open_regular(run.lock) as (file, _):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back as the file is closed
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except (OSError, UserError):
        return None
    return False
