"""Which texts go together and how wide: batches of like length, padded to a finite ladder of shapes.

Every new shape makes an engine build kernels (OpenVINO: tens of milliseconds and, for each new number of tokens, some
megabytes for good) or grow its memory (ONNX Runtime). So widths come in steps that grow with the length: a model of 512
tokens meets 64 of them in its life. Several rows are a power of two, so wide that all their tokens are a multiple of
32: runs of up to 1,024 tokens have 32 sizes. Padding is a few percent of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Up to so many tokens: in steps of so many. The last step holds for all that is longer.
STEPS = ((32, 2), (64, 4), (256, 8), (1 << 31, 16))
GRID = 32  # tokens: what a run of several rows is a multiple of
_RUN = 12  # tokens that could be computed in the time that starting a run takes


def ladder(length: int, max_length: int, *, rows: int = 1, coarse: bool = False) -> int:
    """The width that rows of at most `length` tokens are padded to: the next step, at most `max_length`.

    rows: so many together, a power of two. coarse: the next power of two from 16 instead, which all are steps too: few
    shapes where memory is short.
    """
    if coarse:
        return max(length, min(1 << max(4, (length - 1).bit_length()), max_length))
    step = next(step for limit, step in STEPS if length <= limit)
    if rows > 1:
        step = max(step, GRID // rows)
    return max(length, min(-(-length // step) * step, max_length))


def widths(max_length: int, *, coarse: bool = False) -> list[int]:
    """Every width that `ladder` gives, ascending."""
    return sorted({ladder(length, max_length, coarse=coarse) for length in range(1, max_length + 1)})


def length_batches(lengths: Sequence[int], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers in batches of at most `batch_size`, longest texts first.

    Every row appears once. The longest come first so that memory is at its peak at once, not at the end.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def token_batches(
    lengths: Sequence[int], *, tokens: int, max_length: int, most_rows: int | None = None, coarse: bool = False
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Row numbers and width of batches of at most `tokens` tokens, padding included, longest texts first.

    Every row appears once; a batch has a power of two of rows, at least one, at most `most_rows`: the number at which
    padding and the start of another run cost the least together.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    sums = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64)[order])]).tolist()
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        fits = min(max(1, tokens // ladder(longest, max_length)), len(order) - start, most_rows or len(order))
        best, cost, rows = (1, ladder(longest, max_length, coarse=coarse)), float("inf"), 1 << (fits.bit_length() - 1)
        while rows:
            width = ladder(longest, max_length, rows=rows, coarse=coarse)
            here = (_RUN + rows * width) / max(sums[start + rows] - sums[start], 1)
            if here < cost and (rows == 1 or rows * width <= tokens):
                best, cost = (rows, width), here
            rows //= 2
        rows, width = best
        yield order[start : start + rows], width
        start += rows


def pad(
    ids: Sequence[Sequence[int] | NDArray[np.int32]], pad_token_id: int, *, to: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and attention mask of one batch, padded on the right to the longest row or to `to` tokens.

    Shape: two arrays (len(ids), seq_len), int64; the mask is 1 on tokens and 0 on padding.
    """
    width = max((len(row) for row in ids), default=0) if to is None else to
    input_ids = np.full((len(ids), width), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for i, row in enumerate(ids):
        input_ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return input_ids, mask
