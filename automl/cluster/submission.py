"""What is known of a submitted search beside its run: who asked for what, and what it takes to go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from automl.cluster.archive import archive
from automl.data.files import replace_atomically
from automl.data.private_folder import private_folder
from automl.data.store import PATIENCE_SECONDS, Store, is_url
from automl.space import UserError
from automl.space.safe_files import MAX_JSON_BYTES, parse_json, read_regular, validated

FOLDER = ".submissions"  # beside the runs: a record and the packed files of each


@dataclass(frozen=True)
class Submission:
    """A search that was submitted; `arguments` are those of `automl run`, `jobs` the ids of its Ray jobs, in order."""

    name: str
    owner: str
    labels: Mapping[str, str]
    submitted: str  # ISO 8601, UTC
    space: str  # the search-space file's name within the package
    arguments: Sequence[str] = ()
    jobs: Sequence[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For files and programs."""
        return asdict(self)


@dataclass(frozen=True)
class Runs:
    """The folder of all runs as a cluster sees it: a path that its nodes share, or the URL of a store.

    A store that does not answer is waited for `patience` seconds.
    """

    place: str
    patience: float = PATIENCE_SECONDS

    def run(self, name: str) -> str:
        """The place of a run, by a name that has been checked."""
        return f"{self.place.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """The names of all submitted runs."""
        files = self._store().names() if is_url(self.place) else [path.name for path in self._folder().glob("*.json")]
        return sorted(name.removesuffix(".json") for name in files if name.endswith(".json") and "/" not in name)

    def has(self, name: str) -> bool:
        """Whether a run of this name was submitted."""
        record = f"{name}.json"
        return self._store().has(record) if is_url(self.place) else (self._folder() / record).is_file()

    def record(self, name: str) -> Submission:
        """What is known of a run; raises UserError where nothing is, or it is damaged."""
        path = Path(f"{self.run(FOLDER)}/{name}.json")
        return validated(parse_json(self._read(name, ".json"), path), Submission, path)

    def write(self, submission: Submission) -> None:
        """Keep the record."""
        self._write(submission.name, ".json", json.dumps(submission.as_json(), indent=2).encode())

    def keep_files(self, name: str, folder: Path) -> None:
        """Keep the files that a run was submitted with, to go on with it once the cluster has forgotten them."""
        content = archive(folder, sorted(path for path in folder.rglob("*") if path.is_file()))
        self._write(name, ".tar.gz", content)

    def files(self, name: str) -> bytes:
        """The same again, as an archive; raises UserError where they are gone."""
        return self._read(name, ".tar.gz")

    def _write(self, name: str, ending: str, content: bytes) -> None:
        with self._working_folder() as folder:
            path = folder / f"{name}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path) as temporary:
                temporary.write_bytes(content)
            if is_url(self.place):
                self._store().put(path, path.name)

    def _read(self, name: str, ending: str) -> bytes:
        with self._working_folder() as folder:
            path = folder / f"{name}{ending}"
            if is_url(self.place):
                self._store().get(path.name, path)
            if not path.is_file():
                raise UserError(f"no run {name} was submitted to {self.place}")
            return read_regular(path, MAX_JSON_BYTES) if ending == ".json" else path.read_bytes()

    def _working_folder(self) -> AbstractContextManager[Path]:
        """Where files of the records are read and written: the folder itself, or one for copies from the store."""
        return private_folder() if is_url(self.place) else nullcontext(self._folder())

    def _folder(self) -> Path:
        return Path(self.place) / FOLDER

    def _store(self) -> Store:
        return Store(self.run(FOLDER), self.patience)
