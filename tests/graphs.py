"""Small ONNX graphs with known weights, and what both engines answer to them, for tests of passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgebert.engines.openvino import core
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Graph

FloatArray = NDArray[np.floating[Any]]


def lookup_model(
    table: FloatArray, weights: Sequence[FloatArray], *, bias: FloatArray | None = None, norm: bool = False
) -> onnx.ModelProto:
    """ids -> rows of `table` (-> LayerNormalization) -> a product "linear_i" with every weight, each an output "out_i".

    So the activation of a product is just the rows asked for. bias: added to the first product.
    Shape: table (rows, in_features), weights[i] (in_features, out_features); outputs (batch, seq_len, out_features).
    """
    constants = {"table": table, **{f"weight_{i}": weight for i, weight in enumerate(weights)}}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows"], name="lookup")]
    if norm:
        width = table.shape[1]
        constants |= {"gamma": np.ones(width), "beta": np.zeros(width)}
        nodes.append(helper.make_node("LayerNormalization", ["rows", "gamma", "beta"], ["x"], name="norm", axis=-1))
    x = "x" if norm else "rows"
    for i in range(len(weights)):
        biased = bias is not None and i == 0
        product = "product_0" if biased else f"out_{i}"
        nodes.append(helper.make_node("MatMul", [x, f"weight_{i}"], [product], name=f"linear_{i}"))
        if biased:
            nodes.append(helper.make_node("Add", ["bias", product], ["out_0"], name="add_bias"))
    if bias is not None:
        constants["bias"] = bias
    shape = ["batch", "seq_len"]
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)],
        [
            helper.make_tensor_value_info(f"out_{i}", TensorProto.FLOAT, [*shape, weight.shape[1]])
            for i, weight in enumerate(weights)
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain_model(
    table: FloatArray,
    weights: tuple[FloatArray, FloatArray],
    biases: tuple[FloatArray, FloatArray | None],
    *,
    shown: bool = False,
) -> onnx.ModelProto:
    """ids -> rows of `table` -> "first" with a bias -> GELU, as exporters write it -> "second" -> "out".

    So what "second" multiplies, "act", is made by "first" value by value. shown: "act" is an output too.
    Shape: table (rows, width), weights (width, inner), (inner, out_features).
    """
    constants = {
        "table": table, "w1": weights[0], "b1": biases[0], "w2": weights[1],
        "root": np.array(np.sqrt(2)), "one": np.array(1.0), "half": np.array(0.5),
    }  # fmt: skip
    steps = [
        ("Gather", ["table", "input_ids"], "rows"), ("MatMul", ["rows", "w1"], "first"), ("Add", ["b1", "first"], "h"),
        ("Div", ["h", "root"], "scaled"), ("Erf", ["scaled"], "erf"), ("Add", ["erf", "one"], "shifted"),
        ("Mul", ["h", "shifted"], "doubled"), ("Mul", ["doubled", "half"], "act"),
        ("MatMul", ["act", "w2"], "out" if biases[1] is None else "second"),
    ]  # fmt: skip
    if biases[1] is not None:
        constants["b2"] = biases[1]
        steps.append(("Add", ["second", "b2"], "out"))
    outputs = {"out": weights[1].shape[1]} | ({"act": weights[0].shape[1]} if shown else {})
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [out], name=f"make_{out}") for kind, inputs, out in steps],
        "chain",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "seq_len"])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["batch", "seq_len", n]) for o, n in outputs.items()],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def surroundings(model: onnx.ModelProto, rows: Sequence[Sequence[int]], folder: Path) -> Context:
    """A context for `lookup_model`."""
    return Context(model, tuple(map(tuple, rows)), ("input_ids",), 0, folder)


def graph_of(model: onnx.ModelProto) -> Graph:
    """A graph that may be changed; `model` stays as it is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return Graph(copy)


def run(model: onnx.ModelProto, inputs: dict[str, Any], outputs: Sequence[str] | None = None) -> list[Any]:
    """What ONNX Runtime answers, node by node as the graph stands, so that it and not an optimiser is tested."""
    import onnxruntime as ort

    if not any(node.domain for node in model.graph.node):  # the checker knows no operators of ONNX Runtime's own
        onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(outputs, inputs))


def run_openvino(model: onnx.ModelProto, inputs: dict[str, Any], folder: Path, **more: object) -> list[Any]:
    """What OpenVINO answers to the same file, optimised as it does, in the order of the outputs; more: its settings."""
    import openvino as ov

    path = folder / "for_openvino.onnx"
    onnx.save(model, path)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, **more}
    compiled = core().compile_model(ov.convert_model(path), "CPU", hints)
    found = compiled(inputs)
    return [found[output.name] for output in model.graph.output]


def kinds(model: onnx.ModelProto) -> list[str]:
    """The operators, in the graph's order."""
    return [node.op_type for node in model.graph.node]


def constant(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    """The constant of that name as it is stored."""
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))
