"""The `config.json` of a best_model directory, which a stranger may have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from automl.data import Prepared
from automl.data.modalities import MODALITIES, Modality, modality_of
from automl.data.sequences import MISSING
from automl.data.splits import no_inputs
from automl.space import UserError
from automl.space.safe_files import read_json_file, validated

FORMAT_VERSION = 2  # of a package without networks, which earlier versions cannot read
OF_NETWORKS = 1
NAME = "config.json"
MOST_CLASSES = 1_000_000
MOST_MEMBERS = 1_000
MOST_TOKENS = 2**31 - 1  # token numbers are int32

Task = Literal["text_classification", "image_classification", "sequence_classification"]
MODALITY_OF: dict[Task, str] = {
    "text_classification": "text",
    "image_classification": "image",
    "sequence_classification": "series",
}

Name = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, populate_by_name=True)


class MemberConfig(_Part):
    """What of a trial's configuration makes its network; `automl.training.inference` checks the settings."""

    model: Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]
    data: dict[str, Any]

    @field_validator("data")
    @classmethod
    def _of_one_modality(cls, data: dict[str, Any]) -> dict[str, Any]:
        if len(MODALITIES.keys() & data.keys()) != 1:
            raise ValueError(f"expected one of {', '.join(MODALITIES)}")
        if data.get("missing", "drop") not in MISSING:
            raise ValueError(f"missing: expected one of {', '.join(MISSING)}")
        return data

    @property
    def modality(self) -> Modality:
        """What it is asked about."""
        return modality_of(self.data)


class Member(_Part):
    """One network."""

    folder: Name
    trial: int | None = None
    vocabulary: Annotated[int, Field(ge=0, le=MOST_TOKENS)]
    config: MemberConfig


def _distinct(classes: list[str]) -> list[str]:
    if len(set(classes)) < len(classes):
        raise ValueError("a class is there twice")
    return classes


def _of_one_kind(members: list[Member]) -> list[Member]:
    if len({member.config.modality.name for member in members}) > 1:
        raise ValueError("they are not all for inputs of one kind")
    if len({Path(member.folder) for member in members}) < len(members):
        raise ValueError("two of them lie in one folder")
    return members


class PackageConfig(_Part):
    """The whole file."""

    format_version: Annotated[int, Field(ge=1)]
    classes: Annotated[list[Name], Field(min_length=1, max_length=MOST_CLASSES), AfterValidator(_distinct)]
    # Earlier versions, which knew texts only, called it otherwise.
    column: Name | Annotated[list[Name], Field(min_length=1)] = Field(
        validation_alias=AliasChoices("column", "text_column")
    )
    label_column: Name
    task: Task | None = None
    left_out: list[Name] = Field(default_factory=list)
    """Columns beside the label's that are no input, whatever pattern that has."""
    steps: list[list[Name]] = Field(default_factory=list)
    """Of series across columns: those of each channel, in the order in which the network knows them."""
    members: Annotated[list[Member], Field(max_length=MOST_MEMBERS), AfterValidator(_of_one_kind)]
    linear: Name | None = None
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @property
    def modality(self) -> Modality:
        """What all members, or the linear model alone, are asked about."""
        if self.members:
            return self.members[0].config.modality
        assert self.task is not None  # as checked
        return MODALITIES[MODALITY_OF[self.task]]

    @model_validator(mode="after")
    def _of_something(self) -> PackageConfig:
        if not self.members and self.linear is None:
            raise ValueError("a model has members or a linear model")
        if not self.members and self.task is None:
            raise ValueError("a linear model alone says its task")
        return self

    @property
    def no_inputs(self) -> tuple[str, ...]:
        """The columns that are no inputs; earlier versions kept them in the members' configurations alone."""
        data = self.members[0].config.data if self.members else {}
        split = [name for name in (data.get("group"), data.get("time")) if isinstance(name, str)]
        return tuple(dict.fromkeys([self.label_column, *self.left_out, *split]))


def read_package_config(folder: Path) -> PackageConfig:
    """The config.json of a model directory; raises UserError where it is none, damaged or of a later version."""
    path = folder / NAME
    try:
        content = read_json_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(content, dict) or "format_version" not in content:
        raise UserError(f"{folder} is neither a run directory nor a model directory; name one of them")
    version = content["format_version"]
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(f"{folder} was written by a later version of automl; upgrade to use it")
    return validated(content, PackageConfig, path)


def columns_of(data: Mapping[str, Any], prepared: Prepared) -> dict[str, Any]:
    """What a package says of the columns of tables: which the inputs are, and which are none."""
    return {
        "column": data[modality_of(data).name],
        "label_column": data["label"],
        "left_out": no_inputs(data)[1:],
        "steps": prepared.profile.get("columns", []),
    }


def is_of(folder: Path, numbers: Sequence[int]) -> bool:
    """Whether a model directory has the networks of these trials."""
    try:
        return [member.trial for member in read_package_config(folder).members] == list(numbers)
    except UserError:
        return False
