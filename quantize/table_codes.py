"""The codes of a word table whose rows were made of them (`edgebert.distill.codes`), found in its numbers alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CODES = 256  # that a byte tells apart


def table_codes(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
    """The codes of a table whose runs of columns take 256 values each at most, and the values; None for any other.

    The longest runs that there are, of two columns at least. A table of 256 rows or fewer has none: anything is made of
    codes there. Shape: weight (rows, width) -> (rows, places), (places, 256, width / places).
    """
    rows, width = weight.shape
    if rows <= CODES:
        return None
    for run in (size for size in range(width, 1, -1) if width % size == 0):
        found = _runs(weight.reshape(rows, -1, run))
        if found is not None:
            return found
    return None


def _runs(runs: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
    """Shape: runs (rows, places, width); see `table_codes`."""
    if len(np.unique(runs[: 4 * CODES, 0], axis=0)) > CODES:  # of other tables the first rows tell it
        return None
    codes = np.empty(runs.shape[:2], np.uint8)
    vectors = np.zeros((runs.shape[1], CODES, runs.shape[2]), np.float32)
    for place in range(runs.shape[1]):
        values, inverse = np.unique(runs[:, place], axis=0, return_inverse=True)
        if len(values) > CODES:
            return None
        codes[:, place], vectors[place, : len(values)] = inverse.reshape(-1), values
    return codes, vectors
