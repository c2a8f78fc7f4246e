"""Keeping a model and its work within a budget of memory.

What the model takes is measured: the process's resident memory before it was opened and after its longest input has
run. What more texts at once take is reckoned from the model's shape, so that a run is made small enough before it is
made.
"""

from __future__ import annotations

import json
import math
import sys
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.bundle import Bundle
from edgebert.engines.base import Engine
from edgebert.errors import BudgetError, RecipeError
from edgebert.plan import LEAST_TOKENS, Plan, one_layout

_MB = 1e6
# A float32 activation of a token: so many hidden states and inner ones of the feed-forward part are alive at once.
_HIDDEN, _INNER, _SCORES = 12, 2, 2
_UNMEASURED = 5.0  # of the files' size, what a model takes where the system does not tell resident memory


def check_budget(memory_mb: float | None) -> None:
    """Raises RecipeError unless `memory_mb` is None or a number of MB from 1."""
    if memory_mb is None:
        return
    if not isinstance(memory_mb, Real) or isinstance(memory_mb, bool) or not 1 <= memory_mb < math.inf:
        raise RecipeError(f"memory_mb is {memory_mb!r}; it must be a number of MB from 1, or None for no limit")


def resident_mb() -> float | None:
    """The resident memory of this process in MB (10^6 bytes); None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmRSS")), None)
    return None if line is None else int(line.split()[1]) * 1024 / _MB


def plan_within(memory_mb: float, bundle: Bundle, engine: Engine, threads: int, before: float | None) -> Plan:
    """The plan that keeps model and work within `memory_mb`. before: resident memory before anything was opened, in MB.

    One layout serves all, so that the model is in memory once.
    Raises: BudgetError, after closing `engine`, when the model or its longest input do not fit.
    """
    longest = np.ones((1, bundle.manifest.max_length), np.int64)
    engine.embed(longest, longest)
    after = resident_mb()
    files = sum(fact.size for fact in _files(bundle, engine)) / _MB
    taken = _UNMEASURED * files if before is None or after is None else after - before
    left = memory_mb - taken
    if left < 0:
        engine.close()
        raise BudgetError(
            f"memory_mb is {memory_mb:g}; {bundle.source} in {engine.name} {engine.precision} takes {taken:.0f} MB "
            f"with one text of {bundle.manifest.max_length} tokens: allow {int(taken * 1.1) + 1} or more, or take a "
            "smaller model"
        )
    # The longest input has run: a run of so many tokens costs nothing more.
    tokens = bundle.manifest.max_length + int(left * _MB / bytes_per_token(bundle))
    return one_layout(threads).at_most(max(LEAST_TOKENS, tokens))


def bytes_per_token(bundle: Bundle) -> float:
    """What one more token in a run takes, in bytes, at the longest width."""
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
