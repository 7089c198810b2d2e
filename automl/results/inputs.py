"""Where a table has what a model is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from automl.data.modalities import Modality
from automl.data.wide import NO_NUMBER, Column, Steps, fitting, input_columns, is_wide


@dataclass(frozen=True)
class Inputs:
    """Where the inputs of a table are, as its model knows them: see `automl.data.wide`."""

    column: Column
    modality: Modality
    others: Sequence[str] = ()
    known: Steps = ()

    @property
    def garbage(self) -> float | None:
        """What stands for text that is no number."""
        return None if self.modality.missing == "drop" else NO_NUMBER

    @property
    def wide(self) -> bool:
        """Whether they lie across several columns."""
        return is_wide(self.modality, self.column)

    def columns(self, path: Path, there: Sequence[str]) -> list[str]:
        """As `input_columns`."""
        return input_columns(path, self.modality, self.column, there, self.others, self.known)

    def channels(self, there: Sequence[str]) -> Steps:
        """The columns of each channel of a table or of a row; some of `known` ones may not be there."""
        return self.known or fitting(self.column, there, self.others)
