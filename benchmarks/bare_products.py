"""A model's matrix products and nothing else, in the engine and the form that its int8 files run in.

Each layer's six products with weights hang in a chain, u8 activations and s8 weights, each output quantized for the
next product, so that nothing can be left out and nothing float is written between. The two products of attention are
float in the files of `edgebert quantize`; they hang in a chain of their own and are counted apart. The values do not
matter to the time.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], Any]
_CONFIG = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_SCALE = 0.02
_INT8_OPS = ("QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm")


@dataclass(frozen=True)
class Products:
    """The shapes of a model's products with `batch` texts of `length` tokens."""

    batch: int
    length: int
    width: int
    inner: int
    layers: int
    heads: int

    @classmethod
    def read(cls, config: Path, *, batch: int, length: int) -> Products:
        """Those of the model whose config.json this is; ends the program where it does not tell them."""
        told = json.loads(config.read_text(encoding="utf-8"))
        if missing := [name for name in _CONFIG if not isinstance(told.get(name), int)]:
            sys.exit(f"{config} does not tell {', '.join(missing)}: the products' shapes are not known")
        return cls(batch, length, *(told[name] for name in _CONFIG))

    @property
    def weights(self) -> list[tuple[int, int]]:
        """Rows and columns of every weight: query, key, value, attention's output, up and down, layer after layer."""
        one = [(self.width, self.width)] * 4 + [(self.width, self.inner), (self.inner, self.width)]
        return one * self.layers

    @property
    def heads_shape(self) -> tuple[int, int, int, int]:
        """Shape: (batch, heads, length, width of a head)."""
        return self.batch, self.heads, self.length, self.width // self.heads

    @property
    def operations(self) -> int:
        """Multiplications and additions of the products with weights."""
        return sum(2 * self.batch * self.length * rows * columns for rows, columns in self.weights)


def bare_openvino(products: Products, threads: int) -> tuple[Run, Run]:
    """The int8 products and attention's float products in OpenVINO; ends the program unless int8 kernels run."""
    import openvino as ov
    from openvino import opset13 as ops

    draw = np.random.default_rng(0)
    given = ops.parameter([products.batch, products.length, products.width], np.float32)
    node: Any = given
    low, high = np.float32(0), np.float32(255 * _SCALE)
    for shape in products.weights:
        quantized = ops.fake_quantize(node, low, high, low, high, 256)
        weight = ops.convert(ops.constant(draw.integers(-127, 128, shape, dtype=np.int8)), np.float32)
        scales = np.full((1, shape[1]), _SCALE / shape[0], np.float32)
        node = ops.matmul(quantized, ops.multiply(weight, scales), False, False)
    ints = ov.Model([ops.reduce_max(node, np.array([0, 1]))], [given])
    q, k, v = (ops.parameter(list(products.heads_shape), np.float32) for _ in range(3))
    node = q
    for _ in range(products.layers):
        node = ops.matmul(ops.matmul(node, k, False, True), v, False, False)
    floats = ov.Model([node], [q, k, v])
    config = {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    requests = [ov.Core().compile_model(model, "CPU", config).create_infer_request() for model in (ints, floats)]
    _require_int8(requests[0].get_compiled_model().get_runtime_model(), len(products.weights))
    x = draw.random((products.batch, products.length, products.width), dtype=np.float32)
    heads = [0.05 * draw.standard_normal(products.heads_shape, dtype=np.float32) for _ in range(3)]
    return (lambda: requests[0].infer([x], share_inputs=True)), (lambda: requests[1].infer(heads, share_inputs=True))


def _require_int8(graph: Any, wanted: int) -> None:
    kinds = Counter(
        (info["layerType"].astype(str), info["runtimePrecision"].astype(str))
        for info in (node.get_rt_info() for node in graph.get_ops())
    )
    found = sum(count for (kind, precision), count in kinds.items() if kind == "FullyConnected" and precision == "u8")
    if found != wanted:
        sys.exit(f"{found} of {wanted} bare products run in int8 in OpenVINO: {dict(kinds)}")


def bare_onnxruntime(products: Products, threads: int) -> tuple[Run, Run]:
    """The int8 products and attention's float products in ONNX Runtime; ends the program unless int8 kernels run."""
    draw = np.random.default_rng(0)
    ints, floats = _int8_onnx(products, draw), _float_onnx(products)
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        first = _session(ints, threads, optimized)
        _require_int8_onnx(optimized, len(products.weights))
    second = _session(floats, threads, None)
    x = draw.random((products.batch * products.length, products.width), dtype=np.float32)
    heads = {n: 0.05 * draw.standard_normal(products.heads_shape, dtype=np.float32) for n in "qkv"}
    return (lambda: first.run(None, {"x": x})), (lambda: second.run(None, heads))


def _int8_onnx(products: Products, draw: Any) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.array(_SCALE, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.uint8), "zero"),
    ]
    nodes, name = [], "x"
    for i, shape in enumerate(products.weights):
        constants += [
            numpy_helper.from_array(draw.integers(-127, 128, shape, dtype=np.int8), f"w{i}"),
            numpy_helper.from_array(np.full(shape[1], _SCALE / shape[0], np.float32), f"ws{i}"),
            numpy_helper.from_array(np.zeros(shape[1], np.int8), f"wz{i}"),
        ]
        nodes += [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", "scale", "zero"], [f"a{i}"]),
            helper.make_node("DequantizeLinear", [f"w{i}", f"ws{i}", f"wz{i}"], [f"b{i}"], axis=1),
            helper.make_node("MatMul", [f"a{i}", f"b{i}"], [f"y{i}"]),
        ]
        name = f"y{i}"
    rows = products.batch * products.length
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, products.width])
    y = helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, products.width])
    return _model_bytes(nodes, [x], [y], constants)


def _float_onnx(products: Products) -> bytes:
    from onnx import TensorProto, helper

    nodes, name = [], "q"
    nodes.append(helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]))
    for i in range(products.layers):
        nodes.append(helper.make_node("MatMul", [name, "kt"], [f"s{i}"]))
        nodes.append(helper.make_node("MatMul", [f"s{i}", "v"], [f"o{i}"]))
        name = f"o{i}"
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, products.heads_shape) for n in (*"qkv", name)]
    return _model_bytes(nodes, values[:3], values[3:], [])


def _model_bytes(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]) -> bytes:
    from onnx import helper

    graph = helper.make_graph(nodes, "products", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def _session(model: bytes, threads: int, optimized: Path | None) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _require_int8_onnx(optimized: Path, wanted: int) -> None:
    import onnx

    kinds = Counter(node.op_type for node in onnx.load(optimized).graph.node)
    if (found := sum(kinds[kind] for kind in _INT8_OPS)) != wanted:
        sys.exit(f"{found} of {wanted} bare products run in int8 in ONNX Runtime: {dict(kinds)}")


BARE = {"openvino": bare_openvino, "onnxruntime": bare_onnxruntime}
