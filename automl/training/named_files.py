"""Files with weights that a search-space file names: a run has a use for them as they were when it began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from automl.data.fingerprint import file_digest
from automl.space import SearchSpec, Section, UserError, extremes
from automl.training.beginning import backbone_file
from automl.training.run_directory import WEIGHTS, RunDirectory


def digest_named_files(spec: SearchSpec, cache: Path) -> dict[str, str]:
    """The digest of each file that `init_from`, word vectors or a backbone's weights are taken from, by its path.

    Paths are as the space names them, relative to the current directory or not. Kept in `cache` as those of data are.
    """
    return {str(path): file_digest(path, cache) for path in _named(spec) if path.is_file()}


def require_unchanged(digests: Mapping[str, str], cache: Path) -> None:
    """Raise UserError where one of these files is there and holds something else."""
    for name, digest in digests.items():
        if Path(name).is_file() and file_digest(Path(name), cache) != digest:
            raise UserError(
                f"{name}, from which trials take weights, has changed since the run began; put the old file back, or "
                "run it as a new search"
            )


def _named(spec: SearchSpec) -> Iterator[Path]:
    if spec.training.init_from is not None:
        for source in extremes(spec.training.init_from.model):
            yield from _weights_of(Path(str(source)))
    for name, family in spec.model.named().items():
        weights, vectors = getattr(family, "weights", None), getattr(family, "vectors", None)
        if name == "pretrained" and weights is not None:
            for backbone in extremes(getattr(family, "backbone", None)):
                yield backbone_file(weights, backbone)
        if isinstance(vectors, Section):
            for source in extremes(getattr(vectors, "source", None)):
                yield Path(str(source)).expanduser()


def _weights_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    best = RunDirectory(path).best_model
    return sorted((best if best.is_dir() else path).rglob(WEIGHTS))
