"""How near vectors are: cosines of float32 and int8 vectors, Hamming distances of binary ones, in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgebert.compact import BinaryVectors, Int8Vectors
from edgebert.errors import DataError
from edgebert.vectors import Floats, Vectors, as_floats, unit_rows

QUERIES, DOCUMENTS = 256, 8192  # compared at a time: 8 MiB of scores
_EXACT = 1024  # up to that many products of two int8, at most 2**14 each, a float32 sum is exact: 2**24
_COUNT: Callable[[Any], Any] | None = getattr(np, "bitwise_count", None)  # since numpy 2
_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)

Dense = ArrayLike | Int8Vectors
Held = Int8Vectors | Floats


def scores(a: Dense, b: Dense) -> Vectors:
    """The cosine, up to the codes' rounding, of every vector of `a` with every one of `b`: int8, float or one of each.

    Of two Int8Vectors it is the exact dot product of the codes times both scales; floats are brought to unit length.
    Shape: (n, dim) or (dim,), twice -> (n, m), float32.
    Raises: DataError for NaN, infinity or different dimensions.
    """
    x, y = held(a), held(b)
    require_same_dimension(x, y)
    out = np.empty((len(x), len(y)), np.float32)
    for rows in slices(len(x), QUERIES):
        for columns in slices(len(y), DOCUMENTS):
            out[rows, columns] = products(x, rows, y, columns)
    return out


def hamming(a: BinaryVectors, b: BinaryVectors) -> NDArray[np.int32]:
    """In how many signs every vector of `a` differs from every one of `b`. Shape: (n, dim), (m, dim) -> (n, m), int32.

    Raises: DataError for different dimensions.
    """
    if a.dimension != b.dimension:
        raise DataError(f"binary vectors of dimensions {a.dimension} and {b.dimension} cannot be compared")
    x, y = _words(a.bits), _words(b.bits)
    out = np.zeros((len(x), len(y)), np.int32)
    for column in range(x.shape[1]):
        differ = x[:, column, None] ^ y[None, :, column]
        out += _ONES[differ] if _COUNT is None else _COUNT(differ)
    return out


def held(vectors: Dense) -> Held:
    """Int8Vectors of two dimensions, or a float array of two. Nothing is copied that is one already."""
    if isinstance(vectors, Int8Vectors):
        return Int8Vectors(np.atleast_2d(vectors.codes), vectors.scale)
    if isinstance(vectors, BinaryVectors):
        raise DataError("binary vectors have no cosine: float vectors or Int8Vectors are needed")
    return np.atleast_2d(as_floats(vectors))


def _width(x: Held) -> int:
    return x.dimension if isinstance(x, Int8Vectors) else int(x.shape[1])


def require_same_dimension(x: Held, y: Held) -> None:
    """Raises DataError when vectors of `x` and of `y` differ in their dimension."""
    if _width(x) != _width(y):
        raise DataError(f"vectors of dimensions {_width(x)} and {_width(y)} cannot be compared")


def _part(x: Held, rows: slice | NDArray[np.int64]) -> tuple[Floats, float]:
    """Some rows as floats, unit vectors or codes, and what one of them is worth."""
    if isinstance(x, Int8Vectors):
        # Sums of so many products are whole numbers that the format holds, so BLAS gives them exactly.
        return x.codes[rows].astype(np.float32 if x.dimension <= _EXACT else np.float64), x.scale
    return unit_rows(x[rows], first=rows.start if isinstance(rows, slice) else rows).astype(np.float32), 1.0


def products(x: Held, rows: slice, y: Held, columns: slice | NDArray[np.int64]) -> Vectors:
    """The cosines of some rows of `x` with some of `y`. Shape: (rows, columns), float32."""
    (a, a_scale), (b, b_scale) = _part(x, rows), _part(y, columns)
    return np.asarray((a @ b.T) * (a_scale * b_scale), np.float32)


def _words(bits: NDArray[np.uint8]) -> NDArray[Any]:
    """The bits in words of 64, the last one filled with 0; as they are where numpy counts no bits."""
    bits = np.atleast_2d(bits)
    if _COUNT is None:
        return bits
    padded = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


def slices(count: int, size: int) -> Iterator[slice]:
    """0 to `count` in slices of `size` and a rest."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
