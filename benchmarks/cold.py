"""Cold starts: from a fresh process to the first vector, less what the bare imports of the same engine take."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers import Subject, say, start

from edgebert.errors import EngineError

BARE = ("numpy", "tokenizers")


@dataclass
class Cold:
    """Seconds and peak memory of a fresh process, one a round: to the first vector, and of bare imports."""

    first_s: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)
    first_mb: list[float] = field(default_factory=list)
    bare_mb: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """What the library adds to the imports, one a round."""
        return [a - b for a, b in zip(self.first_s, self.bare_s, strict=True)]

    @property
    def memory_mb(self) -> list[float]:
        """What the library adds to the imports, one a round."""
        return [a - b for a, b in zip(self.first_mb, self.bare_mb, strict=True)]

    def row(self) -> list[str]:
        """Medians in words: first, bare, added; the same of memory."""
        times = (1e3 * statistics.median(s) for s in (self.first_s, self.bare_s, self.seconds))
        sizes = (statistics.median(s) for s in (self.first_mb, self.bare_mb, self.memory_mb))
        return [*(f"{t:.0f}" for t in times), *(f"{s:.0f}" for s in sizes)]


def cold_starts(
    subjects: Sequence[Subject], engines: Mapping[str, str], text: str, *, threads: int, rounds: int
) -> dict[str, Cold]:
    """Every subject's cold starts by its name, in turns; each was run before, so the system's caches are warm.

    engines: the package that a subject's name runs in, imported bare beside numpy and tokenizers.
    Ends the program with a clear message when a subject does not run.
    """
    found = {subject.name: Cold() for subject in subjects}
    for turn in range(rounds + 1):
        say(f"cold starts, round {turn} of {rounds}" if turn else "cold starts: warming the system's caches")
        for place in range(len(subjects)):
            subject = subjects[(turn + place) % len(subjects)]
            first = once(subject, "first", {**subject.task(threads), "text": text}, threads=threads)
            bare = once(subject, "bare", {"imports": [*BARE, engines[subject.name]]}, threads=threads)
            if turn:
                for to, value in zip(vars(found[subject.name]).values(), _crossed(first, bare), strict=True):
                    to.append(value)
    return found


def _crossed(first: tuple[float, float], bare: tuple[float, float]) -> tuple[float, float, float, float]:
    return first[0], bare[0], first[1], bare[1]


def imports(subject: Subject, engine: str, text: str, *, threads: int, rounds: int) -> dict[str, list[float]]:
    """Seconds to import, one a round: "bare", `import edgebert` alone, and "loaded": every module of one vector."""
    task = {**subject.task(threads), "text": text}
    worker = _started(subject, "modules", task, threads)
    worker.close()
    sets = {"bare": [*BARE, engine], "edgebert": ["edgebert"], "loaded": worker.hello["modules"]}
    found: dict[str, list[float]] = {name: [] for name in sets}
    for turn in range(rounds + 1):
        for name, names in sets.items():
            seconds, _ = once(subject, "bare", {"imports": names}, threads=threads)
            if turn:
                found[name].append(seconds)
    return found


def once(subject: Subject, command: str, task: dict[str, Any], *, threads: int) -> tuple[float, float]:
    """Seconds from the start of a fresh process to its answer, and its peak memory in millions of bytes."""
    begun = time.perf_counter()
    worker = _started(subject, command, task, threads)
    seconds = time.perf_counter() - begun
    worker.close()
    return seconds, worker.hello["memory_mb"]


def _started(subject: Subject, command: str, task: dict[str, Any], threads: int) -> Any:
    try:
        return start(subject, command, task, threads=threads)
    except EngineError as problem:
        sys.exit(str(problem))
