"""How long something takes, as people read it."""

from __future__ import annotations


def duration_text(seconds: float) -> str:
    """Seconds as `45s`, `3m 05s` or `2h 05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def age_text(seconds: float) -> str:
    """The same in one unit, rounded down: `45s`, `12m`, `3h`, `2d`; `0s` of what is to come."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"
