"""What can be said of a search space before anything is trained: will its files do."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from automl.data.vectors import vector_dimension
from automl.models.pretrained import backbone_library
from automl.space import SearchSpec, Section, UserError, extremes
from automl.training.augment_images import WITH_KORNIA, has_kornia
from automl.training.beginning import backbone_file
from automl.training.run_directory import RunDirectory
from automl.training.transfer import read_earlier

TRACKERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
"""The package that each of `log_to` needs."""


def require_trackers(spec: SearchSpec) -> None:
    """Raise UserError where a package is missing that `log_to` needs."""
    for name in spec.search.log_to:
        if find_spec(TRACKERS[name]) is None:
            raise UserError(f"log_to: {name} needs the package {TRACKERS[name]}: pip install 'automl[{name}]'")


def check_files(spec: SearchSpec) -> None:
    """Raise UserError where files, runs or libraries that a space asks for are missing or not right, data aside."""
    for run in spec.search.warm_start:
        if not RunDirectory(Path(run)).manifest.is_file():
            raise UserError(f"search.warm_start: {run} is no run directory")
    for setting in WITH_KORNIA if spec.training.augment else ():
        if max(extremes(getattr(spec.training.augment, setting))) > 0 and not has_kornia():
            raise UserError(f"training.augment.{setting} needs: pip install 'automl[augment]'")
    if spec.training.init_from is not None:
        for source in extremes(spec.training.init_from.model):
            read_earlier(str(source))
    for name, family in spec.model.named().items():
        if name == "pretrained":
            backbone_library()
            if (weights := getattr(family, "weights", None)) is not None:
                for backbone in extremes(getattr(family, "backbone", None)):
                    backbone_file(weights, backbone)
        vectors = getattr(family, "vectors", None)
        if isinstance(vectors, Section):
            settings = vectors.model_dump()
            for source in extremes(getattr(vectors, "source", None)):
                vector_dimension({**settings, "source": source})


def vectors_of(model: Mapping[str, Any]) -> int:
    """The dimension of the pretrained vectors that a configuration's `model` section asks for; 0 where of none."""
    ((_, settings),) = model.items()
    vectors = settings.get("vectors")
    return vector_dimension(vectors) if isinstance(vectors, Mapping) else 0
