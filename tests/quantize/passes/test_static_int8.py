"""Static int8 as QDQ nodes: types, what stays in float, the arithmetic against numpy, the same in both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import constant, graph_of, kinds, lookup_model, run, run_openvino, surroundings
from numpy.typing import NDArray
from onnx import TensorProto
from tools import has_vnni

from edgebert.engines.base import feed
from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.passes.static_int8 import StaticInt8, quantized, rounding_drift
from edgebert.quantize.passes.weight_only import WeightOnly
from edgebert.quantize.saturation import is_safe
from edgebert.quantize.statistics import Activation

IDS = np.arange(80).reshape(2, 40)


def by_numpy(x: NDArray[Any], weight: NDArray[Any], scales: NDArray[Any], scale: float, zero: int) -> NDArray[Any]:
    """The product in integers, scaled back."""
    codes = np.clip(np.round(x / scale) + zero, 0, 255).astype(np.int64) - zero
    return (codes @ quantized(weight, scales).astype(np.int64)) * scale * scales


@pytest.mark.parametrize("weights", ["safe", "7-bit", "full"])
def test_the_product_is_that_of_integers(weights: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table, weight = rng.normal(size=(80, 32)), rng.normal(size=(32, 8)).astype(np.float32)
    model = lookup_model(table, [weight])
    graph = graph_of(model)
    StaticInt8(weights=weights)(graph, surroundings(model, IDS, tmp_path))  # type: ignore[arg-type]
    graph.drop_unused()
    assert kinds(graph.model) == ["Gather", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"]
    scale, zero = constant(graph.model, "rows_scale"), constant(graph.model, "rows_zero_point")
    scales = constant(graph.model, "linear_0_weight_scale")
    assert (scale.dtype, zero.dtype, scales.dtype) == (np.float32, np.uint8, np.float32)
    codes = constant(graph.model, "linear_0_weight_quantized")
    assert codes.dtype == np.int8
    assert np.abs(codes).max() == {"safe": np.abs(codes).max(), "7-bit": 64, "full": 127}[weights]
    assert is_safe(codes) == (weights != "full")
    assert np.abs(codes * scales - weight).max() <= scales.max() / 2 + 1e-6
    if weights == "full" and not has_vnni():
        pytest.skip("this processor has no VNNI: weights of the full range saturate")
    wanted = by_numpy(table.astype(np.float32)[IDS], weight, scales, float(scale), int(zero))
    (exact,) = run(model, {"input_ids": IDS})
    for (found,) in (run(graph.model, {"input_ids": IDS}), run_openvino(graph.model, {"input_ids": IDS}, tmp_path)):
        assert np.abs(found - wanted).max() < 1e-4
        assert 0 < np.abs(found - exact).max() < 0.3


def test_layers_that_read_the_same_tensor_share_its_rounding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = lookup_model(rng.normal(size=(80, 32)), [rng.normal(size=(32, n)) for n in (8, 5, 3)])
    graph = graph_of(model)
    StaticInt8()(graph, surroundings(model, IDS, tmp_path))
    assert kinds(graph.model).count("QuantizeLinear") == 1
    assert kinds(graph.model).count("DequantizeLinear") == 1 + 3


def test_the_linear_layers_of_a_model_are_rounded_and_nothing_else(exported: Context) -> None:
    graph = graph_of(exported.original)
    StaticInt8()(graph, exported)
    graph.drop_unused()
    producer = {name: node for node in graph.graph.node for name in node.output}
    products = [node for node in graph.graph.node if node.op_type == "MatMul"]
    rounded = [n for n in products if all(producer[i].op_type == "DequantizeLinear" for i in n.input)]
    assert (len(products), len(rounded)) == (4 * 8, 4 * 6)  # the two products of attention stay in float
    # Residual connections, norms and softmax read what was not rounded.
    readers = {
        r.op_type for n in graph.graph.node if n.op_type == "QuantizeLinear" for r in graph.consumers(n.output[0])
    }
    assert readers == {"DequantizeLinear"}
    for node in graph.graph.node:
        if node.op_type != "MatMul":
            assert not any(producer[i].op_type == "DequantizeLinear" for i in node.input if i in producer)
    # Activations are uint8 with zero inside, weights int8 and safe on every processor.
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            assert graph.constants[node.input[2]].data_type == TensorProto.UINT8
        elif node.op_type == "DequantizeLinear" and node.input[0] in graph.constants:
            assert is_safe(constant(graph.model, node.input[0]))


def test_nothing_unused_is_left_and_names_are_unique(exported: Context) -> None:
    graph = graph_of(exported.original)
    StaticInt8()(graph, exported)
    graph.drop_unused()
    used = {name for node in graph.graph.node for name in node.input}
    outputs = {value.name for value in graph.graph.output}
    assert {tensor.name for tensor in graph.graph.initializer} <= used
    assert all(set(n.output) & (used | outputs) for n in graph.graph.node if n.op_type == "DequantizeLinear")
    for names in ([t.name for t in graph.graph.initializer], [n.name for n in graph.graph.node if n.name]):
        assert len(names) == len(set(names))
    assert not graph.graph.value_info


def test_both_engines_compute_the_same(exported: Context, tmp_path: Path) -> None:
    graph = graph_of(exported.original)
    StaticInt8()(graph, exported)
    graph.drop_unused()
    for seed, length in enumerate((7, 33)):
        ids = np.random.default_rng(seed).integers(5, 60, size=(3, length))
        inputs = feed(exported.inputs, ids, np.ones_like(ids))
        one, other = run(graph.model, inputs)[1], run_openvino(graph.model, inputs, tmp_path)[1]
        (exact,) = run(exported.original, inputs, ["sentence_embedding"])
        assert (one * other).sum(axis=1).min() > 0.9999
        assert 1e-6 < 1 - (one * exact).sum(axis=1).min() < 0.03


def test_an_excluded_layer_stays_in_float_and_the_others_share_the_rounding(exported: Context) -> None:
    graph = graph_of(exported.original)
    (left,) = [one.name for one in graph.linears() if "layer.1" in one.name and "query" in one.name]
    StaticInt8(exclude=(left,))(graph, exported)
    producer = {name: node.op_type for node in graph.graph.node for name in node.output}
    rounded = {n.name for n in graph.graph.node if n.op_type == "MatMul" and producer.get(n.input[1]) is not None
               and producer[n.input[1]] == "DequantizeLinear"}  # fmt: skip
    assert left not in rounded
    assert len(rounded) == 4 * 6 - 1


def test_excluding_what_is_not_there_is_refused(exported: Context) -> None:
    with pytest.raises(RecipeError, match="static-int8: exclude names 'querry', which is no linear layer") as raised:
        StaticInt8(exclude=("querry",))(graph_of(exported.original), exported)
    assert "/encoder/backbone/encoder/layer.0/attention/self/query/MatMul" in str(raised.value)


def test_a_graph_without_a_float_layer_left_is_refused(exported: Context) -> None:
    graph = graph_of(exported.original)
    WeightOnly(linears=8)(graph, exported)
    with pytest.raises(
        RecipeError, match="static-int8 finds no linear layer in float: it must come before passes that"
    ):
        StaticInt8()(graph, exported)


def test_an_activation_that_is_always_zero_gives_zeros(tmp_path: Path) -> None:
    model = lookup_model(np.zeros((80, 32)), [np.ones((32, 8)), np.zeros((32, 5))])
    graph = graph_of(model)
    StaticInt8()(graph, surroundings(model, IDS, tmp_path))
    for found in run(graph.model, {"input_ids": IDS}):
        assert not found.any()


def test_the_drift_is_what_rounding_does_to_the_mean() -> None:
    seen = Activation(3)
    seen.add(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], np.float32))
    weight = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], np.float32)
    np.testing.assert_allclose(rounding_drift(weight, weight + np.float32(0.25), seen), [1.5, 1.5])
