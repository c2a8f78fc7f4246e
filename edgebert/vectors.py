"""What is done with sentence vectors: unit length, cosines."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgebert.errors import DataError

Vectors = NDArray[np.float32]

_TINY = 1e-12  # a zero vector stays zero


def normalize_rows(vectors: Vectors) -> None:
    """Scales every row to unit length, in place. Shape: (rows, dim)."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, np.maximum(norms, _TINY), out=vectors)


def similarity(a: ArrayLike, b: ArrayLike) -> Vectors:
    """The cosine of every vector of `a` with every one of `b`. Shape: (n, dim) or (dim,), twice -> (n, m), float32.

    Raises: DataError when they are not vectors of one dimension.
    """
    try:
        x, y = (np.atleast_2d(np.array(v, dtype=np.float32)) for v in (a, b))
    except (TypeError, ValueError) as problem:
        raise DataError(f"these are no vectors: {problem}") from None
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise DataError(
            f"vectors of shapes {x.shape} and {y.shape} cannot be compared: (n, dim) and (m, dim) are needed"
        )
    normalize_rows(x)
    normalize_rows(y)
    return cast(Vectors, x @ y.T)


def row_cosines(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """The cosine of each row of `a` with the same row of `b`, in float64. Shape: (rows, dim), twice -> (rows,)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return cast("NDArray[np.float64]", (x * y).sum(axis=1) / np.maximum(norms, _TINY))
