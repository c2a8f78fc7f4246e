"""Each way to choose an activation's range, against its definition in numpy, and the steps of uint8 over it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgebert.quantize.ranges import LEVELS, METHODS, PERCENTILE, Method, entropy, min_max, mse, percentile, steps
from edgebert.quantize.statistics import BINS, Activation

RNG = np.random.default_rng(0)
GAUSSIAN = RNG.normal(size=(4000, 16)).astype(np.float32)
ONE_OUTLIER = np.concatenate([GAUSSIAN, np.full((1, 16), 500.0, np.float32)])
ZERO = np.zeros((50, 16), np.float32)
GELU = np.where(GAUSSIAN > 0, GAUSSIAN, np.float32(-0.17) * np.exp(-(GAUSSIAN**2)))  # a long side and a short one
POSITIVE = np.abs(GAUSSIAN) + np.float32(0.5)
NEGATIVE = -POSITIVE
DATA = {
    "gaussian": GAUSSIAN, "one-outlier": ONE_OUTLIER, "zero": ZERO, "gelu": GELU, "positive": POSITIVE,
    "negative": NEGATIVE,
}  # fmt: skip


def observed(values: NDArray[np.float32]) -> Activation:
    """The statistics of those rows."""
    seen = Activation(values.shape[1])
    seen.add(values)
    return seen


def loss(values: NDArray[np.float32], low: float, high: float) -> float:
    """The mean squared error of uint8 over that range."""
    scale = (high - low) / LEVELS
    zero = np.round(-low / scale)
    codes = np.clip(np.round(values / scale) + zero, 0, LEVELS)
    return float((((codes - zero) * scale - values) ** 2).mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DATA)
def test_zero_is_inside_and_nothing_is_beyond_what_was_seen(method: Method, name: str) -> None:
    low, high = METHODS[method](observed(DATA[name]))
    assert min(0.0, float(DATA[name].min())) <= low <= 0.0 <= high <= max(0.0, float(DATA[name].max()))
    assert (low < high) == (name != "zero")


@pytest.mark.parametrize("name", DATA)
def test_min_max_is_all_that_was_seen(name: str) -> None:
    values = DATA[name]
    assert min_max(observed(values)) == (min(0.0, float(values.min())), max(0.0, float(values.max())))


@pytest.mark.parametrize("name", DATA)
def test_percentile_is_numpys_to_one_bin(name: str) -> None:
    seen = observed(DATA[name])
    outside = (100 - PERCENTILE) / 2
    # A value that is there, not one between two neighbours, of which an outlier may be one.
    low, high = np.percentile(DATA[name], [outside, 100 - outside], method="inverted_cdf")
    found = percentile(seen)
    width = 2 * seen.limit / BINS
    assert abs(found[0] - min(0.0, low)) <= 2 * width
    assert abs(found[1] - max(0.0, high)) <= 2 * width


@pytest.mark.parametrize("name", [name for name in DATA if name != "zero"])
def test_mse_loses_no_more_than_any_other_shrunken_range(name: str) -> None:
    values = DATA[name]
    seen = observed(values)
    least, most = min_max(seen)
    low, high = mse(seen)
    share = high / most if most else low / least
    assert low == pytest.approx(least * share, abs=1e-9)
    best = min(loss(values, least * s, most * s) for s in np.linspace(1.0, 0.2, 65))
    assert loss(values, low, high) <= best * 1.02


def kullback_leibler(values: NDArray[np.float32], seen: Activation, low: float, high: float) -> float:
    """The information lost when the histogram is told in 256 levels over the range; clipped mass loses all it has.

    Written level by level, as the paper tells it.
    """
    counts, edges = np.histogram(values, BINS, (-seen.limit, seen.limit))
    share, centres = counts / counts.sum(), (edges[:-1] + edges[1:]) / 2
    level = np.clip(np.round((centres - low) / (high - low) * LEVELS), 0, LEVELS)
    inside = (centres >= low) & (centres <= high)
    lost = float(share[~inside].sum() * np.log(LEVELS))
    for one in range(LEVELS + 1):
        mine = (level == one) & (share > 0)
        p = share[mine & inside]
        if len(p):
            lost += float((p * np.log(p / (share[mine].sum() / len(p)))).sum())
    return lost


@pytest.mark.parametrize("name", ["gaussian", "gelu", "positive", "one-outlier"])
def test_entropy_loses_no_more_than_any_other_shrunken_range(name: str) -> None:
    values = DATA[name]
    seen = observed(values)
    least, most = min_max(seen)
    lost = {s: kullback_leibler(values, seen, least * s, most * s) for s in np.linspace(1.0, 0.2, 65)}
    low, high = entropy(seen)
    assert kullback_leibler(values, seen, low, high) == pytest.approx(min(lost.values()), abs=1e-6)


@pytest.mark.parametrize("method", [mse, percentile])
def test_one_outlier_among_many_is_clipped(method: Callable[[Activation], tuple[float, float]]) -> None:
    values = np.concatenate([np.tile(GAUSSIAN, (60, 1)), np.full((1, 16), 50.0, np.float32)])
    values[-1, 1:] = 0
    low, high = method(observed(values))
    assert high < 50
    assert loss(values, low, high) < loss(values, float(values.min()), 50.0)


def test_channels_that_are_left_out_do_not_widen_the_range() -> None:
    values = GAUSSIAN.copy()
    values[:, 3] *= 1000
    seen = Activation(16, np.arange(16) != 3)
    seen.add(values)
    for method in METHODS.values():
        low, high = method(seen)
        assert -6 < low < high < 6
    assert seen.largest[3] > 1000


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.floats(-1e4, 0), st.floats(0, 1e4))
def test_steps_cover_the_range_and_the_zero_point_is_neither_0_nor_128(low: float, high: float) -> None:
    scale, zero = steps(low, high)
    assert (scale.dtype, zero.dtype) == (np.float32, np.uint8)
    assert int(zero) not in (0, 128)
    assert scale > 0
    step = max(float(scale), 1e-12)
    # The outermost values are at most half a step away from what uint8 can say.
    assert (0 - int(zero)) * float(scale) <= low + step * 0.501
    assert (LEVELS - int(zero)) * float(scale) >= high - step * 0.501


@pytest.mark.parametrize(("low", "high"), [(0.0, 10.0), (-1.0, 127 / 128), (-128.0, 127.0), (-1e-9, 5.0), (0.0, 0.0)])
def test_where_the_zero_point_would_be_0_or_128_all_of_the_range_stays_inside(low: float, high: float) -> None:
    scale, zero = steps(low, high)
    assert int(zero) in (1, 129)
    assert -int(zero) * float(scale) <= low + 1e-6 * abs(low)
    assert (LEVELS - int(zero)) * float(scale) >= high * (1 - 1e-6)
    assert float(scale) <= max(high - low, 1e-12) / LEVELS * 1.02
