"""Whose a checkpoint or a file of weights is: of which run, configuration and data."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from automl.space import UserError
from automl.training.tensor_header import read_metadata

METADATA = "automl"  # the key in a safetensors file's metadata: one, as their order in the file is by chance


def new_run_id() -> str:
    """An id that no other run has."""
    return secrets.token_hex(16)


def config_digest(config: Mapping[str, Any]) -> str:
    """What changes when a trial's configuration does."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


class Identity(BaseModel):
    """Of which run a file is, by its id, and the digests of the trial's configuration and data."""

    model_config = ConfigDict(strict=True, frozen=True)

    run: str = Field(max_length=200)
    config: str = Field(max_length=200)
    data: str = Field(max_length=200)

    def differs(self, found: Identity | None) -> str:
        """Whose else a file with the identity `found` is, in words; "" where it is this one's."""
        if found is None or found.run != self.run:
            return "another run"
        if found.config != self.config:
            return "another configuration"
        return "other data" if found.data != self.data else ""


def identity_of(run: str, config: Mapping[str, Any], fingerprint: str) -> Identity | None:
    """The identity of a trial's files; None in a run of an earlier version, which has no id."""
    return Identity(run=run, config=config_digest(config), data=fingerprint) if run else None


def to_metadata(identity: Identity | None) -> dict[str, str] | None:
    """An identity as the metadata of a safetensors file."""
    return None if identity is None else {METADATA: identity.model_dump_json()}


def weights_identity(path: Path) -> Identity | None:
    """The identity beside the weights in a safetensors file; None where it says none, or is none such file."""
    try:
        return Identity.model_validate_json(read_metadata(path)[METADATA])
    except (UserError, OSError, KeyError, ValidationError):
        return None


def has_own_weights(path: Path, run: str) -> bool:
    """Whether there are weights at `path` that are of the run with the id `run`.

    Weights in a run of an earlier version, whose id is empty, do not say whose they are.
    """
    if not path.exists() or not run:
        return path.exists()
    found = weights_identity(path)
    return found is not None and found.run == run
