"""NNCF's ONNX graph, rewritten so that ONNX Runtime runs it as fast as OpenVINO does. The arithmetic stays the same.

    before                                          after
    Q(x; scale, zero point int8)                    Q(x; scale, zero point + 128, uint8)
    Gather(DQ(table int8; scale per row), ids)      Gather(table, ids) -> Cast -> Mul(Gather(scale, ids))

ONNX Runtime has fast kernels for uint8 activations with int8 weights alone (int8 with int8 is three times slower), and
it would turn a whole embedding table back into float32 at every call.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def for_onnxruntime(model: onnx.ModelProto) -> None:
    """Rewrites `model` in place."""
    graph = _Graph(model)
    for node in list(model.graph.node):
        if node.op_type == "QuantizeLinear":
            graph.unsign(node)
        elif node.op_type == "Gather":
            graph.gather_first(node)
    graph.drop_unused()
    del model.graph.value_info[:]  # the types noted there are the old ones


class _Graph:
    """A model's graph with its initializers, producers and consumers by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer = {name: node for node in model.graph.node for name in node.output}

    def consumers(self, name: str) -> list[NodeProto]:
        return [node for node in self.graph.node if name in node.input]

    def unsign(self, quantize: NodeProto) -> None:
        """An activation's int8 zero point in uint8: both quantize to the same steps, 128 apart."""
        pairs = [quantize, *(n for n in self.consumers(quantize.output[0]) if n.op_type == "DequantizeLinear")]
        for node in pairs:
            zero = self.constants.get(node.input[2]) if len(node.input) > 2 else None
            if zero is None or zero.data_type != TensorProto.INT8:
                continue
            values = numpy_helper.to_array(zero).astype(np.int16) + 128
            name = f"{zero.name}_uint8"
            if name not in self.constants:
                self._add_constant(numpy_helper.from_array(values.astype(np.uint8), name))
            node.input[2] = name

    def gather_first(self, gather: NodeProto) -> None:
        """Rows of an int8 table are gathered before they are scaled, not after."""
        dequantize = self.producer.get(gather.input[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear" or _attribute(gather, "axis") != 0:
            return
        table, scale = self.constants.get(dequantize.input[0]), self.constants.get(dequantize.input[1])
        zero = self.constants.get(dequantize.input[2]) if len(dequantize.input) > 2 else None
        if table is None or scale is None or (zero is not None and numpy_helper.to_array(zero).any()):
            return
        scales = numpy_helper.to_array(scale).astype(np.float32)
        if scales.ndim == 1 and _attribute(dequantize, "axis", 1) % len(table.dims) != 0:
            return
        column = np.broadcast_to(scales, table.dims[:1]).reshape(-1, 1).copy()
        out, ids = gather.output[0], gather.input[1]
        if f"{scale.name}_column" not in self.constants:
            self._add_constant(numpy_helper.from_array(column, f"{scale.name}_column"))
        nodes = [
            helper.make_node("Gather", [table.name, ids], [f"{out}_int8"], name=f"{gather.name}_int8", axis=0),
            helper.make_node(
                "Cast", [f"{out}_int8"], [f"{out}_float"], name=f"{gather.name}_float", to=TensorProto.FLOAT
            ),
            helper.make_node(
                "Gather", [f"{scale.name}_column", ids], [f"{out}_scale"], name=f"{gather.name}_scale", axis=0
            ),
            helper.make_node("Mul", [f"{out}_float", f"{out}_scale"], [out], name=f"{gather.name}_scaled"),
        ]
        place = list(self.graph.node).index(gather)
        self.graph.node.remove(gather)
        for offset, node in enumerate(nodes):
            self.graph.node.insert(place + offset, node)

    def drop_unused(self) -> None:
        """Takes out DequantizeLinear nodes that nothing reads any more, then constants without a reader."""
        used = {name for node in self.graph.node for name in node.input} | {out.name for out in self.graph.output}
        for node in [n for n in self.graph.node if n.op_type == "DequantizeLinear" and n.output[0] not in used]:
            self.graph.node.remove(node)
        used = {name for node in self.graph.node for name in node.input}
        for name, tensor in self.constants.items():
            if name not in used:
                self.graph.initializer.remove(tensor)

    def _add_constant(self, tensor: TensorProto) -> None:
        self.graph.initializer.append(tensor)
        self.constants[tensor.name] = tensor


def _attribute(node: NodeProto, name: str, default: int = 0) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
