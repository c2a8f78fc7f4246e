"""The rewriting of NNCF's graph: the same arithmetic, in the types that ONNX Runtime is fast with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers import sentences
from onnx import TensorProto, helper, numpy_helper

from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_encoder, load_tokenizer
from edgebert.engines.base import feed
from edgebert.errors import EngineError
from edgebert.quantize import static_int8
from edgebert.quantize.calibration import calibration
from edgebert.quantize.export import export_onnx
from edgebert.quantize.qdq import for_onnxruntime
from edgebert.quantize.static_int8 import StaticInt8


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[Any]:
    """The model's outputs, computed node by node as they stand."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def kinds(model: onnx.ModelProto, operator: str, place: int) -> set[int]:
    """The types of that input of all nodes of that kind, where it is a constant."""
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {
        constants[n.input[place]] for n in model.graph.node if n.op_type == operator and n.input[place] in constants
    }


@pytest.fixture(scope="module")
def rewritten(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The tiny teacher as NNCF quantizes it, and the same rewritten."""
    folder = tmp_path_factory.mktemp("qdq")
    bundle = Bundle.from_pretrained(tiny_teacher)
    artifact = export_onnx(load_encoder(bundle), "bert", folder / "onnx" / "model.onnx")
    rows = calibration(sentences(30), load_tokenizer(bundle), max_length=48, samples=20)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(static_int8, "for_onnxruntime", lambda model: None)
        StaticInt8()(folder / "onnx" / "model.onnx", folder / "raw.onnx", rows, artifact.inputs)
    before = onnx.load(folder / "raw.onnx")
    after = onnx.load(folder / "raw.onnx")
    for_onnxruntime(after)
    onnx.checker.check_model(after)
    return before, after


def test_the_outputs_stay_the_same(rewritten: tuple[onnx.ModelProto, onnx.ModelProto], tiny_teacher: Path) -> None:
    before, after = rewritten
    names = tuple(value.name for value in before.graph.input)
    assert names == ("input_ids", "attention_mask", "token_type_ids")
    rng = np.random.default_rng(0)
    for length in (2, 3, 9, 17, 48):
        ids = rng.integers(5, 60, size=(3, length))
        mask = np.ones_like(ids)
        mask[1, max(2, length // 2) :] = 0
        inputs = feed(names, ids, mask)
        for one, other in zip(run(before, inputs), run(after, inputs), strict=True):
            assert np.abs(one - other).max() < 1e-6


def test_activations_become_uint8_and_weights_stay_int8(
    rewritten: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    before, after = rewritten
    assert TensorProto.INT8 in kinds(before, "QuantizeLinear", 2)
    assert kinds(after, "QuantizeLinear", 2) == {TensorProto.UINT8}
    assert kinds(after, "DequantizeLinear", 0) == {TensorProto.INT8}
    assert not after.graph.value_info


def test_rows_of_the_embedding_tables_are_gathered_in_int8(
    rewritten: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    before, after = rewritten
    assert TensorProto.INT8 not in kinds(before, "Gather", 0)
    assert TensorProto.INT8 in kinds(after, "Gather", 0)
    dequantized = {n.output[0] for n in after.graph.node if n.op_type == "DequantizeLinear"}
    tables = {tensor.name for tensor in after.graph.initializer if len(tensor.dims) == 2 and tensor.dims[0] > 100}
    assert tables
    assert not any(n.input[0] in dequantized for n in after.graph.node if n.op_type == "Gather")


def test_nothing_unused_is_left(rewritten: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    _, after = rewritten
    used = {name for node in after.graph.node for name in node.input}
    outputs = {value.name for value in after.graph.output}
    assert {tensor.name for tensor in after.graph.initializer} <= used
    assert all(set(n.output) & (used | outputs) for n in after.graph.node if n.op_type == "DequantizeLinear")
    names = [tensor.name for tensor in after.graph.initializer]
    assert len(names) == len(set(names))


def test_the_attention_products_stay_in_float(rewritten: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    _, after = rewritten
    producer = {name: node.op_type for node in after.graph.node for name in node.output}
    products = [n for n in after.graph.node if n.op_type == "MatMul"]
    quantized = [n for n in products if all(producer.get(i) == "DequantizeLinear" for i in n.input)]
    assert len(products) == 4 * 8
    assert len(quantized) == 4 * 6


def lookup(*, shape: tuple[int, ...], zero: int = 0, gathers: int = 1, axis: int = 0) -> onnx.ModelProto:
    """A graph of DequantizeLinear(table) read by so many Gather nodes whose results are added."""
    rng = np.random.default_rng(0)
    table = rng.integers(-127, 128, size=(6, 4)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, size=shape).astype(np.float32)
    constants = {"table": table, "scale": scale, "zero": np.full(shape, zero, np.int8)}
    nodes = [helper.make_node("DequantizeLinear", ["table", "scale", "zero"], ["floats"], "dq", axis=axis)]
    nodes += [helper.make_node("Gather", ["floats", "ids"], [f"g{i}"], f"gather{i}", axis=0) for i in range(gathers)]
    nodes.append(helper.make_node("Sum", [f"g{i}" for i in range(gathers)], ["out"], "sum"))
    graph = helper.make_graph(
        nodes, "lookup",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "changed"),
    [
        (lookup(shape=(6,)), True),
        (lookup(shape=()), True),
        (lookup(shape=(6,), gathers=2), True),
        (lookup(shape=(6,), zero=3), False),
        (lookup(shape=(4,), axis=1), False),
    ],
)
def test_a_table_is_rewritten_where_that_keeps_its_values(model: onnx.ModelProto, changed: bool) -> None:
    inputs = {"ids": np.array([5, 0, 3, 3])}
    (before,) = run(model, inputs)
    for_onnxruntime(model)
    onnx.checker.check_model(model)
    (after,) = run(model, inputs)
    assert np.abs(after - before).max() < 1e-6
    assert ("DequantizeLinear" not in {node.op_type for node in model.graph.node}) == changed


def test_a_graph_that_nncf_cannot_quantize_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nncf

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such\n operation")

    monkeypatch.setattr(nncf, "quantize", refuse)
    onnx.save(lookup(shape=(6,)), tmp_path / "model.onnx")
    from edgebert.quantize.calibration import Calibration

    with pytest.raises(EngineError, match="NNCF cannot quantize model.onnx: no such operation"):
        StaticInt8()(tmp_path / "model.onnx", tmp_path / "out.onnx", Calibration(((2, 3),), 1), ("input_ids",))
    assert not (tmp_path / "out.onnx").exists()
