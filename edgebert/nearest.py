"""Exact search for the nearest vectors, float32, int8 or binary, in blocks: memory does not grow with the documents."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebert.compact import BinaryVectors, Int8Vectors, to_binary
from edgebert.errors import DataError, RecipeError
from edgebert.scores import DOCUMENTS, QUERIES, Dense, hamming, held, products, require_same_dimension, slices
from edgebert.vectors import Vectors


@dataclass(frozen=True, eq=False)
class Found:
    """The nearest documents of every query, the best first. Shape: both (queries, k), or (k,) for one query.

    `indices`: their numbers, int64; of equal scores the lower number comes first. `scores`: float32 cosines, up to the
    rounding of the codes; of binary vectors without rescoring those of the signs: 1 - 2 * Hamming distance / dimension.
    """

    indices: NDArray[np.int64]
    scores: Vectors


def search(
    queries: Dense | BinaryVectors, documents: Dense | BinaryVectors, k: int = 10, *,
    rescore: Dense | None = None, oversample: int = 4,
) -> Found:  # fmt: skip
    """The `k` nearest documents of every query, or all when there are fewer.

    Queries and documents are float vectors or Int8Vectors, mixed as you like: float queries lose nothing to their own
    rounding. BinaryVectors as documents take queries of any kind by their signs.
    rescore: for binary documents, the same documents as float vectors (an array or a numpy.memmap) or Int8Vectors: the
    k * oversample nearest by Hamming distance are ranked again by cosine, for which queries must not be binary.
    Raises: RecipeError for an option out of range; DataError for vectors that do not fit each other.

    Source: Yamada et al. 2021, arXiv:2106.00882.
    """
    for name, value in (("k", k), ("oversample", oversample)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise RecipeError(f"{name} is {value!r}; it must be 1 or more")
    if not isinstance(documents, BinaryVectors):
        if rescore is not None or isinstance(queries, BinaryVectors):
            wrong = "binary queries" if rescore is None else "rescoring"
            raise RecipeError(f"the documents are not binary: {wrong} must go with BinaryVectors")
        return _answered(queries, _ranked(held(queries), held(documents), k))
    signs = queries if isinstance(queries, BinaryVectors) else _signs(queries)
    if rescore is None:
        return _answered(queries, _ranked(signs, documents, k))
    if isinstance(queries, BinaryVectors):
        raise RecipeError("rescoring needs more of the queries than signs: give them as float vectors or Int8Vectors")
    x, y = held(queries), held(rescore)
    require_same_dimension(x, y)
    if len(y) != len(documents):
        raise DataError(f"{len(y)} vectors to rescore with do not fit {len(documents)} documents")
    candidates, _ = _ranked(signs, documents, k * oversample)
    return _answered(queries, _rescored(x, y, candidates, k))


def _signs(queries: Dense) -> BinaryVectors:
    return to_binary(queries.codes if isinstance(queries, Int8Vectors) else queries)


def _ranked(x: Any, y: Any, k: int) -> tuple[NDArray[np.int64], Vectors]:
    """Numbers and scores of the k best rows of `y` for each row of `x`. Shape: both (len(x), min(k, len(y)))."""
    binary = isinstance(y, BinaryVectors)
    if binary:
        x, y = BinaryVectors(np.atleast_2d(x.bits), x.dimension), BinaryVectors(np.atleast_2d(y.bits), y.dimension)
    else:
        require_same_dimension(x, y)
    kept = min(k, len(y))
    indices, best = np.empty((len(x), kept), np.int64), np.empty((len(x), kept), np.float32)
    for rows in slices(len(x), QUERIES):
        numbers = np.empty((len(indices[rows]), 0), np.int64)
        values = np.empty(numbers.shape, np.float32)
        for columns in slices(len(y), DOCUMENTS):
            block = _agreement(x[rows], y[columns]) if binary else products(x, rows, y, columns)
            numbers, values = _best(numbers, values, block, columns.start, kept)
        if kept:
            indices[rows], best[rows] = numbers, values
    return indices, best


def _agreement(a: BinaryVectors, b: BinaryVectors) -> Vectors:
    return np.asarray(1 - 2 * hamming(a, b) / a.dimension, np.float32)


def _best(
    numbers: NDArray[np.int64], values: Vectors, block: Vectors, start: int, kept: int
) -> tuple[NDArray[np.int64], Vectors]:
    """The best of those found so far and of a block whose first column is number `start`, sorted, ties by number."""
    top = [_top(row, kept) for row in block]
    numbers = np.concatenate([numbers, start + np.stack(top)], axis=1)
    values = np.concatenate([values, np.take_along_axis(block, np.stack(top), axis=1)], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :kept]
    return np.take_along_axis(numbers, order, axis=1), np.take_along_axis(values, order, axis=1)


def _top(row: Vectors, kept: int) -> NDArray[np.int64]:
    """The columns of the `kept` largest values, in order, ties by number; argpartition would pick any of a tie."""
    if kept < len(row):
        least = np.partition(row, len(row) - kept)[len(row) - kept]
        chosen = np.flatnonzero(row >= least)
    else:
        chosen = np.arange(len(row))
    return chosen[np.argsort(-row[chosen], kind="stable")][:kept]


def _rescored(x: Any, y: Any, candidates: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], Vectors]:
    kept = min(k, candidates.shape[1])
    indices, best = np.empty((len(x), kept), np.int64), np.empty((len(x), kept), np.float32)
    for i, chosen in enumerate(np.sort(candidates, axis=1)):
        row = products(x, slice(i, i + 1), y, chosen)[0]
        order = _top(row, kept)
        indices[i], best[i] = chosen[order], row[order]
    return indices, best


def _answered(queries: Any, found: tuple[NDArray[np.int64], Vectors]) -> Found:
    if isinstance(queries, Int8Vectors | BinaryVectors):
        one = (queries.codes if isinstance(queries, Int8Vectors) else queries.bits).ndim == 1
    else:
        one = np.ndim(queries) == 1
    return Found(found[0][0], found[1][0]) if one else Found(*found)
