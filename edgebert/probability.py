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
