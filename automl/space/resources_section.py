"""The section `resources`: on what the search runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from automl.space.ranges import Number, Whole
from automl.space.search_section import Duration, duration_seconds
from automl.space.sections import NumberOrAuto, Section, WholeOrAuto


class PerTrial(Section):
    """What one trial uses: its workers, and what each of them has."""

    workers: Annotated[Whole, Field(ge=1)] = Field(
        1, description="Processes that train one network together, each on its share of every batch."
    )
    cpus: Annotated[Number, Field(gt=0)] = Field(1.0, description="CPU cores.")
    gpus: NumberOrAuto = Field(
        "auto",
        description="GPUs; a fraction shares one; auto measures how many trials fit on one, and is none where there is "
        "no GPU (for several workers: fewer GPUs than workers). With 0 a trial sees no GPU.",
    )
    custom: dict[str, Annotated[Number, Field(gt=0)]] = Field(
        default_factory=dict, description="Ray resources that nodes were started with, by name."
    )

    @model_validator(mode="after")
    def _whole_gpus(self) -> PerTrial:
        if self.workers > 1 and self.gpus not in (0, 1, "auto"):
            raise PydanticCustomError(
                "gpus", "each of several workers has one GPU or none; got {gpus}", {"gpus": str(self.gpus)}
            )
        return self


class Resources(Section):
    """What the search may use."""

    per_trial: PerTrial = Field(default_factory=PerTrial, description="What one trial uses.")
    max_concurrent: WholeOrAuto = Field("auto", description="Trials at once; auto is as many as fit.")
    wait: Duration = Field(
        "1h",
        description="How long all trials may wait for resources that others hold, or for a node, before the search "
        "ends (resume goes on with it); null for any time. Waiting uses nothing of the time budget.",
    )

    @property
    def wait_seconds(self) -> float | None:
        """The same in seconds."""
        return None if self.wait is None else duration_seconds(self.wait)
