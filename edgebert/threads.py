"""How many processor threads this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from edgebert.errors import RecipeError

_CGROUP = Path("/sys/fs/cgroup")


def usable_threads() -> int:
    """The smallest of the processors in this process's affinity, the cgroup's quota and OMP_NUM_THREADS, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    limits = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    if quota := _cgroup_quota():
        limits.append(max(1, math.floor(quota)))
    if (stated := os.environ.get("OMP_NUM_THREADS", "").split(",")[0]).isdecimal() and int(stated) > 0:
        limits.append(int(stated))
    return min(limits)


def checked_threads(threads: int | None) -> int:
    """`threads`, or the usable ones where it is None.

    Raises: RecipeError for a number below 1 or beyond sense.
    """
    if threads is None:
        return usable_threads()
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 1024:
        raise RecipeError(f"threads is {threads!r}; it must be 1 to 1024 (this process may use {usable_threads()})")
    return threads


def _cgroup_quota() -> float | None:
    """Processors' worth of time that the cgroup allows, of version 2, else 1; None without a limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        v1 = int((_CGROUP / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        return v1 / int((_CGROUP / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii")) if v1 > 0 else None
    except (OSError, ValueError):
        return None
