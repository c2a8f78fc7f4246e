"""Weights in 8 or 4 bits on disk, or in codes; activations are float in the file.

    tables   Gather(W, ids)     8 bits: Gather(W int8, ids) -> Cast -> Mul(Gather(scale, ids))
                                4 bits: two columns share a byte, taken apart after the rows are gathered
                                codes: Gather(vectors, Gather(codes uint8, ids) + 256 * place) -> Reshape
    linears  MatMul(x, W)       8 bits: MatMul(x, DQ(W int8)); 4 bits: MatMulNBits, blocks of 32, by ONNX
             Runtime, which is 4.5 bits with the scales, here in float16

Rows are gathered before they are scaled, so that a table never stands in memory as float. The word table is half of a
small model. The steps of 4 bits are those of least squared error for each row. A word table that was made of codes (see
`edgebert.distill.codes`) is stored as they are, without loss, whatever the bits of the others.

The engines do more with linear layers than the file says: where the processor has VNNI, OpenVINO, and ONNX Runtime
everywhere, round 32 values of a token's activation at a time to int8 and multiply integers. A text's vector still does
not depend on its batch mates, because no scale is shared by two tokens.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from edgebert.engines.quiet import quiet_import
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Array, Graph, Table
from edgebert.quantize.table_codes import CODES, table_codes

_MIN_ROWS = 64  # smaller tables, such as token types, are not worth the nodes
_BLOCK = 32
_TINY = 1e-12
_CLIPS = np.linspace(1.0, 0.4, 25, dtype=np.float32)


@dataclass(frozen=True)
class WeightOnly:
    """The pass. tables: bits of embedding tables (4 for the largest, the others keep 8); linears: of linear layers.

    32 leaves them in float.
    """

    tables: Literal[4, 8, 32] = 8
    linears: Literal[4, 8, 32] = 32

    def __call__(self, graph: Graph, context: Context) -> None:
        """Rewrites `graph`."""
        tables = [table for table in graph.tables() if len(graph.value(table.weight)) >= _MIN_ROWS]
        largest = max((graph.value(table.weight).size for table in tables), default=0)
        for table in tables if self.tables < 32 else ():
            weight = graph.value(table.weight)
            if (found := table_codes(weight)) is not None:
                graph.replace(table.node, _coded(graph, table, *found))
                continue
            four = self.tables == 4 and weight.size == largest and weight.shape[1] % 2 == 0
            graph.replace(table.node, _four_bits(graph, table) if four else _eight_bits(graph, table))
        if self.linears == 8:
            for linear in graph.to_round("weight-only"):
                weight = graph.value(linear.weight)
                scales = (np.maximum(np.abs(weight).max(axis=0), _TINY) / 127).astype(np.float32)
                name = f"{linear.name}_weight"
                inputs = [
                    graph.set(f"{name}_quantized", np.clip(np.round(weight / scales), -127, 127).astype(np.int8)),
                    graph.set(f"{name}_scale", scales),
                ]
                node = helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_dequantize", axis=1)
                linear.node.input[1] = name
                graph.insert_before(linear.node, [node])
        elif self.linears == 4:
            graph.adopt(_blocks(graph.model, [linear.name for linear in graph.to_round("weight-only")]))
            _halve_scales(graph)


def _eight_bits(graph: Graph, table: Table) -> list[NodeProto]:
    weight, name = graph.value(table.weight), table.weight
    scales = np.maximum(np.abs(weight).max(axis=1, keepdims=True), _TINY) / 127
    codes = graph.set(f"{name}_int8", np.round(weight / scales).astype(np.int8))
    return [
        *_gather(table, codes, "codes"),
        *_scaled(graph, table, f"{table.node.name}_codes_cast", scales),
    ]


def _four_bits(graph: Graph, table: Table) -> list[NodeProto]:
    """A byte holds column j in its lower half and column j + width / 2 in its upper one."""
    codes, scales = four_bit_codes(graph.value(table.weight))
    half, base = codes.shape[1] // 2, table.node.name
    packed = (codes[:, :half] + 8) | ((codes[:, half:] + 8) << 4)
    name = graph.set(f"{table.weight}_uint4", packed.astype(np.uint8))
    sixteen, sixteenth, eight = (
        graph.set(f"edgebert_{key}", np.array(value, np.float32))
        for key, value in (("sixteen", 16), ("sixteenth", 1 / 16), ("eight", 8))
    )
    byte = f"{base}_codes_cast"
    return [
        *_gather(table, name, "codes"),
        helper.make_node("Mul", [byte, sixteenth], [f"{base}_shifted"], name=f"{base}_shift"),
        helper.make_node("Floor", [f"{base}_shifted"], [f"{base}_upper"], name=f"{base}_floor"),
        helper.make_node("Mul", [f"{base}_upper", sixteen], [f"{base}_upper_part"], name=f"{base}_unshift"),
        helper.make_node("Sub", [byte, f"{base}_upper_part"], [f"{base}_lower"], name=f"{base}_mask"),
        helper.make_node(
            "Concat", [f"{base}_lower", f"{base}_upper"], [f"{base}_unsigned"], name=f"{base}_join", axis=-1
        ),
        helper.make_node("Sub", [f"{base}_unsigned", eight], [f"{base}_signed"], name=f"{base}_sign"),
        *_scaled(graph, table, f"{base}_signed", scales),
    ]


def four_bit_codes(weight: Array) -> tuple[NDArray[np.int16], Array]:
    """Codes from -8 to 7 and the scale of each row, of those tried the one with the least squared error.

    Shape: weight (rows, width) -> (rows, width), (rows, 1).
    """
    most = np.maximum(np.abs(weight).max(axis=1, keepdims=True), _TINY)
    best = np.full((len(weight), 1), np.inf, np.float32)
    scales = most / 7
    for clip in _CLIPS:
        tried = most * clip / 7
        error = ((np.clip(np.round(weight / tried), -8, 7) * tried - weight) ** 2).sum(axis=1, keepdims=True)
        scales, best = np.where(error < best, tried, scales), np.minimum(error, best)
    return np.clip(np.round(weight / scales), -8, 7).astype(np.int16), scales.astype(np.float32)


def _coded(graph: Graph, table: Table, codes: NDArray[np.uint8], vectors: Array) -> list[NodeProto]:
    """The rows of codes, each the number of one of its place's vectors, which lie behind each other."""
    base, places = table.node.name, codes.shape[1]
    halves = vectors.astype(np.float16)
    stored = halves if np.array_equal(halves.astype(np.float32), vectors) else vectors
    constants = {
        "codes": codes,
        "vectors": stored.reshape(places * CODES, -1),
        "places": (np.arange(places) * CODES).astype(np.int32),
        "shape": np.array([0, 0, places * vectors.shape[2]], np.int64),
    }
    name = {key: graph.set(f"{table.weight}_{key}", value) for key, value in constants.items()}
    return [
        *_gather(table, name["codes"], "codes", to=TensorProto.INT32),
        helper.make_node("Add", [f"{base}_codes_cast", name["places"]], [f"{base}_numbers"], name=f"{base}_number"),
        helper.make_node("Gather", [name["vectors"], f"{base}_numbers"], [f"{base}_runs"], name=f"{base}_look", axis=0),
        helper.make_node("Cast", [f"{base}_runs"], [f"{base}_float"], name=f"{base}_float", to=TensorProto.FLOAT),
        helper.make_node("Reshape", [f"{base}_float", name["shape"]], [table.node.output[0]], name=f"{base}_join"),
    ]


def _gather(table: Table, codes: str, suffix: str, to: int = TensorProto.FLOAT) -> list[NodeProto]:
    """Rows of `codes` as float or another type, under the name of the table's node with `suffix`_cast."""
    base = f"{table.node.name}_{suffix}"
    return [
        helper.make_node("Gather", [codes, table.node.input[1]], [base], name=base, axis=0),
        helper.make_node("Cast", [base], [f"{base}_cast"], name=f"{base}_cast", to=to),
    ]


def _scaled(graph: Graph, table: Table, rows: str, scales: Array) -> list[NodeProto]:
    """`rows` times their scales, as the table's node gave them."""
    column, base = graph.set(f"{table.weight}_scales", scales.astype(np.float32)), f"{table.node.name}_scale"
    return [
        helper.make_node("Gather", [column, table.node.input[1]], [base], name=base, axis=0),
        helper.make_node("Mul", [rows, base], [table.node.output[0]], name=f"{table.node.name}_scaled"),
    ]


def _blocks(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """`model` with those products as MatMulNBits in blocks of 32."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    quiet_import("onnxruntime")
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    root.handlers[:] = handlers  # that module makes the whole program log to standard error
    root.setLevel(level)
    every = [node.name for node in model.graph.node if node.op_type == "MatMul"]
    config = DefaultWeightOnlyQuantConfig(block_size=_BLOCK, is_symmetric=True)
    quantizer = MatMulNBitsQuantizer(
        model, nodes_to_exclude=[name for name in every if name not in set(names)], algo_config=config
    )
    quantizer.process()
    made: onnx.ModelProto = quantizer.model.model
    return made


def _halve_scales(graph: Graph) -> None:
    """Keeps the blocks' scales in float16 on disk; the engines make them float32 when they open the file."""
    made: set[str] = set()
    for node in [node for node in graph.graph.node if node.op_type == "MatMulNBits"]:
        name = str(node.input[2])
        node.input[2] = f"{name}_float"
        if name in made:
            continue
        made.add(name)
        half = graph.set(f"{name}_half", graph.value(name).astype(np.float16))
        cast = helper.make_node("Cast", [half], [node.input[2]], name=f"{name}_cast", to=TensorProto.FLOAT)
        graph.insert_before(node, [cast])
