"""Statistics do not depend on how the text was split, do not grow with it, and leave padding out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import lookup_model, surroundings
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert.quantize import statistics
from edgebert.quantize.statistics import BINS, Activation, collect

IDS = tuple((i, i + 1, i + 2) for i in range(70))


def one_shot(values: np.ndarray) -> Activation:
    """Everything at once."""
    seen = Activation(values.shape[1])
    seen.add(values)
    return seen


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(
        st.tuples(st.integers(1, 20), st.sampled_from([0.0, 1e-3, 0.7, 1.0, 4.0, 1000.0])), min_size=1, max_size=8
    ),
)
def test_any_split_of_the_data_gives_the_same_histogram(seed: int, parts: list[tuple[int, float]]) -> None:
    rng = np.random.default_rng(seed)
    # Multiples of a power of two: sums of bins are then exact, whichever way they were merged.
    split = [np.round(rng.normal(size=(rows, 3)) * 64).astype(np.float32) / 64 * np.float32(f) for rows, f in parts]
    seen = Activation(3)
    for part in split:
        seen.add(part)
    whole = one_shot(np.concatenate(split))
    assert seen.count == whole.count == sum(rows for rows, _ in parts)
    np.testing.assert_array_equal(seen.least, whole.least)
    np.testing.assert_array_equal(seen.most, whole.most)
    np.testing.assert_allclose(seen.mean, whole.mean, atol=1e-9, rtol=1e-9)
    assert (seen.limit, seen.range) == (whole.limit, whole.range)
    assert seen.counts.sum() == whole.counts.sum() == 3 * whole.count
    # A value on the border of two bins may fall into the other one when the bins were finer at first.
    assert np.abs(np.cumsum(seen.counts) - np.cumsum(whole.counts)).max() <= borders(np.concatenate(split), whole)


def borders(values: np.ndarray, seen: Activation) -> int:
    """How many values lie within a hair of a border between bins."""
    if not seen.limit:
        return 0
    place = values.astype(np.float64).ravel() / (2 * seen.limit / BINS)
    return int((np.abs(place - np.round(place)) < 1e-6).sum())


def test_values_between_borders_fall_into_the_same_bins_for_every_split() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 4)).astype(np.float32)
    values *= np.linspace(0.01, 900, 300, dtype=np.float32)[:, None]  # the range doubles again and again
    whole = one_shot(values)
    for size in (1, 7, 50):
        seen = Activation(4)
        for start in range(0, 300, size):
            seen.add(values[start : start + size])
        np.testing.assert_array_equal(seen.counts, whole.counts)
    expected = np.histogram(values, BINS, (-whole.limit, whole.limit))[0]
    np.testing.assert_array_equal(whole.counts, expected)
    assert whole.edges[0] == -whole.limit
    assert whole.limit >= np.abs(values).max() > whole.limit / 2


def sizes(seen: Activation) -> list[int]:
    """The bytes that everything it holds takes."""
    return [value.nbytes for value in vars(seen).values() if isinstance(value, np.ndarray)]


def test_memory_does_not_grow_with_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    model = lookup_model(rng.normal(size=(80, 16)), [np.ones((16, 4))])
    held = []
    largest: list[int] = []
    add = Activation.add

    def counted(self: Activation, values: np.ndarray) -> None:
        largest.append(values.size)
        add(self, values)

    monkeypatch.setattr(Activation, "add", counted)
    for times in (4, 400):
        largest.clear()
        found = collect(model, {"rows": None}, IDS * times, ("input_ids",), pad_token_id=0, folder=tmp_path)["rows"]
        assert found.count == 70 * 3 * times
        held.append((sizes(found), max(largest)))
    assert held[0] == held[1]  # neither what is kept nor the largest batch


def test_padding_is_left_out(tmp_path: Path) -> None:
    table = np.ones((80, 16))
    table[0] = 1000  # what padding would look up
    rows = [(1, 2, 3), (1,), (1, 2, 3, 4, 5, 6, 7)]
    model = lookup_model(table, [np.ones((16, 4))])
    found = collect(model, {"rows": None}, rows, ("input_ids",), pad_token_id=0, folder=tmp_path)["rows"]
    assert found.count == 11
    assert found.range == (0.0, 1.0)
    np.testing.assert_allclose(found.mean, 1.0)
    assert list(tmp_path.iterdir()) == []  # the temporary copy of the model is gone


def test_channels_that_no_layer_multiplies_do_not_count_for_the_range(tmp_path: Path) -> None:
    from graphs import graph_of

    table, weight = np.ones((80, 16)), np.ones((16, 4))
    table[:, 5], weight[5] = 900, 0
    graph = graph_of(lookup_model(table, [weight]))
    context = surroundings(graph.model, IDS, tmp_path)
    found = context.observe(graph, ["rows"])["rows"]
    assert found.range == (0.0, 1.0)
    assert found.largest[5] == 900
    assert context.observe(graph, ["rows"])["rows"].counts is found.counts  # measured once


def test_each_state_of_the_graph_is_measured_anew(tmp_path: Path) -> None:
    from graphs import graph_of

    graph = graph_of(lookup_model(np.ones((80, 16)), [np.ones((16, 4))]))
    context = surroundings(graph.model, IDS, tmp_path)
    before = context.observe(graph, ["rows"])["rows"]
    graph.set("table", np.full((80, 16), 7, np.float32))
    graph.history = ("a pass",)
    assert context.observe(graph, ["rows"])["rows"].range == (0.0, 7.0)
    assert before.range == (0.0, 1.0)


def test_texts_longer_than_a_batch_may_be_are_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_BATCH_TOKENS", 16)
    rows = [tuple(range(n)) for n in (40, 40, 8, 8, 8)]
    shapes = [ids.shape for ids, _ in statistics._batches(rows, 0)]
    assert sum(n for n, _ in shapes) == 5
    assert (1, 40) in shapes
