"""What this machine's processor is, read once from what the system tells."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def processor_name() -> str:
    """The processor's name as far as the system tells, else its architecture."""
    named = (line.partition(":")[2].strip() for line in _told() if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


@cache
def processor() -> str:
    """The processor's name and features, as far as the system tells: what was found out here holds while it stays."""
    kept = [line for line in _told() if line.startswith(("model name", "flags", "Features", "CPU part"))]
    # The platform's own answer may come from another process, which takes milliseconds.
    return " ".join([platform.machine(), *(dict.fromkeys(kept) or [platform.processor()])])


@cache
def _told() -> tuple[str, ...]:
    try:
        return tuple(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return ()
