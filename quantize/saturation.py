"""Weights that no processor can make overflow.

x86 without VNNI multiplies uint8 activations with int8 weights and adds neighbouring products in int16, which saturates
(`vpmaddubsw`): 255 * 127 * 2 = 64770 does not fit into 32767, so the same file answers otherwise there. A weight matrix
is safe for every activation when, in each output channel, the products of any two neighbours along the input keep
within int16:

    255 * (w[k] + w[k + 1]) <= 32767     and     255 * (w[k] + w[k + 1]) >= -32768

that is, when positive neighbours sum to at most 128, and negative ones to at least -128. A coarser scale for the
channels where that fails makes it hold; it costs most channels little, where 7 bits for all would cost one bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

INT16_LEAST, INT16_MOST = -32768, 32767
_UINT8_MOST = 255
PAIR_LIMIT = INT16_MOST // _UINT8_MOST  # 128
_LEVELS = 127


def neighbour_sums(weight: NDArray[Any]) -> NDArray[Any]:
    """The largest magnitude that two neighbours of equal sign, or one weight alone, reach in each channel.

    Shape: weight (in_features, out_features) -> (out_features,).
    """
    alone: NDArray[Any] = np.abs(weight).max(axis=0)
    if len(weight) < 2:
        return alone
    positive, negative = np.maximum(weight, 0), np.maximum(-weight, 0)
    pairs = [(part[:-1] + part[1:]).max(axis=0) for part in (positive, negative)]
    sums: NDArray[Any] = np.maximum(alone, np.maximum(*pairs))
    return sums


def safe_scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The finest int8 scale of each channel with which its rounded weights are safe. Shape: (out_features,)."""
    scale: NDArray[np.float32] = np.maximum(np.abs(weight).max(axis=0) / _LEVELS, 1e-12).astype(np.float32)
    for _ in range(64):
        sums = neighbour_sums(np.clip(np.round(weight / scale), -_LEVELS, _LEVELS))
        over = sums > PAIR_LIMIT
        if not over.any():
            return scale
        # Rounding can lift a sum by one, so a little more than needed.
        scale = np.where(over, scale * np.maximum(sums / PAIR_LIMIT, 1.001), scale).astype(np.float32)
    raise AssertionError("unreachable: scales double long before")


def is_safe(weight: NDArray[np.integer]) -> bool:
    """Whether no activation makes int8 weights saturate. Shape: weight (in_features, out_features)."""
    return bool((neighbour_sums(weight.astype(np.int64)) <= PAIR_LIMIT).all())


def multiply_saturating(activations: NDArray[np.uint8], weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """The product as x86 without VNNI computes it: pairs of neighbours in saturating int16, then int32.

    Shape: activations (rows, in_features), weight (in_features, out_features) -> (rows, out_features).
    """
    short = activations.shape[1] % 2
    a = np.pad(activations, ((0, 0), (0, short))).astype(np.int64)
    w = np.pad(weight, ((0, short), (0, 0))).astype(np.int64)
    total = np.zeros((len(a), w.shape[1]), np.int64)
    for k in range(0, a.shape[1], 2):
        pair = a[:, k, None] * w[k] + a[:, k + 1, None] * w[k + 1]
        total += np.clip(pair, INT16_LEAST, INT16_MOST)
    return total
