"""int8 on other processors than this one: each engine's own answers under emulation, by exact numbers and by the gates.

Without qemu these tests are skipped, or fail when EDGEBERT_REQUIRE_TOOLS is 1.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from emulation import EMULATED, PROCESSORS, Answers, answers
from graphs import chain_model, run
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from processors import compare
from sysroot import MissingTool
from tools import has_vnni, missing_tool

from edgebert.bundle import Bundle
from edgebert.quantize.context import Context
from edgebert.quantize.export import export_openvino
from edgebert.quantize.graph import Graph
from edgebert.quantize.passes.split_outliers import SplitOutliers
from edgebert.quantize.passes.static_int8 import StaticInt8

ENGINES = ("onnxruntime", "openvino")
ROWS = (1, 3, 16)  # of a batch; kernels differ
ZERO_POINTS = (0, 127, 128)  # OpenVINO runs activations around 128 as int8, others as uint8
STEP, WIDTH, CHANNELS = 1 / 32, 771, 48
ROUNDING = 1e-6 * 255 * 64 * WIDTH  # of float32 sums of that size; one saturated pair can be 32,000 off
Integers = NDArray[np.int64]


def require(processor: str) -> None:
    """Skips the test where `processor` cannot be emulated; fails it where the tools have to be there."""
    try:
        PROCESSORS[processor]()
    except MissingTool as missing:
        missing_tool(str(missing))


def product(path: Path, weights: Integers, scales: NDArray[np.float32], zero_points: tuple[int, ...]) -> Path:
    """A graph Q(x; STEP, zero point, uint8) -> DQ -> MatMul(DQ(weights; scales)) for each zero point, side by side."""
    constants = {
        "step": np.float32(STEP),
        "w": weights.astype(np.int8),
        "s": scales,
        "z": np.zeros(len(scales), np.int8),
    }
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], axis=1)]
    for i, zero in enumerate(zero_points):
        constants[f"z{i}"] = np.uint8(zero)
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "step", f"z{i}"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", "step", f"z{i}"], [f"d{i}"]),
            helper.make_node("MatMul", [f"d{i}", "wf"], [f"y{i}"]),
        ]
    nodes.append(helper.make_node("Concat", [f"y{i}" for i in range(len(zero_points))], ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", len(weights)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", len(scales) * len(zero_points)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def sums(x: Integers, weights: Integers, zero: int) -> Integers:
    """What the graph's integers give, in int64. Shape: x (rows, width) in steps -> (rows, channels)."""
    return (np.clip(x + zero, 0, 255) - zero) @ weights


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("processor", ["native", "haswell"])
def test_without_vnni_elements_2i_and_2i_plus_1_saturate_together(processor: str, engine: str, tmp_path: Path) -> None:
    """One channel for every two of 13 elements. An emulator that hides saturation would be of no use here."""
    require(processor)
    pairs = list(itertools.combinations(range(13), 2))
    weights = np.zeros((13, len(pairs)), np.int64)
    for channel, pair in enumerate(pairs):
        weights[pair, channel] = 127
    x = [np.full((rows, 13), 255) for rows in ROWS]
    model = product(tmp_path / "pairs.onnx", weights, np.ones(len(pairs), np.float32), (0,))
    found = answers(processor, engine, model, [{"x": (a * STEP).astype(np.float32)} for a in x])
    saturates = processor == "haswell" or not has_vnni()
    lost = [2 * 255 * 127 - (2**15 - 1) if saturates and j == i + 1 and i % 2 == 0 else 0 for i, j in pairs]
    for a, vectors in zip(x, found.vectors, strict=True):
        np.testing.assert_array_equal(sums(a, weights, 0) - vectors / STEP, np.broadcast_to(lost, vectors.shape))


@cache
def limited() -> tuple[Integers, NDArray[np.float32], tuple[Integers, ...]]:
    """Weights of which no neighbours (2i, 2i + 1) add up to more than 128, scales, and inputs of the whole range."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (WIDTH, CHANNELS))
    weights[: WIDTH // 2] = 127  # else few reach the limit
    both = weights[: WIDTH - WIDTH % 2].reshape(-1, 2, CHANNELS)
    both[:] = np.trunc(both * np.minimum(1, 128 / np.maximum(1, np.abs(both.sum(1, keepdims=True)))))
    assert np.abs(both.sum(1)).max() == 128
    x = [rng.integers(-128, 256, (rows, WIDTH)) for rows in ROWS]
    x += [np.full((1, WIDTH), 255), np.full((1, WIDTH), -128)]
    return weights, rng.uniform(0.005, 0.02, CHANNELS).astype(np.float32), tuple(x)


@cache
def limited_answers(folder: Path, processor: str, engine: str) -> Answers:
    weights, scales, x = limited()
    model = product(folder / f"{processor}-{engine}.onnx", weights, scales, ZERO_POINTS)
    if engine == "openvino":  # as it is in a bundle: read as ONNX, the activations around 128 would stay uint8
        export_openvino(model, model.with_suffix(".xml"), "int8", ("x",))
        model = model.with_suffix(".xml")
    return answers(processor, engine, model, [{"x": (a * STEP).astype(np.float32)} for a in x])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limited")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_neighbours_that_add_up_to_128_at_most_are_exact_everywhere(processor: str, engine: str, folder: Path) -> None:
    """With an odd width, a scale a channel, and activations of the whole range."""
    require(processor)
    weights, scales, x = limited()
    found = limited_answers(folder, processor, engine)
    if engine == "openvino":
        assert {kernel.split()[-1] for kernel in found.kernels} == {"u8", "i8"}, "both kinds were to be tried"
    for a, vectors in zip(x, found.vectors, strict=True):
        for i, zero in enumerate(ZERO_POINTS):
            if (processor, engine) == ("neoverse-n1", "openvino") and zero in (0, 128):
                continue  # see the next test
            integers = vectors[:, i * CHANNELS : (i + 1) * CHANNELS] / (STEP * scales)
            assert np.abs(integers - sums(a, weights, zero)).max() < ROUNDING, f"zero point {zero}"


def test_openvino_on_arm64_gives_all_channels_the_first_ones_scale(folder: Path) -> None:
    """A fault of OpenVINO. When it is mended, say so in docs/quantization.md and give arm64 the choice of engine."""
    require("neoverse-n1")
    weights, scales, x = limited()
    for a, vectors in zip(x, limited_answers(folder, "neoverse-n1", "openvino").vectors, strict=True):
        for i in (0, 2):
            integers = vectors[:, i * CHANNELS : (i + 1) * CHANNELS] / (STEP * scales[0])
            assert np.abs(integers - sums(a, weights, ZERO_POINTS[i])).max() < ROUNDING


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("processor", EMULATED)
@pytest.mark.parametrize("made", ["gathered", "widened"])
def test_split_channels_answer_as_on_this_machine(made: str, processor: str, engine: str, tmp_path: Path) -> None:
    """Windows joined in uint8 after a Gather, and those that a layer makes; a channel that is lost would be far off."""
    require(processor)
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(32, WIDTH)) * 0.3, rng.normal(size=(WIDTH, CHANNELS))
    first[:, [7, 400]] *= 8
    model = chain_model(
        rng.normal(size=(80, 32)), (first, second), (rng.normal(size=WIDTH), None), shown=made == "gathered"
    )
    model.graph.node[-1].output[0] = model.graph.output[0].name = "sentence_embedding"  # which `answers` takes
    ids = np.arange(80).reshape(2, 40)
    context, graph = Context(model, tuple(map(tuple, ids)), ("input_ids",), 0, tmp_path), Graph(model)
    (exact,) = run(model, {"input_ids": ids}, ["sentence_embedding"])
    for one in (SplitOutliers(8, 1.5), StaticInt8(exclude=("make_first",))):
        one(graph, context)
        graph.history = (*graph.history, one)
    graph.drop_unused()
    assert any(node.op_type == "Concat" for node in graph.graph.node) == (made == "gathered")
    path = tmp_path / "split.onnx"
    onnx.save(graph.model, path)
    if engine == "openvino":
        export_openvino(path, path.with_suffix(".xml"), "int8", ("input_ids",))
        path = path.with_suffix(".xml")
    here, there = (answers(name, engine, path, [{"input_ids": ids}]).vectors[0] for name in ("native", processor))
    size = np.sqrt((exact**2).mean())
    assert np.sqrt(((there - exact) ** 2).mean()) < 0.02 * size
    assert np.abs(there - here).max() < 0.02 * size  # a value at the edge of a step may fall on its other side


@pytest.mark.parametrize("artifact", ["onnxruntime-int8", "openvino-int8"])
@pytest.mark.parametrize("processor", EMULATED)
def test_int8_answers_within_its_gates(processor: str, artifact: str, tiny_bundle: Path) -> None:
    """Beside the golden vectors of torch and beside this machine's."""
    require(processor)
    here, there = compare(Bundle.open(tiny_bundle), artifact, [processor])
    assert (here.processor, there.processor) == ("native", processor)
    assert here.fault == there.fault == ""
    assert there.largest > 0 or here.kernels == there.kernels  # else nothing was emulated


def test_answers_below_the_gates_are_named(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    fact = replace(bundle.manifest.artifacts["onnxruntime-int8"], min_cosine={"ordinary": 0.99999, "degenerate": 0.0})
    strict = replace(bundle, manifest=replace(bundle.manifest, artifacts={"onnxruntime-int8": fact}))
    (here,) = compare(strict, "onnxruntime-int8", ())
    assert here.fault.startswith("to fp32: cosine 0.9")
    assert "at least 0.99999 is needed" in here.fault
    assert "native" not in here.fault


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="apt-get install qemu-user-static"):
        PROCESSORS["neoverse-n1"]()
