"""Dynamic int8 by ONNX Runtime: the scale of an activation is that of the batch it comes in.

    before   x -> MatMul(W)          after   DynamicQuantizeLinear(x) -> MatMulInteger(W int8) -> Cast -> Mul

It needs no calibration. But one scale serves the whole batch: a text's vector depends on its batch mates and on the
padding, so the same text twice can have two vectors. Never a default.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edgebert.engines.quiet import quiet_import
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Graph


@dataclass(frozen=True)
class DynamicInt8:
    """The pass. exclude: names of MatMul nodes to leave in float.

    Weights are reduced to 7 bits, which processors without VNNI need (`edgebert.quantize.saturation`).
    """

    exclude: tuple[str, ...] = ()

    def __call__(self, graph: Graph, context: Context) -> None:
        """Rewrites `graph`."""
        quiet_import("onnxruntime")
        from onnxruntime.quantization import QuantType, quantize_dynamic

        names = [linear.name for linear in graph.to_round("dynamic-int8", self.exclude)]
        path = context.folder / "dynamic.onnx"
        quantize_dynamic(
            graph.model,
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        graph.adopt(onnx.load(path))
        path.unlink()
