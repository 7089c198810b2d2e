"""How much memory this process has taken."""

from __future__ import annotations

import re
from pathlib import Path


def peak_bytes() -> int:
    """The largest resident set since the program began; `ru_maxrss` begins with that of the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024
