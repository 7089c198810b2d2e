"""How much files from elsewhere may take: defaults far above ordinary data, and variables that change them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from automl.space import UserError

GIB = 1 << 30
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": GIB, "t": 1 << 40}


@dataclass(frozen=True)
class Bound:
    """A largest value that the environment variable `variable` changes; `2G` is 2 GiB."""

    variable: str
    default: int
    unit: str = "bytes"

    def value(self) -> int:
        """The bound at this moment; raises UserError where the variable is no positive whole number."""
        asked = os.environ.get(self.variable, "").strip()
        if not asked:
            return self.default
        found = re.fullmatch(r"([0-9]{1,18})\s*([kmgt]?)(?:i?b)?", asked, re.IGNORECASE | re.ASCII)
        if found is None or not int(found[1]):
            raise UserError(f"{self.variable} is {asked[:40]!r}, expected a whole number above 0, such as 64G")
        return int(found[1]) * _UNITS[found[2].lower()]

    def require(self, count: int, what: str) -> None:
        """Raise UserError where `what` has more."""
        if count > self.value():
            raise self.exceeded(what, self.unit)

    def exceeded(self, what: str, unit: str = "bytes") -> UserError:
        """The error of something that is larger."""
        return UserError(f"{what} more than {self.value():,} {unit}; set {self.variable} to allow more")


DOWNLOAD_BYTES = Bound("AUTOML_MAX_DOWNLOAD", 64 * GIB)  # of all files that one URL names
DOWNLOAD_SECONDS = Bound("AUTOML_DOWNLOAD_SECONDS", 3600)  # for one file
DOWNLOAD_FILES = Bound("AUTOML_MAX_FILES", 2_000_000)  # that one folder in a store has
UNPACKED_BYTES = Bound("AUTOML_MAX_UNPACKED", 256 * GIB)  # of one .gz or .zst file
UNPACKED_RATIO = Bound("AUTOML_MAX_UNPACKED_RATIO", 200)  # unpacked bytes for each packed one
COLUMNS = Bound("AUTOML_MAX_COLUMNS", 100_000, "columns")  # of one table
IMAGE_PIXELS = Bound("AUTOML_MAX_IMAGE_PIXELS", 64_000_000)
