"""What is done with sentence vectors: unit length, cosines."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgebert.errors import DataError

Vectors = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]

_TINY = 1e-12  # a zero vector stays zero
_LEAST = 1e-300  # the same in float64


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


def as_floats(vectors: ArrayLike) -> Floats:
    """`vectors` as an array of floats, not copied where it is one. Shape: (n, dim) or (dim,), dim at least 1.

    Raises: DataError.
    """
    try:
        found = np.asarray(vectors)
        found = found if found.dtype in (np.float32, np.float64) else found.astype(np.float32)
    except (TypeError, ValueError) as problem:
        raise DataError(f"these are no vectors: {problem}") from None
    if found.ndim not in (1, 2) or not found.shape[-1]:
        raise DataError(f"vectors of shape {found.shape} cannot be used: (n, dim) or (dim,) is needed")
    return found


def unit_rows(rows: Floats, *, first: int | NDArray[np.int64] = 0) -> NDArray[np.float64]:
    """The rows at unit length, in float64; zero rows stay. Shape: (n, dim).

    first: number of the first row, or of every row, for errors.
    """
    refuse_not_finite(rows, first)
    found = rows.astype(np.float64)
    # By the largest component first, so that no square overflows or vanishes.
    found /= np.maximum(np.abs(found).max(axis=1, keepdims=True), _LEAST)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), _LEAST)
    return found


def refuse_not_finite(rows: Floats, first: int | NDArray[np.int64]) -> None:
    """Raises DataError with the number of the first row that holds NaN or infinity."""
    if not (fine := np.isfinite(rows).all(axis=1)).all():
        bad = int(np.argmin(fine))
        number = first + bad if isinstance(first, int) else first[bad]
        raise DataError(f"vector {number} holds NaN or infinite values; every one must be finite")
