"""A Ray of our own is nobody else's.

It wants a token that only its own processes know, listens on loopback, and keeps its files and Unix sockets, which want
no token, in a folder that nobody else can enter.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from automl.data.private_folder import LONGEST_WITH_RAY, private_folder

MODE, TOKEN, FOLDER = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_TMPDIR"

_before: dict[str, str | None] | None = None
_cluster_before = True
_held = ExitStack()  # the folder, for as long as that Ray runs


def enter_privacy() -> None:
    """Before a Ray is started here. `RAY_AUTH_MODE=disabled` in the environment is somebody's wish and stays.

    Raises UserError where there is no place for its files.
    """
    global _before, _cluster_before
    if _before is None:
        asked = os.environ.get(FOLDER, "")
        folder = _held.enter_context(private_folder(longest=LONGEST_WITH_RAY, first=[asked] if asked else []))
        _before = {name: os.environ.get(name) for name in (MODE, TOKEN, FOLDER)}
        os.environ[FOLDER] = str(folder)  # Ray lets everybody write to what it makes itself, which is inside
        _cluster_before = ray_constants.ENABLE_RAY_CLUSTER
    os.environ.setdefault(MODE, "token")
    os.environ[TOKEN] = secrets.token_hex(32)  # goes before any token file of the user's, which is for their clusters
    # Ray 2.60 listens on loopback alone where it takes the node's address from there, which it does on macOS and
    # Windows; this constant says whether to. Every one of its processes is then told 127.0.0.1.
    ray_constants.ENABLE_RAY_CLUSTER = False
    _reload()


def leave_privacy() -> None:
    """After that Ray has been stopped: clusters that are connected to next know the user's own token."""
    global _before
    if _before is None:
        return
    for name, value in _before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _before = None
    ray_constants.ENABLE_RAY_CLUSTER = _cluster_before
    _reload()
    _held.close()


def _reload() -> None:
    """Let Ray's C++ side read the environment again."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
