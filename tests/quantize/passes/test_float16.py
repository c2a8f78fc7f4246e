"""Float16 on disk: half the size, arithmetic in float32, and a weight beyond its range is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import constant, graph_of, lookup_model, run, run_openvino, surroundings

from edgebert.engines.base import feed
from edgebert.engines.openvino import core
from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.export import export_openvino
from edgebert.quantize.passes.float16 import Float16

IDS = np.arange(80).reshape(2, 40)


def test_the_weights_are_half_as_large_and_the_answers_within_a_thousandth(exported: Context, tmp_path: Path) -> None:
    graph = graph_of(exported.original)
    Float16()(graph, exported)
    graph.drop_unused()
    ids = np.random.default_rng(0).integers(5, 60, size=(3, 17))
    inputs = feed(exported.inputs, ids, np.ones_like(ids))
    (wanted,) = run(exported.original, inputs, ["sentence_embedding"])
    for found in (run(graph.model, inputs)[1], run_openvino(graph.model, inputs, tmp_path)[1]):
        assert 0 < np.abs(found - wanted).max() < 1e-3
        assert found.dtype == np.float32
    weights = {True: 0, False: 0}
    for tensor in graph.graph.initializer:
        weights[tensor.name.endswith("_half")] += len(tensor.raw_data)
    original = sum(len(tensor.raw_data) for tensor in exported.original.graph.initializer)
    assert weights[False] < 0.05 * original  # biases and norms, which stay exact
    assert weights[True] + weights[False] < 0.53 * original
    sizes = []
    for name, model in (("fp32", exported.original), ("half", graph.model)):
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        export_openvino(path, tmp_path / f"{name}.xml", "fp32", exported.inputs, half=name == "half")
        sizes.append((tmp_path / f"{name}.bin").stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    answered = core().compile_model(tmp_path / "half.xml", "CPU", hints)(inputs)["sentence_embedding"]
    assert np.abs(answered - wanted).max() < 1e-3


def test_biases_and_small_weights_stay_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = lookup_model(rng.normal(size=(80, 32)), [rng.normal(size=(32, 32)), rng.normal(size=(32, 8))],
                         bias=rng.normal(size=32))  # fmt: skip
    graph = graph_of(model)
    Float16()(graph, surroundings(model, IDS, tmp_path))
    graph.drop_unused()
    stored = {tensor.name for tensor in graph.graph.initializer}
    assert stored == {"table_half", "weight_0_half", "weight_1", "bias"}
    assert constant(graph.model, "table_half").dtype == np.float16
    for one, other in zip(run(graph.model, {"input_ids": IDS}), run(model, {"input_ids": IDS}), strict=True):
        assert np.abs(one - other).max() < 0.03


def test_a_weight_beyond_its_range_is_refused(tmp_path: Path) -> None:
    table = np.ones((80, 32))
    table[3, 4] = -70_000
    model = lookup_model(table, [np.ones((32, 8))])
    with pytest.raises(RecipeError, match="the weight table reaches 7e\\+04; float16 ends at 65504"):
        Float16()(graph_of(model), surroundings(model, IDS, tmp_path))
