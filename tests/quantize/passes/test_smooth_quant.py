"""SmoothQuant moves difficulty from activations into weights and changes nothing in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import constant, graph_of, kinds, lookup_model, run, run_openvino, surroundings

from edgebert.engines.base import feed
from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.passes.smooth_quant import SmoothQuant

IDS = np.arange(80).reshape(2, 40)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_smoothed_graph_computes_the_same_in_float(alpha: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(80, 32)) * rng.uniform(0.1, 20, size=32)
    weights = [rng.normal(size=(32, 8)), rng.normal(size=(32, 5))]
    model = lookup_model(table, weights, norm=True)
    graph = graph_of(model)
    SmoothQuant(alpha)(graph, surroundings(model, IDS, tmp_path))
    graph.drop_unused()
    assert kinds(graph.model) == ["Gather", "LayerNormalization", "Mul", "MatMul", "MatMul"]
    wanted = run(model, {"input_ids": IDS})
    for found in (run(graph.model, {"input_ids": IDS}), run_openvino(graph.model, {"input_ids": IDS}, tmp_path)):
        for one, other in zip(found, wanted, strict=True):
            assert np.abs(one - other).max() < 1e-5 * np.abs(other).max()


def test_the_factor_is_that_of_the_paper(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table, weight = rng.normal(size=(80, 32)), rng.normal(size=(32, 8))
    table[:, 5] *= 50
    model = lookup_model(table, [weight])
    graph = graph_of(model)
    SmoothQuant(0.7, everywhere=True)(graph, surroundings(model, IDS, tmp_path))
    scale = np.abs(table).max(axis=0) ** 0.7 / np.abs(weight).max(axis=1) ** 0.3
    scale /= np.exp(np.log(scale).mean())  # a factor for all channels changes nothing
    np.testing.assert_allclose(1 / constant(graph.model, "rows_smooth_factor"), scale, rtol=1e-4)
    np.testing.assert_allclose(constant(graph.model, "weight_0_smooth"), weight * scale[:, None], rtol=1e-4, atol=1e-7)


def test_a_channel_that_is_always_zero_gives_no_infinity(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table, weight = rng.normal(size=(80, 32)), rng.normal(size=(32, 8))
    table[:, 5], weight[7] = 0, 0
    model = lookup_model(table, [weight])
    graph = graph_of(model)
    SmoothQuant(everywhere=True)(graph, surroundings(model, IDS, tmp_path))
    assert np.isfinite(constant(graph.model, "rows_smooth_factor")).all()
    assert np.isfinite(constant(graph.model, "weight_0_smooth")).all()
    (found,), (wanted,) = run(graph.model, {"input_ids": IDS}), run(model, {"input_ids": IDS})
    assert np.abs(found - wanted).max() < 1e-4


def test_only_what_comes_out_of_a_norm_is_smoothed_unless_asked(exported: Context) -> None:
    ids = np.random.default_rng(0).integers(5, 60, size=(3, 17))
    inputs = feed(exported.inputs, ids, np.ones_like(ids))
    wanted = run(exported.original, inputs)
    smoothed = []
    for everywhere in (False, True):
        graph = graph_of(exported.original)
        SmoothQuant(everywhere=everywhere)(graph, exported)
        for one, other in zip(run(graph.model, inputs), wanted, strict=True):
            assert np.abs(one - other).max() < 1e-5
        smoothed.append(sum(str(node.name).endswith("_smooth") for node in graph.graph.node))
    # Four layers: two norms each before a product (the last norm's output is read by none); two more inputs otherwise.
    assert smoothed == [4 * 2, 4 * 4]


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(RecipeError, match=f"smooth-quant: alpha is {alpha}; it must be within 0 to 1"):
        SmoothQuant(alpha)
