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
