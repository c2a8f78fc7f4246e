"""Speeds of several models side by side, in turns, so that a noisy machine is noisy to all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

_WARM_UP = 16


class Encoder(Protocol):
    """What is timed: an `Embedder`, or anything with its `encode`."""

    def encode(self, sentences: Any, *, batch_size: int = 32) -> Any:
        """The vectors of a list of texts."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds for one text alone: median, 95th and 99th percentile; sentences a second in batches."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    sentences_s: float


class Clock:
    """Collects the times of one encoder, a round at a time; the first round begins with a warm-up that is not timed."""

    def __init__(self, encoder: Encoder, singles: Sequence[str], batch: Sequence[str], *, batch_size: int = 32) -> None:
        self.encoder, self.singles, self.batch, self.batch_size = encoder, list(singles), list(batch), batch_size
        self._alone: list[float] = []
        self._speeds: list[float] = []

    def round(self) -> None:
        """Every single text alone, then the batch."""
        if not self._alone:
            self.encoder.encode(self.batch, batch_size=self.batch_size)
            for text in self.singles[:_WARM_UP]:
                self.encoder.encode([text], batch_size=1)
        for text in self.singles:
            start = time.perf_counter()
            self.encoder.encode([text], batch_size=1)
            self._alone.append(time.perf_counter() - start)
        start = time.perf_counter()
        self.encoder.encode(self.batch, batch_size=self.batch_size)
        self._speeds.append(len(self.batch) / (time.perf_counter() - start))

    @property
    def timing(self) -> Timing:
        """What the rounds so far say."""
        p50, p95, p99 = np.percentile(np.array(self._alone) * 1e3, [50, 95, 99]).tolist()
        return Timing(p50, p95, p99, statistics.median(self._speeds))


def side_by_side(
    encoders: Mapping[str, Encoder], singles: Sequence[str], batch: Sequence[str], *, rounds: int = 3
) -> dict[str, Timing]:
    """The timing of each encoder on the same texts; they take turns, in another order every round."""
    clocks = {name: Clock(encoder, singles, batch) for name, encoder in encoders.items()}
    names = list(clocks)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            clocks[name].round()
    return {name: clock.timing for name, clock in clocks.items()}
