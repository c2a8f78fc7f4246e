"""A product split into far-reaching channels and the rest is the same product, and the right channels are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import constant, graph_of, kinds, lookup_model, run, run_openvino, surroundings

from edgebert.engines.base import feed
from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.passes.outliers import Outliers, outlier_channels
from edgebert.quantize.passes.static_int8 import StaticInt8
from edgebert.quantize.statistics import Activation

IDS = np.arange(80).reshape(2, 40)


def reaching(*reach: float) -> Activation:
    """An activation whose channels reach so far; the mean of each is 0."""
    seen = Activation(len(reach))
    seen.add(np.array([reach, [-r for r in reach]], np.float32))
    return seen


def outlying(channels: dict[int, float], *, width: int = 64) -> np.ndarray:
    """80 rows of uniform values, some channels of which are so many times larger. Shape: (80, width)."""
    table = np.random.default_rng(0).uniform(-1, 1, size=(80, width))
    for channel, factor in channels.items():
        table[:, channel] *= factor
    return table


@pytest.mark.parametrize(
    ("seen", "channels"),
    [
        (reaching(*[1.0] * 32), []),
        (reaching(*[1.0] * 30, 2.9, 1.0), []),  # three times finer steps are asked for
        (reaching(*[1.0] * 30, 3.0, 1.0), [30]),
        (reaching(100.0, *[1.0] * 30, -50.0), [0, 31]),
        (reaching(100.0, *[1.0] * 30, 1.2), [0]),  # one that reaches hardly further than the rest gains nothing
        (reaching(100.0, 1.0, 1.0), []),  # a narrow layer has no room
        (reaching(*[0.0] * 32), []),
    ],
)
def test_the_channels_that_reach_far_beyond_the_others_are_chosen(seen: Activation, channels: list[int]) -> None:
    assert outlier_channels(seen, 4, 3.0).tolist() == channels


def test_no_more_channels_are_chosen_than_allowed() -> None:
    seen = reaching(*range(1000, 1008), *[1.0] * 56)
    assert outlier_channels(seen, 8, 3.0).tolist() == [*range(8)]
    assert outlier_channels(seen, 4, 3.0).tolist() == []  # four would leave the range as it is
    assert len(outlier_channels(reaching(*range(1000, 1020), *[1.0] * 44), 100, 3.0)) == 0  # an eighth at most


def test_the_split_graph_computes_the_same_in_float(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(64, 8)), rng.normal(size=(64, 5))]
    model = lookup_model(outlying({3: 60, 41: -80}), weights, bias=rng.normal(size=8))
    graph = graph_of(model)
    Outliers()(graph, surroundings(model, IDS, tmp_path))
    graph.drop_unused()
    wanted = run(model, {"input_ids": IDS})
    for found in (run(graph.model, {"input_ids": IDS}), run_openvino(graph.model, {"input_ids": IDS}, tmp_path)):
        for one, other in zip(found, wanted, strict=True):
            assert np.abs(one - other).max() < 1e-5 * np.abs(other).max()


def test_layers_that_read_the_same_tensor_share_one_gather(tmp_path: Path) -> None:
    weights = [np.ones((64, 8)), np.ones((64, 5)), np.ones((64, 3))]
    model = lookup_model(outlying({3: 60, 41: -80}), weights)
    graph = graph_of(model)
    Outliers()(graph, surroundings(model, IDS, tmp_path))
    graph.drop_unused()
    assert kinds(graph.model).count("Gather") == 2  # the table's and one more
    assert kinds(graph.model).count("MatMul") == 6
    assert constant(graph.model, "rows_outliers_channels").tolist() == [3, 41]
    rest = constant(graph.model, "linear_1_outliers_rest_weight")
    assert not rest[[3, 41]].any()
    assert rest.sum() == 62 * 5


def test_a_graph_without_outliers_stays_as_it_is(tmp_path: Path) -> None:
    model = lookup_model(outlying({}), [np.ones((64, 8))])
    graph = graph_of(model)
    Outliers()(graph, surroundings(model, IDS, tmp_path))
    assert graph.model.SerializeToString() == model.SerializeToString()


def test_a_whole_model_computes_the_same_in_float(exported: Context) -> None:
    graph = graph_of(exported.original)
    Outliers(8, 1.1)(graph, exported)
    assert kinds(graph.model).count("MatMul") > kinds(exported.original).count("MatMul")
    ids = np.random.default_rng(0).integers(5, 60, size=(3, 17))
    inputs = feed(exported.inputs, ids, np.ones_like(ids))
    for one, other in zip(run(graph.model, inputs), run(exported.original, inputs), strict=True):
        assert np.abs(one - other).max() < 1e-5


def test_rounding_after_the_split_loses_far_less(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    model = lookup_model(outlying({3: 60, 41: -80}), [rng.normal(size=(64, 8))])
    context = surroundings(model, IDS, tmp_path)
    (wanted,) = run(model, {"input_ids": IDS})
    errors = []
    for passes in ((StaticInt8(),), (Outliers(), StaticInt8())):
        graph = graph_of(model)
        for one in passes:
            one(graph, context)
            graph.history = (*graph.history, one)
        (found,) = run(graph.model, {"input_ids": IDS})
        errors.append(float(np.sqrt(((found - wanted) ** 2).mean())))
    assert errors[1] < errors[0] / 8
    # The small float product stays in float, the rest does not.
    assert kinds(graph.model).count("QuantizeLinear") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "outliers: channels is 0; it must be 1 or more"),
        ({"gain": 0.5}, "outliers: gain is 0.5; it must be 1 or more"),
        ({"gain": float("nan")}, "outliers: gain is nan; it must be 1 or more"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Outliers(**options)  # type: ignore[arg-type]
