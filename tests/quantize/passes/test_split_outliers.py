"""Channels spread over several: the same product in integers, in both engines, wherever the columns come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from architectures import ARCHITECTURES, make_architecture
from graphs import chain_model, constant, graph_of, kinds, lookup_model, run, run_openvino, surroundings
from tools import has_vnni

from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_encoder
from edgebert.engines.base import feed
from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.export import export_onnx
from edgebert.quantize.graph import Graph
from edgebert.quantize.passes import Pass
from edgebert.quantize.passes.bias_correction import BiasCorrection
from edgebert.quantize.passes.dynamic_int8 import DynamicInt8
from edgebert.quantize.passes.outliers import Outliers
from edgebert.quantize.passes.smooth_quant import SmoothQuant
from edgebert.quantize.passes.split_outliers import SplitOutliers
from edgebert.quantize.passes.static_int8 import StaticInt8
from edgebert.quantize.recipe import Recipe
from edgebert.quantize.saturation import is_safe

IDS = np.arange(80).reshape(2, 40)
INPUTS = {"input_ids": IDS}
SPLIT = SplitOutliers(8, 1.5)


def outlying(channels: dict[int, float], *, width: int = 64) -> np.ndarray:
    """80 rows of uniform values, some channels of which are so many times larger. Shape: (80, width)."""
    table = np.random.default_rng(0).uniform(-1, 1, size=(80, width))
    for channel, factor in channels.items():
        table[:, channel] *= factor
    return table


def chain(*, second_bias: bool = True, shown: bool = False) -> onnx.ModelProto:
    """A feed-forward part whose GELU reaches far in channels 7 and 50."""
    rng = np.random.default_rng(3)
    first = rng.normal(size=(16, 64)) * 0.3
    first[:, [7, 50]] *= 6
    return chain_model(
        rng.normal(size=(80, 16)), (first, rng.normal(size=(64, 8))),
        (rng.normal(size=64) * 0.1, rng.normal(size=8) if second_bias else None), shown=shown,
    )  # fmt: skip


def rounded(model: onnx.ModelProto, folder: Path, *passes: Pass) -> Graph:
    graph, context = graph_of(model), surroundings(model, IDS, folder)
    for one in passes:
        one(graph, context)
        graph.history = (*graph.history, one)
    graph.drop_unused()
    return graph


def errors(model: onnx.ModelProto, graph: Graph, folder: Path) -> list[float]:
    """The root mean square error of the first output over that of its values, in both engines."""
    wanted = run(model, INPUTS)[0]
    found = (run(graph.model, INPUTS)[0], run_openvino(graph.model, INPUTS, folder)[0])
    return [float(np.sqrt(((one - wanted) ** 2).mean() / (wanted**2).mean())) for one in found]


def test_gathered_windows_lose_far_less_in_both_engines(tmp_path: Path) -> None:
    weights = [np.random.default_rng(1).normal(size=(64, n)) for n in (8, 5)]
    model = lookup_model(outlying({3: 5, 41: -8}), weights, bias=np.arange(8.0))
    graph = rounded(model, tmp_path, SPLIT, StaticInt8())
    assert kinds(graph.model).count("Concat") == 1
    assert kinds(graph.model).count("Gather") == 2  # the table's and one for both layers
    assert kinds(graph.model).count("Add") == 2  # the layer without a bias gets one for what the windows count too much
    assert set(constant(graph.model, "rows_windows_channels").tolist()) == {3, 41}
    plain = errors(model, rounded(model, tmp_path, StaticInt8()), tmp_path)
    assert all(one < other / 2 for one, other in zip(errors(model, graph, tmp_path), plain, strict=True))
    for i in range(2):  # every output
        assert np.abs(run(graph.model, INPUTS)[i] - run(model, INPUTS)[i]).max() < 0.35


@pytest.mark.parametrize("second_bias", [True, False])
@pytest.mark.parametrize("shown", [False, True])
def test_a_layer_makes_the_windows_of_what_only_its_reader_sees(second_bias: bool, shown: bool, tmp_path: Path) -> None:
    model = chain(second_bias=second_bias, shown=shown)
    graph = rounded(model, tmp_path, SPLIT, StaticInt8())
    assert ("Concat" in kinds(graph.model)) == shown
    assert constant(graph.model, "make_first_weight_quantized").shape == (16, 64 if shown else 80)
    assert constant(graph.model, f"make_{'second' if second_bias else 'out'}_weight_quantized").shape == (80, 8)
    if shown:
        assert run(graph.model, INPUTS)[1].shape == run(model, INPUTS)[1].shape
    plain = errors(model, rounded(model, tmp_path, StaticInt8()), tmp_path)
    both = errors(model, graph, tmp_path)
    assert all(one < 0.7 * other for one, other in zip(both, plain, strict=True))  # weights are rounded in both
    assert abs(both[0] - both[1]) < 1e-3


@pytest.mark.parametrize("ranges", ["min-max", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("weights", ["safe", "7-bit", "full"])
def test_every_range_and_width_of_weights_stays_near_fp32(ranges: Any, weights: Any, tmp_path: Path) -> None:
    model = chain()
    graph = rounded(model, tmp_path, SPLIT, StaticInt8(ranges, weights))
    assert constant(graph.model, "make_second_weight_quantized").shape[0] > 64
    if weights != "full":
        assert is_safe(constant(graph.model, "make_second_weight_quantized"))
    elif not has_vnni():
        pytest.skip("this processor has no VNNI: weights of the full range saturate")
    assert max(errors(model, graph, tmp_path)) < 0.04


def test_the_same_graph_again(tmp_path: Path) -> None:
    one, again = (rounded(chain(), tmp_path, SPLIT, StaticInt8()).model for _ in range(2))
    assert one.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)


def test_what_would_take_too_many_columns_is_left_to_the_float_product(tmp_path: Path) -> None:
    weights = [np.random.default_rng(1).normal(size=(64, 8))]
    near, far = (lookup_model(outlying({3: by, 41: -by}), weights) for by in (4, 60))
    for model, in_float in ((near, False), (far, True)):
        graph = rounded(model, tmp_path, SPLIT, Outliers(8, 1.5), StaticInt8())
        assert ("linear_0_outliers_product" in graph.producer) == in_float
        assert ("Concat" in kinds(graph.model)) != in_float
        assert max(errors(model, graph, tmp_path)) < 0.02


def test_zeros_beside_one_channel_make_no_endless_list(tmp_path: Path) -> None:
    table = np.zeros((80, 64))
    table[:, 3] = np.linspace(0, 1, 80)
    model = lookup_model(table, [np.ones((64, 8))])
    graph = rounded(model, tmp_path, SPLIT, StaticInt8())
    assert "Concat" not in kinds(graph.model)
    assert max(errors(model, graph, tmp_path)) < 0.01


def test_a_layer_in_float_reads_the_tensor_as_it_was(tmp_path: Path) -> None:
    """The others read its windows; and where all stay in float there are none."""
    weights = [np.random.default_rng(1).normal(size=(64, n)) for n in (8, 5)]
    model = lookup_model(outlying({3: 5, 41: -8}), weights)
    graph = rounded(model, tmp_path, SPLIT, StaticInt8(exclude=("linear_1",)))
    assert constant(graph.model, "linear_0_weight_quantized").shape[0] > 64
    np.testing.assert_allclose(run(graph.model, INPUTS)[1], run(model, INPUTS)[1], rtol=1e-5, atol=1e-5)
    graph = rounded(chain(), tmp_path, SPLIT, StaticInt8(exclude=("make_second",)))
    assert constant(graph.model, "make_first_weight_quantized").shape == (16, 64)
    assert errors(chain(), graph, tmp_path)[0] < 0.05


def test_a_layer_in_float_can_make_windows(tmp_path: Path) -> None:
    graph = rounded(chain(), tmp_path, SPLIT, StaticInt8(exclude=("make_first",)))
    assert graph.value("make_first_widened_weight").shape == (16, 80)
    assert max(errors(chain(), graph, tmp_path)) < 0.03


def test_layers_with_one_constant_between_them_are_widened_each_for_itself(tmp_path: Path) -> None:
    """Exporters merge equal constants, such as biases of zeros."""
    model = chain()
    other = chain()
    for node in other.graph.node[1:]:
        node.name += "_2"
        node.output[0] += "_2"
        for i, name in enumerate(node.input):
            if name not in {"rows", *(tensor.name for tensor in other.graph.initializer)}:
                node.input[i] += "_2"
    other_w2 = onnx.numpy_helper.to_array(next(t for t in other.graph.initializer if t.name == "w1")).copy()
    other_w2[:, [7, 50, 20]] /= 6, 1, 1 / 6
    other.graph.initializer.add().CopyFrom(onnx.numpy_helper.from_array(other_w2, "w1_2"))
    next(node for node in other.graph.node if node.name == "make_first_2").input[1] = "w1_2"
    other.graph.output[0].name = "out_2"
    model.graph.node.extend(other.graph.node[1:])
    model.graph.output.extend(other.graph.output)
    model.graph.initializer.add().CopyFrom(other.graph.initializer[-1])
    graph = rounded(model, tmp_path, SPLIT, StaticInt8())
    assert "Concat" not in kinds(graph.model)
    for found in (run(graph.model, INPUTS), run_openvino(graph.model, INPUTS, tmp_path)):
        for one, wanted in zip(found, run(model, INPUTS), strict=True):
            assert np.sqrt(((one - wanted) ** 2).mean() / (wanted**2).mean()) < 0.03


@pytest.mark.parametrize("second_bias", [True, False])
def test_bias_correction_after_it_shrinks_the_mean_error(second_bias: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(3.0, 0.5, size=(80, 64))
    table[:, 9] *= 6
    model = lookup_model(table, [rng.normal(size=(64, 16)) * 0.2], bias=rng.normal(size=16) if second_bias else None)
    (wanted,) = run(model, INPUTS)
    means = []
    for passes in ((SPLIT, StaticInt8()), (SPLIT, StaticInt8(), BiasCorrection())):
        (found,) = run(rounded(model, tmp_path, *passes).model, INPUTS)
        means.append(float(np.abs((found - wanted).mean(axis=(0, 1))).mean()))
    assert means[1] < means[0] / 2


def test_what_smooth_quant_scaled_is_split(tmp_path: Path) -> None:
    model = lookup_model(outlying({3: 5, 41: -8}), [np.random.default_rng(1).normal(size=(64, 8))])
    graph = rounded(model, tmp_path, SmoothQuant(0.2, everywhere=True), SPLIT, StaticInt8())
    assert "rows_smooth_joined" in graph.producer
    assert max(errors(model, graph, tmp_path)) < 0.02


def test_a_graph_without_outliers_is_rounded_as_without_the_pass(tmp_path: Path) -> None:
    model = lookup_model(outlying({}), [np.ones((64, 8))])
    one, other = (rounded(model, tmp_path, *passes, StaticInt8()).model for passes in ((SPLIT,), ()))
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_model_answers_alike_in_both_engines(architecture: str, tmp_path: Path) -> None:
    """Of every architecture, with two channels behind each GELU and one behind each LayerNorm that reach far."""
    bundle, width = Bundle.from_pretrained(make_architecture(tmp_path / "teacher", architecture, layers=2)), 32
    artifact = export_onnx(load_encoder(bundle), architecture, tmp_path / "onnx" / "model.onnx")
    graph = graph_of(onnx.load(tmp_path / "onnx" / "model.onnx"))
    for linear in graph.linears():
        weight = graph.value(linear.weight).copy()
        if weight.shape[1] == 2 * width:
            weight[:, [5, 40]] *= 8
            graph.set(linear.weight, weight)
            (add,) = graph.consumers(linear.node.output[0])  # biases of zeros are one constant for all layers
            place = next(i for i, name in enumerate(add.input) if name != linear.node.output[0])
            add.input[place] = graph.set(f"{linear.name}_own_bias", np.linspace(-0.1, 0.1, 2 * width, dtype=np.float32))
    read = {linear.input for linear in graph.linears() if len(graph.value(linear.weight)) == width}
    for node in graph.graph.node:
        if node.op_type == "LayerNormalization" and node.output[0] in read:
            node.input[1] = graph.set(f"{node.name}_gamma", np.where(np.arange(width) == 3, 5, 1).astype(np.float32))
    graph.refresh()
    path = tmp_path / "onnx" / "outlying.onnx"
    onnx.save(graph.model, path)
    rows = tuple(map(tuple, np.random.default_rng(1).integers(5, 60, size=(40, 24)).tolist()))
    context = Context(path, rows, artifact.inputs, bundle.manifest.pad_token_id, tmp_path)
    graph = Graph(context.original)
    for one in (SPLIT, StaticInt8()):
        one(graph, context)
        graph.history = (*graph.history, one)
    graph.drop_unused()
    readers = [name for name in graph.producer if name.endswith("_windows")]
    joined = [name for name in graph.producer if name.endswith("_joined")]
    assert len(readers) - len(joined) == 2, "each of the two layers makes the windows of its GELU"
    assert joined, "what comes out of a LayerNorm has other readers"
    ids = np.random.default_rng(0).integers(5, 60, size=(3, 17))
    inputs = feed(artifact.inputs, ids, np.ones_like(ids))
    (exact,) = run(context.original, inputs, ["sentence_embedding"])
    one, other = run(graph.model, inputs)[1], run_openvino(graph.model, inputs, tmp_path)[1]
    assert (one * other).sum(axis=1).min() > 0.9999
    assert 1e-6 < 1 - (one * exact).sum(axis=1).min() < 0.003


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "split-outliers: channels is 0; it must be 1 or more"),
        ({"gain": 0.5}, "split-outliers: gain is 0.5; it must be 1 or more"),
        ({"gain": float("nan")}, "split-outliers: gain is nan; it must be 1 or more"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SplitOutliers(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ((SPLIT, DynamicInt8()), "the recipe 'mine' has no static-int8 after split-outliers to write it"),
        ((StaticInt8(), SPLIT), "the recipe 'mine' has no static-int8 after split-outliers to write it"),
        ((SPLIT, SmoothQuant(), StaticInt8()), "the recipe 'mine' has smooth-quant or split-outliers after split-out"),
        ((SPLIT, SPLIT, StaticInt8()), "the recipe 'mine' has smooth-quant or split-outliers after split-outliers"),
    ],
)
def test_a_split_that_nothing_would_write_is_refused(passes: tuple[Pass, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe("mine", passes)
