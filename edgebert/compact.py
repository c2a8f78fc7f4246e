"""Compact vectors: int8 codes, a quarter of float32, and sign bits, a thirty-second of it.

    found = encoder.encode(texts, precision="int8")       Int8Vectors
    found = encoder.encode(texts, precision="binary")     BinaryVectors

They are compared in `edgebert.scores`, searched in `edgebert.nearest`, kept in a file in `edgebert.compact_files`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgebert.errors import DataError, RecipeError
from edgebert.vectors import Vectors, as_floats, refuse_not_finite, unit_rows

VectorPrecision = Literal["float32", "int8", "binary"]
Index = int | slice | Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]

_LARGEST = 127  # -128 is not used: a code and its negative are both codes
_REACH = 6.0  # what int8 reaches to, in units of 1/sqrt(dim), the root mean square of a unit vector's components
_ROWS = 4096  # coded at a time


@dataclass(frozen=True, eq=False)
class Int8Vectors:
    """Unit vectors as int8 codes and the scale of all of them: component = code * scale.

    Shape: codes (n, dim), or (dim,) for one vector. The dot product of two codes times both scales is the cosine up to
    rounding. Indexing gives vectors: a number gives one, a slice, a mask or a list of numbers gives some.
    """

    codes: NDArray[np.int8]
    scale: float

    def __post_init__(self) -> None:
        _require(self.codes, np.int8, "codes")
        if not (_is_number(self.scale) and 0 < self.scale < math.inf):
            raise DataError(f"the scale of int8 vectors is {self.scale!r:.80}; a number above 0 is needed")

    @property
    def dimension(self) -> int:
        """The width of the vectors."""
        return int(self.codes.shape[-1])

    @property
    def precision(self) -> Literal["int8"]:
        """How the vectors are coded."""
        return "int8"

    def floats(self) -> Vectors:
        """The vectors that the codes stand for, float32. Shape: that of `codes`."""
        return self.codes * np.float32(self.scale)

    def __len__(self) -> int:
        return 1 if self.codes.ndim == 1 else len(self.codes)

    def __getitem__(self, index: Index) -> Int8Vectors:
        return Int8Vectors(_some(self.codes, index), self.scale)

    def __iter__(self) -> Iterator[Int8Vectors]:
        return (Int8Vectors(codes, self.scale) for codes in np.atleast_2d(self.codes))


@dataclass(frozen=True, eq=False)
class BinaryVectors:
    """Vectors as the signs of their components, eight to a byte: 1 for a component above 0, else 0.

    Shape: bits (n, ceil(dimension / 8)), or (ceil(dimension / 8),) for one vector, in the order of numpy.packbits: the
    first component is the highest bit; what fills the last byte is 0. Indexing is that of `Int8Vectors`.

    Source: Yamada et al. 2021, arXiv:2106.00882: binary codes find candidates, which dense vectors rank again.
    """

    bits: NDArray[np.uint8]
    dimension: int

    def __post_init__(self) -> None:
        _require(self.bits, np.uint8, "bits")
        if (self.dimension + 7) // 8 != self.bits.shape[-1]:
            raise DataError(f"{self.bits.shape[-1]} bytes a vector do not hold {self.dimension} bits")

    @property
    def precision(self) -> Literal["binary"]:
        """How the vectors are coded."""
        return "binary"

    def floats(self) -> Vectors:
        """The unit vectors with these signs and equal components, float32. Shape: (n, dimension) or (dimension,)."""
        ones = np.unpackbits(self.bits, axis=-1, count=self.dimension)
        return (2 * ones.astype(np.float32) - 1) / np.float32(np.sqrt(self.dimension))

    def __len__(self) -> int:
        return 1 if self.bits.ndim == 1 else len(self.bits)

    def __getitem__(self, index: Index) -> BinaryVectors:
        return BinaryVectors(_some(self.bits, index), self.dimension)

    def __iter__(self) -> Iterator[BinaryVectors]:
        return (BinaryVectors(bits, self.dimension) for bits in np.atleast_2d(self.bits))


Compact = Int8Vectors | BinaryVectors
_Kind = TypeVar("_Kind", Int8Vectors, BinaryVectors)


def int8_scale(dimension: int) -> float:
    """What one step of an int8 code is worth: a fact of the dimension alone, so codes of any two calls compare.

    Reaches to 6 / sqrt(dim) and never beyond 1, the largest component a unit vector can have; what is beyond is
    clipped. `benchmarks/int8_scale.py` measures what it loses.
    """
    return min(1.0, _REACH / math.sqrt(dimension)) / _LARGEST


def to_int8(vectors: ArrayLike, *, scale: float | None = None) -> Int8Vectors:
    """The int8 codes of `vectors`, which are brought to unit length first; a zero vector has the codes 0.

    Shape: (n, dim) or (dim,). scale: by default that of `int8_scale`.
    Raises: DataError for NaN, infinity or what are no vectors.
    """
    given = as_floats(vectors)
    step = int8_scale(given.shape[-1]) if scale is None else scale
    coded = Int8Vectors(np.empty(given.shape, np.int8), step)
    rows, out = np.atleast_2d(given), np.atleast_2d(coded.codes)  # views
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        out[part] = np.clip(np.rint(unit_rows(rows[part], first=start) / step), -_LARGEST, _LARGEST)
    return coded


def to_binary(vectors: ArrayLike) -> BinaryVectors:
    """The sign bits of `vectors`; their length does not matter. Shape: (n, dim) or (dim,).

    Raises: DataError for NaN, infinity or what are no vectors.
    """
    given = as_floats(vectors)
    rows = np.atleast_2d(given)
    bits = np.empty((len(rows), (rows.shape[1] + 7) // 8), np.uint8)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        refuse_not_finite(rows[part], start)
        bits[part] = np.packbits(rows[part] > 0, axis=1)
    return BinaryVectors(bits[0] if given.ndim == 1 else bits, given.shape[-1])


def coded(vectors: Vectors, precision: VectorPrecision) -> Vectors | Compact:
    """`vectors` in that precision; for float32 themselves. Shape: (n, dim)."""
    if precision == "float32":
        return vectors
    return to_int8(vectors) if precision == "int8" else to_binary(vectors)


def require_precision(precision: str, *, normalized: bool) -> None:
    """Raises RecipeError for an unknown precision, and for int8 of vectors that are not `normalized`."""
    if precision not in get_args(VectorPrecision):
        known = ", ".join(get_args(VectorPrecision))
        raise RecipeError(f"precision is {precision!r:.80}; vectors have one of {known}")
    if precision == "int8" and not normalized:
        raise RecipeError("int8 codes unit vectors alone: precision='int8' does not go with normalize_embeddings=False")


def concatenate(parts: Sequence[_Kind]) -> _Kind:
    """All vectors of `parts` in their order. Shape: (sum of n, dim).

    Raises: DataError when there are none, or when they differ in kind, dimension or scale.
    """
    if not parts:
        raise DataError("there are no vectors to concatenate: at least one part is needed")
    facts = {(type(p).__name__, p.dimension, p.scale if isinstance(p, Int8Vectors) else None) for p in parts}
    if len(facts) > 1:
        told = "; ".join(f"{k} of {d}" + (f", scale {s:.6g}" if s else "") for k, d, s in sorted(facts, key=str))
        raise DataError(f"vectors that differ in kind, dimension or scale cannot be concatenated: {told}")
    whole = np.concatenate([np.atleast_2d(_array(part)) for part in parts])
    first = parts[0]
    return Int8Vectors(whole, first.scale) if isinstance(first, Int8Vectors) else BinaryVectors(whole, first.dimension)


def _require(array: object, kind: type[np.generic], name: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim not in (1, 2):
        told = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{name} are {told}; an {np.dtype(kind)} array of shape (n, width) or (width,) is needed")


def _is_number(value: object) -> bool:
    """Whether it is an integer or a float, of Python or numpy."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _array(vectors: Compact) -> NDArray[np.int8] | NDArray[np.uint8]:
    return vectors.codes if isinstance(vectors, Int8Vectors) else vectors.bits


_Code = TypeVar("_Code", np.int8, np.uint8)


def _some(array: NDArray[_Code], index: Index) -> NDArray[_Code]:
    if array.ndim == 1:
        raise DataError(f"this is one vector; it has no vector {index!r:.80}")
    chosen = index if isinstance(index, slice) else np.asarray(index)
    if isinstance(chosen, np.ndarray):
        chosen = chosen if chosen.size else chosen.astype(np.int64)  # an empty list is one of floats
        if chosen.ndim > 1 or chosen.dtype.kind not in "iub":
            told = f"{index!r:.80}"
            raise DataError(f"vectors are chosen by a number, a slice, a mask or a list of numbers, not by {told}")
    found: NDArray[_Code] = array[chosen]
    return found
