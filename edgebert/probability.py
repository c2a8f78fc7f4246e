"""From a head's logits to probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebert.manifest import Head

HOLDS = 0.5  # from which one of several labels is said to hold


def probabilities(logits: NDArray[np.float32], head: Head, *, axis: int = -1) -> NDArray[np.float32]:
    """Softmax along `axis` at the head's temperature; where several labels may hold, the sigmoid of each.

    Source: Guo et al. 2017, arXiv:1706.04599, for the temperature.
    """
    scaled = logits / np.float32(head.temperature)
    if head.multi_label:
        return np.asarray(1 / (1 + np.exp(-np.clip(scaled, -80, 80))), np.float32)
    made = np.exp(scaled - scaled.max(axis=axis, keepdims=True))
    return np.asarray(made / made.sum(axis=axis, keepdims=True), np.float32)


def log_odds(logits: NDArray[np.float32], place: int, head: Head) -> float:
    """log(p / (1 - p)) of the label at `place` of one input, shape (labels,); exact where p is 1 in float32."""
    scaled = np.asarray(logits, np.float64) / head.temperature
    if head.multi_label:
        return float(scaled[place])
    return float(scaled[place] - np.logaddexp.reduce(np.delete(scaled, place)))
