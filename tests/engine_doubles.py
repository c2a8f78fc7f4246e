"""Engines of the tests' own: what they compute is known, and they tell how they were called."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgebert.plan import Layout, Plan
from edgebert.runner import Engines, Runner

WIDE = 4


class Sums:
    """Row i gives the sum and the number of its tokens. `shapes`: every run; `most`: so many at once at most.

    delay: seconds of a run. failing: raises at the shapes for which it says so.
    """

    name, precision = "onnxruntime", "fp32"

    def __init__(self, *, delay: float = 0.0, failing: Callable[[tuple[int, ...]], bool] = lambda shape: False) -> None:
        self.delay, self.failing = delay, failing
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self.most, self.running, self.closed = 0, 0, False
        self._lock = threading.Lock()

    def embed(self, input_ids: Any, attention_mask: Any) -> Any:
        with self._lock:
            self.shapes.append(input_ids.shape)
            self.threads.add(threading.get_ident())
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            time.sleep(self.delay)
            if self.failing(input_ids.shape):
                raise ValueError(f"no {input_ids.shape}")
            out = np.zeros((len(input_ids), WIDE), np.float32)
            out[:, 0], out[:, 1] = (input_ids * attention_mask).sum(axis=1), attention_mask.sum(axis=1)
            return out
        finally:
            with self._lock:
                self.running -= 1

    def close(self) -> None:
        self.closed = True


def numbers(texts: Any) -> list[list[int]]:
    """A text of 7 characters as 7 tokens, 1 to 7."""
    return [list(range(1, len(text) + 1)) for text in texts]


def runner(
    engine: Any, plan: Plan | None = None, *, tokenize: Any = numbers, reopen: Any = None, max_length: int = 500
) -> Runner:
    """A runner of `engine` in every layout, by default with two streams for many texts."""
    chosen = plan or Plan(Layout(1, 4), Layout(2, 2))
    engines = Engines(engine, chosen.lone, reopen or (lambda layout: engine))
    return Runner(engines, chosen, tokenize, max_length=max_length, pad_token_id=9)
