"""The plan that is fastest on this machine, measured once and kept in the user's cache.

It is keyed by the bundle, the engine's version, the processor and the number of threads. It decides how texts are run,
never in what precision: it is measured in the variant that was chosen and proven before.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgebert.batching import pad
from edgebert.bundle import Bundle
from edgebert.engines.base import Engine
from edgebert.errors import EngineError
from edgebert.golden import Golden
from edgebert.plan import Layout, Plan, default_plan
from edgebert.probes import probe_ids

_LONE = (8, 16, 32, 64, 128)  # tokens of a lone text
_BATCHES = ((32, 512), (32, 1024), (32, 2048), (128, 512), (128, 1024), (128, 2048))  # tokens of a text, of a run
_ROUNDS = 5
_CLEARLY = 1.1  # so much faster must another choice be than the usual one: less is noise


def tuned(engine: Engine, reopen: Callable[[Layout], Engine], bundle: Bundle, golden: Golden, threads: int) -> Plan:
    """The fastest plan for `engine`, which was opened for a lone text on all threads; about two seconds.

    Raises: EngineError when the engine fails.
    """
    plan = default_plan(threads)
    if threads == 1:
        return plan
    others = {plan.batch, *(Layout(threads // n, n) for n in (1, 2, 4) if threads % n == 0)} - {plan.lone}
    with contextlib.ExitStack() as stack:
        engines = {plan.lone: engine}
        for layout in others:
            engines[layout] = stack.enter_context(contextlib.closing(reopen(layout)))
        measure = _Measure(engines, bundle, golden)
        best, tokens = measure.batches()
        plan = replace(plan, batch=best, batch_tokens=tokens)
        return replace(plan, short=0 if best == plan.lone else measure.short(plan))


class _Measure:
    """Times of runs in several layouts, in turns, so that a busy moment is busy to all."""

    def __init__(self, engines: dict[Layout, Engine], bundle: Bundle, golden: Golden) -> None:
        self.engines, self.golden, self.manifest = engines, golden, bundle.manifest

    def short(self, plan: Plan) -> int:
        """Up to how many tokens a lone text is clearly faster in one stream of `plan.batch`."""
        found = 0
        for tokens in (n for n in _LONE if n <= self.manifest.max_length):
            times: dict[Layout, list[float]] = {plan.lone: [], plan.batch: []}
            for _ in range(3 * _ROUNDS):
                for layout, spent in times.items():
                    spent.append(self._seconds(layout, 1, tokens))
            lone, stream = (float(np.median(spent[_ROUNDS:])) for spent in times.values())
            if stream * _CLEARLY > lone:
                break
            found = tokens
        return found

    def batches(self) -> tuple[Layout, int]:
        """The layout and the tokens of a run that do most tokens a second; where it is close, that of a lone text.

        A second layout is a second compiled model in memory, which must pay.
        """
        cases = [case for case in _BATCHES if case[0] <= self.manifest.max_length] or [(8, 512), (8, 1024)]
        speeds: dict[tuple[Layout, int], list[float]] = {}
        for layout in self.engines:
            for width, tokens in cases:
                spent = [self._side_by_side(layout, max(1, tokens // width), width) for _ in range(_ROUNDS)]
                speeds.setdefault((layout, tokens), []).append(min(spent[2:]) / tokens / layout.streams)
        cost = {key: float(np.exp(np.mean(np.log(found)))) for key, found in speeds.items()}
        lone = next(iter(self.engines))
        best = min(cost, key=lambda key: cost[key])
        usual = min((key for key in cost if key[0] == lone), key=lambda key: cost[key])
        return best if cost[best] * _CLEARLY < cost[usual] else usual

    def _side_by_side(self, layout: Layout, rows: int, width: int) -> float:
        """Seconds for one run in every stream at once.

        Raises: EngineError when the engine fails in one of them.
        """
        problems: list[EngineError] = []

        def run() -> None:
            try:
                self._seconds(layout, rows, width)
            except EngineError as problem:
                problems.append(problem)

        ways = [threading.Thread(target=run) for _ in range(layout.streams - 1)]
        start = time.perf_counter()
        for way in ways:
            way.start()
        run()
        for way in ways:
            way.join()
        if problems:
            raise problems[0]
        return time.perf_counter() - start

    def _seconds(self, layout: Layout, rows: int, width: int) -> float:
        ids = probe_ids(self.golden.cases, "ordinary", width)
        batch = pad([ids] * rows, self.manifest.pad_token_id, to=width)
        start = time.perf_counter()
        self.engines[layout].embed(*batch)
        return time.perf_counter() - start
