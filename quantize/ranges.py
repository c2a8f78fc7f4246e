"""From an activation's histogram to the range that uint8 spans.

Each method gives the least and largest value; what lies outside is clipped. Zero is always inside, so that padding and
zeros stay exact.

Sources: percentile and entropy, Migacz 2017 ("8-bit inference with TensorRT"); mean squared error, Banner et al. 2019,
arXiv:1810.05723.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgebert.quantize.statistics import Activation

Method = Literal["min-max", "percentile", "entropy", "mse"]
LEVELS = 255  # steps between the 256 values of uint8
PERCENTILE = 99.999
_SHRINK = np.linspace(1.0, 0.2, 65)  # the shares of the full range that are tried


def min_max(seen: Activation) -> tuple[float, float]:
    """All that was seen."""
    return seen.range


def percentile(seen: Activation) -> tuple[float, float]:
    """What holds 99.999 % of the values, as much left out below as above."""
    share = np.cumsum(seen.counts) / max(1, seen.counts.sum())
    outside = (1 - PERCENTILE / 100) / 2
    low = float(seen.edges[int(np.searchsorted(share, outside))])
    high = float(seen.edges[min(len(seen.counts), int(np.searchsorted(share, 1 - outside)) + 1)])
    return _within(seen, low, high)


def mse(seen: Activation) -> tuple[float, float]:
    """The shrunken full range with the least mean squared error of rounding and clipping."""

    def error(low: float, high: float) -> float:
        centres, weights = _centres(seen)
        step = (high - low) / LEVELS
        clipped = np.clip(centres, low, high)
        return float((weights * ((centres - clipped) ** 2 + np.where(clipped == centres, step**2 / 12, 0.0))).sum())

    return _best(seen, error)


def entropy(seen: Activation) -> tuple[float, float]:
    """The shrunken full range whose 256 levels lose the least information (Kullback-Leibler divergence)."""

    def error(low: float, high: float) -> float:
        centres, weights = _centres(seen)
        places = np.clip(np.round((centres - low) / (high - low) * LEVELS), 0, LEVELS).astype(np.int64)
        mass = np.bincount(places, weights, LEVELS + 1)
        inside = (centres >= low) & (centres <= high)
        bins = np.bincount(places[inside], minlength=LEVELS + 1)
        # Levels share their mass evenly among the bins they stand for; clipped mass sits in the outermost ones.
        spread = np.where(inside, mass[places] / np.maximum(bins[places], 1), 0.0)
        clipped = np.where(inside, 0.0, weights)
        filled = (weights > 0) & inside
        divergence = (weights[filled] * np.log(weights[filled] / spread[filled])).sum()
        return float(divergence + clipped.sum() * np.log(LEVELS))

    return _best(seen, error)


def steps(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of uint8 over that range, with a zero point that is neither 0 nor 128.

    OpenVINO on arm64 gives all channels the first one's weight scale where the zero point is 0, or 128, which it turns
    into 0 of int8; half a step more room on one side avoids both.
    """
    scale = max(high - low, 1e-12) / LEVELS
    zero = round(-low / scale)
    if zero in (0, 128):
        zero += 1
        scale = max(scale, -low / zero, high / (LEVELS - zero))
    return np.float32(scale), np.uint8(zero)


def spanned(scale: np.float32, zero: np.uint8) -> tuple[float, float]:
    """The least and the largest value that the 256 steps reach."""
    return -float(scale) * int(zero), float(scale) * (LEVELS - int(zero))


METHODS: Mapping[Method, Callable[[Activation], tuple[float, float]]] = {
    "min-max": min_max,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def _centres(seen: Activation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middles of the filled bins, and the share of values in each."""
    filled = seen.counts > 0
    return (seen.edges[:-1] + seen.edges[1:])[filled] / 2, seen.counts[filled] / seen.counts.sum()


def _best(seen: Activation, error: Callable[[float, float], float]) -> tuple[float, float]:
    low, high = min_max(seen)
    if low == high:
        return low, high
    tried = [(error(low * share, high * share), low * share, high * share) for share in _SHRINK]
    _, low, high = min(tried)
    return low, high


def _within(seen: Activation, low: float, high: float) -> tuple[float, float]:
    least, most = min_max(seen)
    return max(least, min(0.0, low)), min(most, max(0.0, high))
