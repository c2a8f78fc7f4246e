"""Ratios of what was measured in the same rounds, with the interval that the rounds' scatter leaves.

Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979: rounds are drawn with replacement, the same for
both sides, so that what a round did to both cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 17

Rounds = Sequence[float] | Sequence[Sequence[float]]  # a number a round, or all of a round's samples
Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]  # of two sides' rounds


@dataclass(frozen=True)
class Ratio:
    """`value` and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The median over the rounds of ours to theirs in the same round."""
    return _resampled(lambda a, b: float(np.median(a / b)), ours, theirs)


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Our median to theirs: for what may be near zero in a single round, such as differences of two times.

    Infinite where their median is not above zero: to nothing at all no ratio is small enough.
    """
    return _resampled(lambda a, b: _over(float(np.median(a)), float(np.median(b))), ours, theirs)


def _over(ours: float, theirs: float) -> float:
    return ours / theirs if theirs > 0 else float("inf")


def percentile_ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], percent: float) -> Ratio:
    """Our percentile of all samples to theirs. Shape: (rounds, samples) each."""
    return _resampled(lambda a, b: float(np.percentile(a, percent) / np.percentile(b, percent)), ours, theirs)


def _resampled(of: Statistic, ours: Rounds, theirs: Rounds) -> Ratio:
    a, b = np.array(ours, dtype=np.float64), np.array(theirs, dtype=np.float64)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} rounds of ours and {len(b)} of theirs: there must be as many, and one at least")
    draw: Any = np.random.default_rng(SEED)
    found = [of(a[rows], b[rows]) for rows in draw.integers(0, len(a), size=(RESAMPLES, len(a)))]
    low, high = np.percentile(found, [2.5, 97.5], method="inverted_cdf").tolist()  # between no two: one may be infinite
    return Ratio(of(a, b), low, high)
