"""What the JSON files of a run hold, checked before anything is made of it: a run may come from someone else.

Only what is used is described; further entries stay as they are. A file that does not fit is one sentence.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from automl.space import UserError
from automl.space.objectives import Metric, Objective
from automl.space.safe_files import MAX_JSON_BYTES, read_json_file, validated
from automl.training.run_directory import RunDirectory

MANIFEST_VERSION = 1
MOST_TRIALS = 200_000  # of a study
MOST_EPOCHS = 1_000_000


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)


def _time(value: str) -> str:
    written = datetime.fromisoformat(value)
    if not 1970 <= written.year < 3000:
        raise ValueError("the year is not between 1970 and 3000")
    return value


Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]
TrialNumber = Annotated[int, Field(ge=0, lt=MOST_TRIALS)]
Epoch = Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
NumberKey = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}$")]
Time = Annotated[str, AfterValidator(_time)]
Figures = dict[str, Number]


class Study(_Part):
    """Where a study lies that is in a database: its URL without a password, and its name there."""

    database: str
    name: str


class CountedPart(_Part):
    """What the preparation has cut, dropped or replaced; see `automl.data.counted.Counted`."""

    what: str
    setting: str
    count: Count
    of: Count
    row: Count | None = None
    warn: bool = False


class Profile(_Part):
    """What the preparation has counted."""

    rows: dict[str, Count]
    classes: dict[str, dict[str, Count]]
    warnings: list[str] = []
    lengths: dict[str, Amount] | None = None
    max_length: Count | None = None
    cut: Share | None = None
    vocabulary: Count | None = None
    shape: list[Count] | None = None
    mean: list[Number] | None = None
    deviation: list[Number] | None = None
    duplicates: dict[str, Count] = {}
    counted: list[CountedPart] = []

    @model_validator(mode="after")
    def _whole(self) -> Profile:
        if "train" not in self.rows or "train" not in self.classes:
            raise ValueError("it does not say what the training rows are")
        if self.lengths is not None and not {"p50", "p95", "max", "mean"} <= self.lengths.keys():
            raise ValueError("lengths are not whole")
        if len(self.mean or ()) != len(self.deviation or ()):
            raise ValueError("there is not a deviation for each mean")
        return self


class Data(_Part):
    """The data that was searched on; `files` is a digest of the content of its files (of a URL, of its state)."""

    fingerprint: str
    classes: list[str]
    profile: Profile
    files: str | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Data:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError("classes are two or more, each once")
        return self


class Budget(_Part):
    """What the search may use; null is no limit."""

    trials: Count | None = None
    time_budget_seconds: Amount | None = None
    gpu_hours: Amount | None = None
    plateau: Count | None = None


class Used(_Part):
    """What it has used."""

    trials: Count
    seconds: Amount
    gpu_hours: Amount = 0.0
    infeasible: Count = 0


class Waiting(_Part):
    """Trials that wait for resources, for which, and how many run beside them."""

    trials: Count
    running: Count
    waits_for: str


class Best(_Part):
    """The trial that ranks first, with its validation score of the metric."""

    score: Number
    trial: TrialNumber
    family: str


class EnsembleAsked(_Part):
    """How many of the best an ensemble is made of, and whether of the linear model too."""

    top: Count
    linear: bool


class ConfirmAsked(_Part):
    """How many of the best are trained again, how often each, and whether their means decide."""

    top: Annotated[int, Field(ge=1, le=MOST_TRIALS)]
    seeds: Annotated[int, Field(ge=1, le=10_000)]
    decides: bool


class Hardware(_Part):
    """On what it ran."""

    cpus: Amount
    gpus: Amount
    memory_bytes: Amount
    platform: str = ""


class Manifest(_Part):
    """manifest.json."""

    schema_version: Count
    name: str
    created: Time
    status: Literal["running", "finished", "interrupted", "failed"]
    reason: str = ""
    automl_version: str
    versions: dict[str, str]
    hardware: Hardware
    study: Study | None = None
    seed: Annotated[int, Field(ge=0, le=2**53)]
    space_file: str
    space_hash: str
    overrides: list[str]
    working_directory: str
    task: str
    data: Data
    prepared: str
    metric: Metric
    mode: Literal["max", "min"]
    objectives: Annotated[list[Objective], Field(min_length=1)] | None = None
    rungs: Annotated[list[Epoch], Field(max_length=1000)]
    max_epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
    budget: Budget
    finalists: Annotated[int, Field(ge=0, le=10_000)] = 3
    ensemble: EnsembleAsked | None = None
    confirm: ConfirmAsked | None = None
    pack_linear: bool = True
    used: Used
    waiting: Waiting | None = None
    best: Best | None = None
    owner: Annotated[str, Field(max_length=200)] = ""
    labels: Annotated[dict[str, str], Field(max_length=1000)] = {}
    floor_error: str = ""
    warm_start: list[str] = []
    named_files: dict[str, str] = {}
    gpus_per_trial: Amount | Literal["auto"] | None = None
    families: dict[str, str] = {}
    id: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _first(self) -> Manifest:
        if self.objectives is not None and self.objectives[0] != self.metric:
            raise ValueError("the metric is not the first of the objectives")
        return self


class Placed(_Part):
    """Of a manifest, where the study lies."""

    study: Study | None = None


class Fingerprinted(_Part):
    """Of a manifest's data, what tells it from other data."""

    fingerprint: str


class Sought(_Part):
    """Of a manifest, what was looked for, on which data."""

    metric: Metric
    mode: Literal["max", "min"]
    objectives: Annotated[list[Objective], Field(min_length=1)] | None = None
    data: Fingerprinted


class Floor(_Part):
    """floor.json."""

    name: str
    validation: Figures
    test: Figures | None
    parameters: Count
    train_seconds: Amount
    settings: dict[str, Any]


class Latency(_Part):
    """Milliseconds for a batch."""

    p50: Amount
    p95: Amount


Interval = Annotated[list[Number], Field(min_length=2, max_length=2)]
Latencies = Annotated[dict[Literal["1", "32"], Latency], Field(min_length=2)]


class Refitted(_Part):
    """What the refitted weights of a finalist reach."""

    test: Figures | None


class Finalist(_Part):
    """A finalist's figures."""

    validation: Figures
    test: Figures | None
    test_interval: Interval | None = None
    latency: Latencies | None = None
    refit: Refitted | None = None

    @model_validator(mode="before")
    @classmethod
    def _said(cls, content: Any) -> Any:
        if isinstance(content, dict) and ("latency" in content) and content["latency"] is None:
            raise ValueError("latency is no measurement")
        return content


class Differing(_Part):
    """A `Difference` between two models."""

    value: Number
    low: Number
    high: Number
    p: Share


class Ensemble(_Part):
    """The average of the leaders."""

    members: Annotated[list[TrialNumber], Field(min_length=1)]
    linear: bool
    validation: Figures
    test: Figures | None
    test_interval: Interval | None = None
    best_ahead: Differing | None = None


class LinearMeasured(_Part):
    """The linear floor, where it may be the best model."""

    validation: Figures
    test: Figures | None
    test_interval: Interval | None = None
    ahead: Differing | None = None


class Choice(_Part):
    """How much better the best of so many models looks on the rows that chose it."""

    models: Count
    in_sample: Number
    cross_fitted: Number


class Ahead(_Part):
    """How far a finalist is ahead of guessing."""

    value: Number
    error: Annotated[float, Field(ge=0)]
    p: Share


class Guessing(_Part):
    """What guessing reaches on the validation rows, and how far each finalist is ahead of it."""

    value: Number
    rows: Annotated[Count, Field(ge=1)]
    trials: Count
    leads: dict[NumberKey, Ahead]


class Chance(_Part):
    """Which finalists do not differ by more than chance."""

    groups: dict[NumberKey, Count]
    behind_best: dict[NumberKey, Differing] = {}
    others: dict[NumberKey, Differing] = {}
    guessing: Guessing | None = None


class Calibration(_Part):
    """The temperature of the best model, and its figures at it."""

    temperature: Annotated[float, Field(gt=0, le=1e6)]
    validation: Figures | None = None
    test: Figures | None = None
    in_sample: Figures | None = None


class Finalists(_Part):
    """finalists.json."""

    trials: dict[NumberKey, Finalist]
    ensemble: Ensemble | None = None
    linear: LinearMeasured | None = None
    choice: Choice | None = None
    chance: Chance | None = None
    confusion_of: TrialNumber | Literal["ensemble", "linear"] | None = None
    split: Literal["validation", "test"] = "validation"
    confusion: list[list[Count]] | None = None
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _square(self) -> Finalists:
        if any(len(row) != len(self.confusion or ()) for row in self.confusion or ()):
            raise ValueError("the confusion matrix is not square")
        if self.confusion_of is not None and self.calibration is None and self.confusion is None:
            raise ValueError("the confusion matrix is missing")
        return self


class Rerun(_Part):
    """One further training of a finalist: what it reached, or why it failed."""

    score: Number | None = None
    values: list[Number] = []
    error: str = ""

    @model_validator(mode="before")
    @classmethod
    def _either(cls, content: Any) -> Any:
        if isinstance(content, dict) and ("score" in content) == ("error" in content):
            raise ValueError("a rerun has a score or an error")
        if isinstance(content, dict) and content.get("score", 0.0) is None:
            raise ValueError("a score is a number")
        return content


class Confirmed(_Part):
    """confirmed.json."""

    trials: dict[NumberKey, dict[NumberKey, Rerun]]


class Refit(_Part):
    """refit.json."""

    trial: TrialNumber
    epochs: Epoch
    error: str = ""
    run: str = ""
    config: str = ""


class Smaller(_Part):
    """One model of compressed.json."""

    name: str
    how: str
    validation: Number
    test: Number | None
    lost: Number
    bytes: Count
    smaller: Amount
    latency_ms: Annotated[dict[Literal["1", "32"], Amount], Field(min_length=2)]
    faster: dict[str, Amount]
    recommended: bool


class Compressed(_Part):
    """compressed.json."""

    variants: list[Smaller]
    trial: TrialNumber | None = None


class Bin(_Part):
    """How often the best model is right where it is so sure."""

    rows: Count
    confidence: Share
    right: Share
    low: Share
    high: Share


def _is_png(value: str) -> str:
    if not value.startswith("data:image/png;base64,"):
        raise ValueError("an image is one in the page")
    return value


class Hard(_Part):
    """A row that the best model is wrong about, with its `text`, `image` (a data URI) or `series`."""

    row: Count
    source: str | None = None
    """Its file and line."""
    truth: str
    said: str
    probability_said: Share
    probability_truth: Share
    text: str | None = None
    image: Annotated[str, AfterValidator(_is_png)] | None = None
    series: list[Annotated[list[Number], Field(min_length=1)]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _one(cls, content: Any) -> Any:
        kinds = {"text", "image", "series"} & content.keys() if isinstance(content, dict) else set()
        if len(kinds) != 1 or content[next(iter(kinds))] is None:
            raise ValueError("a row shows a text, an image or a series")
        return content


class Examination(_Part):
    """examination.json."""

    model: list[str]
    split: Literal["validation", "test"]
    reliability: list[Bin]
    hardest: Annotated[list[Hard], Field(max_length=1000)]


class EpochTimes(_Part):
    """Of a line of metrics.jsonl, when and where the epoch was trained."""

    started: Annotated[float, Field(ge=0, le=4e10)]
    seconds: Annotated[float, Field(ge=0, le=1e9)]
    worker: str


class BeginningTrial(_Part):
    """A trial that a sampler begins with."""

    params: dict[str, Any]
    values: Annotated[list[Number], Field(min_length=1)]


def _config(value: dict[str, Any]) -> dict[str, Any]:
    sections = [value.get(name) for name in ("data", "model", "training")]
    if not all(isinstance(section, dict) for section in sections):
        raise ValueError("a configuration has the sections data, model and training")
    if len(value["model"]) != 1 or not all(isinstance(family, dict) for family in value["model"].values()):
        raise ValueError("a configuration has one model family")
    return value


class TrialNotes(_Part):
    """What the search has noted of a trial in the study."""

    family: str
    config: Annotated[dict[str, Any], AfterValidator(_config)]
    parameters: Count | None = None
    bytes: Count | None = None
    train_seconds: Amount | None = None
    cost: dict[str, Amount] = {}
    accumulation: Annotated[int, Field(ge=1, le=2**31)] = 1
    paused: Epoch = 0
    reason: str = ""
    objectives: list[Number] = []
    infeasible: str = ""


class JournalLine(_Part):
    """One operation of a study's journal, as Optuna writes it."""

    op_code: Annotated[int, Field(ge=0, le=10)]
    worker_id: str
    study_name: str = ""
    study_id: TrialNumber = 0
    trial_id: TrialNumber = 0
    state: Annotated[int, Field(ge=0, le=4)] = 0
    step: Epoch = 0
    intermediate_value: Number = 0.0
    value: Number | None = None
    values: list[Number] | None = None
    params: dict[str, float] = {}
    distributions: dict[str, str] = {}
    user_attr: dict[str, Any] = {}
    system_attr: dict[str, Any] = {}
    user_attrs: dict[str, Any] = {}
    system_attrs: dict[str, Any] = {}
    intermediate_values: dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}$")], Number] = {}
    datetime_start: Time | None = None
    datetime_complete: Time | None = None


class WarmStart(_Part):
    """warm_start.json."""

    points: list[dict[str, Any]]
    trials: list[BeginningTrial]


class LaterVersionError(UserError):
    """A run was written by a later version of this package."""


def read_manifest(
    directory: RunDirectory, kind: type[BaseModel] = Manifest, max_bytes: int = MAX_JSON_BYTES
) -> dict[str, Any]:
    """A run's manifest, or the parts of it that `kind` names.

    Raises UserError where there is none, or it is damaged or of a later version (LaterVersionError).
    """
    if not directory.manifest.is_file():
        raise UserError(f"{directory.path} is no run directory: it has no {directory.manifest.name}")
    content = read_json_file(directory.manifest, max_bytes)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or "metric" not in content:
        raise UserError(f"{directory.manifest} is not the manifest of a run")
    if version > MANIFEST_VERSION:
        raise LaterVersionError(f"{directory.path} was written by a later version of automl; upgrade to read it")
    manifest: dict[str, Any] = validated(content, kind, directory.manifest).model_dump(exclude_unset=True)
    return manifest


def read_part(path: Path, kind: type[BaseModel]) -> dict[str, Any] | None:
    """A JSON file of a run that is as `kind` says; None where there is none. Raises UserError where it is damaged."""
    if not path.exists():
        return None
    content: dict[str, Any] = read_json_file(path)
    validated(content, kind, path)
    return content
