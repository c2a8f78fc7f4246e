"""Safe weights give the exact product on processors whose int16 sums saturate, whatever the activations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgebert.quantize.passes.static_int8 import StaticInt8, quantized
from edgebert.quantize.saturation import PAIR_LIMIT, is_safe, multiply_saturating, neighbour_sums, safe_scales

WEIGHTS = npst.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.floats(-4, 4, width=32))
# Values near the ends are what saturates.
BYTES = st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 254, 255]))


def exact(activations: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The product without saturation."""
    product: np.ndarray = activations.astype(np.int64) @ weight.astype(np.int64)
    return product


@settings(max_examples=200, deadline=None, derandomize=True)
@given(WEIGHTS, st.data())
def test_safe_scales_give_the_exact_product_for_any_activations(weight: np.ndarray, data: st.DataObject) -> None:
    codes = quantized(weight, safe_scales(weight))
    assert is_safe(codes)
    shape = (3, len(weight))
    activations = data.draw(npst.arrays(np.uint8, shape, elements=BYTES))
    np.testing.assert_array_equal(multiply_saturating(activations, codes), exact(activations, codes))
    # Where neighbours pair up does not matter: the matrix may be cut at an odd place.
    np.testing.assert_array_equal(
        multiply_saturating(activations[:, 1:], codes[1:]), exact(activations[:, 1:], codes[1:])
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WEIGHTS)
def test_the_worst_activations_for_each_pair_are_exact_too(weight: np.ndarray) -> None:
    codes = quantized(weight, safe_scales(weight))
    for column in codes.T:
        for activations in (np.where(column > 0, 255, 0), np.where(column < 0, 255, 0)):
            row = activations[None].astype(np.uint8)
            np.testing.assert_array_equal(multiply_saturating(row, codes), exact(row, codes))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WEIGHTS, st.data())
def test_seven_bits_are_exact_too(weight: np.ndarray, data: st.DataObject) -> None:
    codes = quantized(weight, StaticInt8(weights="7-bit")._scales(weight))
    assert np.abs(codes).max() <= 64
    assert is_safe(codes)
    activations = data.draw(npst.arrays(np.uint8, (2, len(weight)), elements=BYTES))
    np.testing.assert_array_equal(multiply_saturating(activations, codes), exact(activations, codes))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WEIGHTS)
def test_safe_scales_are_never_coarser_than_seven_bits_by_more_than_a_hair(weight: np.ndarray) -> None:
    seven = np.maximum(np.abs(weight).max(axis=0), 1e-9) / 64
    assert (safe_scales(weight) <= seven * 1.02).all()
    assert (safe_scales(weight) >= np.abs(weight).max(axis=0) / 127 * 0.9999).all()


def test_a_matrix_that_is_not_safe_is_caught() -> None:
    for pair in ([127, 127], [100, 29], [-127, -2]):
        codes = np.array(pair, np.int8)[:, None]
        assert not is_safe(codes)
        row = np.full((1, 2), 255, np.uint8)
        assert (multiply_saturating(row, codes) != exact(row, codes)).any() == (abs(sum(pair)) * 255 > 32768)
    full = quantized(np.ones((4, 2), np.float32), StaticInt8(weights="full")._scales(np.ones((4, 2), np.float32)))
    assert (full == 127).all()
    assert not is_safe(full)


@pytest.mark.parametrize("pair", [[127, 1], [64, 64], [127, -127], [-127, -1], [127, 0]])
def test_a_matrix_at_the_limit_is_safe(pair: list[int]) -> None:
    codes = np.array(pair, np.int8)[:, None]
    assert is_safe(codes)
    row = np.full((1, 2), 255, np.uint8)
    assert (multiply_saturating(row, codes) == exact(row, codes)).all()


def test_sums_are_those_of_any_two_neighbours_of_one_sign() -> None:
    weight = np.array([[1, -5, 0], [2, -6, 9], [4, 7, -9]])
    assert neighbour_sums(weight).tolist() == [6, 11, 9]
    assert neighbour_sums(weight[:1]).tolist() == [1, 5, 0]
    assert PAIR_LIMIT == 128


def test_a_channel_that_is_safe_at_full_range_keeps_it() -> None:
    weight = np.array([[1.0, 1.0], [-1.0, 1.0]], np.float32)
    scales = safe_scales(weight)
    assert scales[0] == np.float32(1 / 127)
    assert 1 / 65 < scales[1] < 1 / 63
