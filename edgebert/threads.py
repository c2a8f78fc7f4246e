"""How many processor threads this process may really use, and starting one that can be done without."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable
from numbers import Integral
from pathlib import Path, PurePosixPath

from edgebert.errors import RecipeError

_CGROUP = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")


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
    if not isinstance(threads, Integral) or isinstance(threads, bool) or not 1 <= threads <= 1024:
        raise RecipeError(f"threads is {threads!r}; it must be 1 to 1024 (this process may use {usable_threads()})")
    return int(threads)  # numpy's integers are no options of an engine


def started(work: Callable[[], None], name: str) -> threading.Thread | None:
    """A thread that does `work`; None where the system allows no more threads."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def _cgroup_quota() -> float | None:
    """Processors' worth of time that this process's control group and those above it allow; None without a limit.

    Of version 2, and of version 1's own hierarchy. Where containers hide the groups above, theirs is the root.
    """
    found = [_quota_v2(folder) for folder in _groups(_CGROUP, "")]
    found += [_quota_v1(folder) for folder in _groups(_CGROUP / "cpu", "cpu")]
    return min((quota for quota in found if quota is not None), default=None)


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's group and of all above it, `root` among them. controller: of version 1, else ""."""
    try:
        lines = [line.split(":", 2) for line in _SELF.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        lines = []
    own = next((line[2] for line in lines if len(line) == 3 and controller in line[1].split(",")), "/")
    # A group outside this process's own view is told with "..": only the root is to be seen then.
    own_path = PurePosixPath("/") if ".." in own.split("/") else PurePosixPath(own)
    return [root.joinpath(*path.parts[1:]) for path in (own_path, *own_path.parents)]


def _quota_v2(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def _quota_v1(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        return quota / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii")) if quota > 0 else None
    return None
