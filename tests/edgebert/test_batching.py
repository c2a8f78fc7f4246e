"""Which texts go together and how wide."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgebert.batching import GRID, STEPS, ladder, length_batches, pad, widths

LENGTHS = st.lists(st.integers(0, 600), max_size=200)
ROWS = st.lists(st.lists(st.integers(1, 30_000), max_size=40), min_size=1, max_size=12)


@given(st.integers(1, 600), st.integers(3, 600))
def test_a_row_fits_its_width_with_less_than_a_step_to_spare(length: int, max_length: int) -> None:
    width = ladder(length, max_length)
    step = 2 if length <= 32 else 4 if length <= 64 else 8 if length <= 256 else 16
    assert length <= width < length + step
    assert width in (length, max_length) or width % step == 0
    assert width <= max(length, max_length)


@given(st.integers(1, 512), st.sampled_from([2, 4, 8, 16, 32, 64, 128, 256, 512]))
def test_several_rows_are_as_wide_as_makes_a_multiple_of_64_tokens(length: int, rows: int) -> None:
    width = ladder(length, 512, rows=rows)
    assert rows * width % GRID == 0
    assert width in widths(512)
    assert length <= width < length + max(64 // rows, 16 if length > 256 else 8)


@given(st.integers(3, 600))
def test_the_widths_are_all_that_the_ladder_gives_and_few(max_length: int) -> None:
    found = widths(max_length)
    assert found == sorted({ladder(n, max_length) for n in range(1, max_length + 1)})
    assert found[-1] == max_length
    assert len(found) <= 16 + 8 + -(-max(0, min(max_length, 256) - 64) // 8) + -(-max(0, max_length - 256) // 16)
    assert ladder(1, max_length) == 2


def test_the_widths_of_some_models() -> None:
    assert widths(19) == [2, 4, 6, 8, 10, 12, 14, 16, 18, 19]
    assert widths(70)[15:] == [32, 36, 40, 44, 48, 52, 56, 60, 64, 70]
    assert len(widths(512)) == 64
    assert STEPS[-1][0] > 10**6


@given(LENGTHS, st.integers(1, 70))
def test_every_row_appears_once_in_batches_of_falling_length(lengths: list[int], batch_size: int) -> None:
    batches = [batch.tolist() for batch in length_batches(lengths, batch_size)]
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(1, 70))
def test_rows_of_one_length_keep_their_order(lengths: list[int], batch_size: int) -> None:
    rows = [int(row) for batch in length_batches(lengths, batch_size) for row in batch]
    for before, after in pairwise(rows):
        assert lengths[before] > lengths[after] or before < after


@given(ROWS, st.integers(0, 9), st.integers(0, 20))
def test_padding_keeps_the_ids_and_fills_the_rest(rows: list[list[int]], pad_token_id: int, more: int) -> None:
    longest = max(map(len, rows))
    for ids, mask in (pad(rows, pad_token_id), pad(rows, pad_token_id, to=longest + more)):
        assert ids.shape == mask.shape
        assert ids.dtype == mask.dtype == np.int64
        for row, padded, kept in zip(rows, ids.tolist(), mask.tolist(), strict=True):
            rest = len(padded) - len(row)
            assert padded == row + [pad_token_id] * rest
            assert kept == [1] * len(row) + [0] * rest
    assert pad(rows, 0)[0].shape == (len(rows), longest)
    assert pad(rows, 0, to=longest + more)[0].shape == (len(rows), longest + more)


def test_no_rows_are_an_empty_batch() -> None:
    ids, mask = pad([], 0)
    assert ids.shape == mask.shape == (0, 0)
    assert list(length_batches([], 8)) == []
