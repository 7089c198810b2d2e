"""A Ray of our own is nobody else's: it wants a token that only its own processes know and listens on loopback."""

from __future__ import annotations

import os
import secrets

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"

_before: dict[str, str | None] | None = None
_cluster_before = True


def enter_privacy() -> None:
    """Before a Ray is started here. `RAY_AUTH_MODE=disabled` in the environment is somebody's wish and stays."""
    global _before, _cluster_before
    if _before is None:
        _before = {name: os.environ.get(name) for name in (MODE, TOKEN)}
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


def _reload() -> None:
    """Let Ray's C++ side read the environment again."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
