"""How sure a figure is."""

from __future__ import annotations

import math

Z95 = 1.959964


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """95 % interval of a share (accuracy) measured on `rows` independent rows (Wilson 1927)."""
    if rows == 0:
        return 0.0, 1.0
    centre = share + Z95**2 / (2 * rows)
    spread = Z95 * math.sqrt(share * (1 - share) / rows + Z95**2 / (4 * rows**2))
    scale = 1 + Z95**2 / rows
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
