"""A value is the sum of its windows; repeated rows do not saturate together; only what may be widened is."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import chain_model, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert.quantize.passes.static_int8 import quantized
from edgebert.quantize.ranges import LEVELS, spanned, steps
from edgebert.quantize.saturation import is_safe, multiply_saturating, safe_scales
from edgebert.quantize.statistics import Activation
from edgebert.quantize.windows import Windows, affordable, widen

WIDTH = 64
SEARCH = settings(max_examples=150, deadline=None, derandomize=True, database=None)
REACH = st.dictionaries(st.integers(0, WIDTH - 1), st.tuples(st.floats(-9, 0), st.floats(0, 9)), min_size=1, max_size=3)


def reaching(ends: dict[int, tuple[float, float]], *, width: int = WIDTH) -> Activation:
    """An activation from -1 to 0.7, some channels of which reach from and to other ends."""
    rows = np.tile(np.array([[-1.0], [0.7]], np.float32), (1, width))
    for channel, (least, most) in ends.items():
        rows[:, channel] = least, most
    seen = Activation(width)
    seen.add(rows)
    return seen


def split(ends: dict[int, tuple[float, float]], zero: int, scale: float) -> tuple[Windows, Activation, float, float]:
    seen = reaching(ends)
    low, high = spanned(np.float32(scale), np.uint8(zero))
    return Windows.of(seen, np.array(sorted(ends), np.int64), low, high), seen, low, high


def codes(values: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """As QuantizeLinear gives them."""
    return np.clip(np.round(values / scale) + zero, 0, LEVELS).astype(np.uint8)


@SEARCH
@given(ends=REACH, zero=st.integers(1, 254), scale=st.floats(1 / 255, 1 / 40), data=st.data())
def test_the_windows_add_up_to_any_value_within_reach(
    ends: dict[int, tuple[float, float]], zero: int, scale: float, data: st.DataObject
) -> None:
    scale = float(np.float32(scale))
    windows, _, low, high = split(ends, zero, scale)
    for channel, (least, most) in ends.items():
        value = data.draw(st.floats(min(least, low), max(most, high)))
        mine = (windows.channels == channel) & ~windows.idle
        parts = np.array([value, *(value - windows.shifts[mine])])
        total = ((codes(parts, scale, zero).astype(np.int64) - zero) * scale).sum() - windows.constants[mine].sum()
        # What reaches a thousandth of a window beyond the last one is left out, a quarter of a step.
        assert abs(total - value) <= 0.76 * scale + 1e-4


@SEARCH
@given(ends=REACH, seed=st.integers(0, 99))
def test_in_float_the_split_product_is_the_product(ends: dict[int, tuple[float, float]], seed: int) -> None:
    seen = reaching(ends)
    low, high = spanned(*steps(-1.0, 0.7))
    windows, rng = Windows.of(seen, np.array(sorted(ends)), low, high), np.random.default_rng(seed)
    # A channel may reach a thousandth of a window beyond its last one.
    x = rng.uniform(seen.least, seen.most, (20, WIDTH)) * 0.999
    weight = rng.normal(size=(WIDTH, 8)).astype(np.float32)
    split = np.clip(np.hstack([x, x[:, windows.channels] - windows.shifts]), low, high)
    rows = windows.weight(weight)
    np.testing.assert_allclose(split @ rows - windows.surplus(rows), x @ weight, atol=0.01)


@SEARCH
@given(ends=REACH, zero=st.integers(1, 254), scale=st.floats(1 / 255, 1 / 40), seed=st.integers(0, 99))
def test_rows_that_are_repeated_stay_safe(
    ends: dict[int, tuple[float, float]], zero: int, scale: float, seed: int
) -> None:
    """The scales of ordinary rows are near those without windows, as no row stands beside its own repetition."""
    windows, _, _, _ = split(ends, zero, scale)
    rng = np.random.default_rng(seed)
    weight = windows.weight(rng.normal(size=(WIDTH, 8)).astype(np.float32))
    int8 = quantized(weight, safe_scales(weight))
    assert is_safe(int8)
    rows = rng.integers(0, 256, (3, len(weight))).astype(np.uint8)
    assert (multiply_saturating(rows, int8) == rows.astype(np.int64) @ int8.astype(np.int64)).all()
    around = np.concatenate([np.arange(WIDTH), np.where(windows.idle, -1, windows.channels)])
    assert not ((around[1:] == around[:-1]) & (around[1:] >= 0)).any()


def test_idle_columns_keep_a_channel_from_itself_and_fill_the_row() -> None:
    scale, zero = steps(-1.0, 0.7)
    windows = Windows.of(reaching({63: (-1.0, 6.0)}), np.array([63]), *spanned(scale, zero))
    assert len(windows.channels) % 16 == 0
    assert windows.idle.tolist() == [True, False] * 4 + [True] * 8  # 5.3 / 1.7 are 4 windows
    np.testing.assert_allclose(windows.shifts[1:8:2], np.arange(1, 5) * 255 * scale, rtol=1e-6)
    assert not windows.constants[windows.idle].any()
    assert not windows.weight(np.ones((64, 2), np.float32))[64:][windows.idle].any()


def test_windows_that_would_be_too_many_are_not_made() -> None:
    one, many = np.array([3]), np.array([3, 4])
    assert affordable(reaching({3: (0.0, 1.7 * 16)}), one, -1.0, 0.7)
    assert not affordable(reaching({3: (0.0, 1.7 * 18)}), one, -1.0, 0.7)
    assert not affordable(reaching({3: (0.0, 15.0), 4: (-15.0, 0.0)}), many, -1.0, 0.7)
    # All others are zero: a million million windows, which are counted and not listed.
    assert not affordable(reaching({3: (0.0, 1.0)}), one, *spanned(*steps(0.0, 0.0)))


def test_a_tensor_that_reaches_no_further_has_no_windows() -> None:
    assert not len(Windows.of(reaching({}), np.array([3, 9]), -1.0, 0.7).channels)


@pytest.mark.parametrize("break_it", [None, "shown", "reader", "vector", "no bias", "other op"])
def test_only_a_layer_whose_columns_nobody_else_sees_is_widened(break_it: str | None) -> None:
    rng = np.random.default_rng(0)
    model = chain_model(
        rng.normal(size=(80, 16)), (rng.normal(size=(16, 64)), rng.normal(size=(64, 8))),
        (rng.normal(size=64), rng.normal(size=8)), shown=break_it == "shown",
    )  # fmt: skip
    graph = graph_of(model)
    nodes = {node.name: node for node in graph.graph.node}
    if break_it == "reader":  # somebody reads what is between
        nodes["make_shifted"].output[0] = "one_more"
        nodes["make_doubled"].input[1] = "one_more"
        extra = graph.graph.node.add()
        extra.CopyFrom(nodes["make_erf"])
        extra.name, extra.output[0] = "extra", "extra"
    elif break_it == "vector":  # a constant for every channel would have to be repeated too
        graph.set("half", np.full(64, 0.5, np.float32))
    elif break_it == "no bias":
        nodes["make_h"].input[0] = "scalar"
        graph.set("scalar", np.zeros((), np.float32))
    elif break_it == "other op":
        nodes["make_erf"].op_type = "Softmax"
    graph.refresh()
    scale, zero = steps(-1.0, 0.7)
    windows = Windows.of(reaching({5: (0.0, 6.0)}), np.array([5]), *spanned(scale, zero))
    before = graph.model.SerializeToString()
    readers = [linear for linear in graph.linears() if linear.input == "act"]
    assert widen(graph, readers, windows) == (None if break_it else "act_windows")
    assert (graph.model.SerializeToString() == before) == bool(break_it)
