"""Keeping a model and its work within a budget of memory, by measuring before anything is promised.

An engine's memory grows with every new shape (OpenVINO keeps kernels of each, several MB), so a budget allows only the
shapes that have been run: every width of the coarse ladder alone, then batches, ever larger, as long as the process's
peak stays within. How texts are run then is `Plan.bounded`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import sys
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.batching import widths
from edgebert.bundle import Bundle
from edgebert.engines.base import Engine
from edgebert.errors import BudgetError, RecipeError
from edgebert.plan import BATCH_TOKENS, LEAST_TOKENS, Plan, one_layout

_MB = 1e6
# A float32 activation of a token: so many hidden states and inner ones of the feed-forward part are alive at once.
_HIDDEN, _INNER, _SCORES = 12, 2, 2
_BLOCK, _CHARACTERS, _BYTES_PER_CHARACTER = 16, 64, 40  # texts tokenized at once, characters a token at most; measured
_CAUTION, _CLEARLY = 1.5, 1.2
_TIMES = 3  # glibc places large arrays otherwise, and closer to the peak, once it has seen some
_ROOM = 0.9  # of the budget; the rest is for what differs from one run to the next
_UNMEASURED = 5.0  # of the files' size, what a model takes where the system does not tell resident memory


def check_budget(memory_mb: float | None) -> None:
    """Raises RecipeError unless `memory_mb` is None or a number of MB from 1."""
    if memory_mb is None:
        return
    if not isinstance(memory_mb, Real) or isinstance(memory_mb, bool) or not 1 <= memory_mb < math.inf:
        raise RecipeError(f"memory_mb is {memory_mb!r}; it must be a number of MB from 1, or None for no limit")


def resident_mb(key: str = "VmRSS") -> float | None:
    """The resident memory of this process in MB (10^6 bytes), "VmHWM" its peak; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith(key)), None)
    return None if line is None else int(line.split()[1]) * 1024 / _MB


def give_back() -> None:
    """Gives memory that was freed back to the system, which glibc keeps otherwise."""
    if (trim := _trim()) is not None:
        trim(0)


def plan_within(memory_mb: float, bundle: Bundle, engine: Engine, threads: int, before: float | None) -> Plan:
    """The plan that keeps model and work within `memory_mb`. before: resident memory before anything was opened, in MB.

    One layout serves all, so that the model is in memory once.
    Raises: BudgetError, after closing `engine`, when the model or its longest input do not fit; EngineError.
    """
    try:
        tried = _Trial(bundle, engine, before)
        room = _ROOM * memory_mb - tried.reserve
        for width in tried.widths:
            tried.run(1, width)
        if (taken := tried.taken) > room:
            needed = int((taken + tried.reserve) / _ROOM * 1.05) + 1
            raise BudgetError(
                f"memory_mb is {memory_mb:g}; {bundle.source} in {engine.name} {engine.precision} takes "
                f"{taken + tried.reserve:.0f} MB with one text of {bundle.manifest.max_length} tokens: allow {needed} "
                "or more, or take a smaller model"
            )
        allowed, tokens = 1, LEAST_TOKENS
        while tokens <= BATCH_TOKENS and tried.forecast(tokens) <= room:
            tried.run_all(tokens)
            if tried.taken > room:
                break
            allowed, tokens = tokens, 2 * tokens
    except BaseException:
        engine.close()
        raise
    return one_layout(threads).at_most(allowed)


class _Trial:
    """Runs shapes and tells what memory that took. reserve: MB for tokenizing a block of long texts."""

    def __init__(self, bundle: Bundle, engine: Engine, before: float | None) -> None:
        self.bundle, self.engine = bundle, engine
        self.widths = widths(bundle.manifest.max_length, coarse=True)
        self.reserve = _BLOCK * _CHARACTERS * bundle.manifest.max_length * _BYTES_PER_CHARACTER / _MB
        self._before = before
        self._done: set[tuple[int, int]] = set()
        self._begun = resident_mb()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far was the loading's
        files = sum(fact.size for fact in _files(bundle, engine)) / _MB
        self._alone: float = _UNMEASURED * files
        self._reckoned = self._alone

    @property
    def taken(self) -> float:
        """MB at the peak, measured where the system tells."""
        peak = resident_mb("VmHWM")
        return self._reckoned if peak is None or self._before is None else peak - self._before

    def run(self, rows: int, width: int) -> None:
        """One run of that shape, if there was none yet."""
        if (rows, width) not in self._done:
            self._done.add((rows, width))
            ones = np.ones((rows, width), np.int64)
            for _ in range(_TIMES):
                self.engine.embed(ones, ones)
                give_back()
            self._reckoned = max(self._reckoned, self._alone + (rows - 1) * width * bytes_per_token(self.bundle) / _MB)

    def run_all(self, tokens: int) -> None:
        """Every shape that batches of up to so many tokens can have."""
        for shape in self._new(tokens):
            self.run(*shape)

    def forecast(self, tokens: int) -> float:
        """MB that it will have taken when these have run: a shape costs as much as those before, a run by its size."""
        new = self._new(tokens)
        now = resident_mb()
        if not new or now is None or self._before is None or self._begun is None:
            return self._alone + (tokens * bytes_per_token(self.bundle) / _MB if new else 0.0)
        shape = max(0.0, now - self._begun) / max(1, len(self._done))
        largest = max((rows * width for rows, width in self._done), default=1)
        run = (self.taken - (now - self._before)) * max(1.0, tokens / largest)
        return now - self._before + _CAUTION * len(new) * shape + _CLEARLY * run

    def _new(self, tokens: int) -> list[tuple[int, int]]:
        found = [(1 << n, width) for width in self.widths for n in range(1, 17) if (width << n) <= tokens]
        return [shape for shape in found if shape not in self._done]


@cache
def _trim() -> Any:
    """glibc's malloc_trim, None elsewhere."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None


def bytes_per_token(bundle: Bundle) -> float:
    """What one more token in a run takes at most, in bytes, at the longest width."""
    config: dict[str, Any] = {}
    path = bundle.path("config.json")
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8"))
    hidden = int(config.get("hidden_size") or config.get("dim") or bundle.manifest.dimension)
    inner = int(config.get("intermediate_size") or config.get("hidden_dim") or 4 * hidden)
    heads = int(config.get("num_attention_heads") or config.get("n_heads") or 12)
    return 4.0 * (_HIDDEN * hidden + _INNER * inner + _SCORES * heads * bundle.manifest.max_length)


def _files(bundle: Bundle, engine: Engine) -> list[Any]:
    artifacts = [a for a in bundle.manifest.artifacts.values() if a.engine == engine.name]
    names = {name for artifact in artifacts if artifact.precision == engine.precision for name in artifact.files}
    return [fact for name, fact in bundle.manifest.files.items() if name in names]
