"""Static int8 with QuantizeLinear and DequantizeLinear nodes, which both engines run in integers.

    before   x -> MatMul(W)                  after   Q(x) -> DQ -> MatMul(DQ(W int8))

Activations: uint8, one scale a tensor, fixed by calibration, so that a text's vector does not depend on what shares its
batch. Weights: int8, symmetric, a scale a channel. The matrix products of attention stay in float: quantizing them
loses most of what int8 loses. Only the linear layers read the rounded x; ONNX Runtime's own quantizer gives it to every
reader, the residual connection too, which loses more than the layers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from edgebert.quantize.context import Context
from edgebert.quantize.graph import Array, Graph, Linear
from edgebert.quantize.ranges import METHODS, Method, steps
from edgebert.quantize.saturation import safe_scales
from edgebert.quantize.statistics import Activation

_TINY = 1e-12


@dataclass(frozen=True)
class StaticInt8:
    """The pass.

    ranges: how an activation's range is chosen. weights: "safe" keeps every pair of neighbours within int16, so that
    processors without VNNI give the same answers (`edgebert.quantize.saturation`); "7-bit" does so with half the range
    for all; "full" uses all 8 bits and is for processors with VNNI alone. exclude: names of MatMul nodes to leave in
    float.
    """

    ranges: Method = "min-max"
    weights: Literal["safe", "7-bit", "full"] = "safe"
    exclude: tuple[str, ...] = ()

    def __call__(self, graph: Graph, context: Context) -> None:
        """Rewrites `graph`."""
        chosen = graph.to_round("static-int8", self.exclude)
        names = list(dict.fromkeys(linear.input for linear in graph.linears()))
        seen = context.observe(graph, names, histogram=self.ranges != "min-max")
        groups: dict[str, list[Linear]] = {}
        for linear in chosen:
            groups.setdefault(linear.input, []).append(linear)
        for name, linears in groups.items():
            self._quantize(graph, name, linears, seen[name])

    def _quantize(self, graph: Graph, name: str, linears: list[Linear], seen: Activation) -> None:
        """Gives `linears`, which all read the tensor `name`, that tensor rounded, and int8 weights."""
        scale, zero = steps(*METHODS[self.ranges](seen))
        facts = [graph.set(f"{name}_scale", np.array(scale)), graph.set(f"{name}_zero_point", np.array(zero))]
        rounded = [f"{name}_quantized", f"{name}_dequantized"]
        nodes = [
            helper.make_node("QuantizeLinear", [name, *facts], rounded[:1], name=f"{name}_quantize"),
            helper.make_node("DequantizeLinear", [rounded[0], *facts], rounded[1:], name=f"{name}_dequantize"),
        ]
        first = linears[0].node  # the earliest: `Graph.linears` keeps the graph's order
        for linear in linears:
            nodes.append(self._weight(graph, linear, seen))
            linear.node.input[0], linear.node.input[1] = rounded[1], nodes[-1].output[0]
        graph.insert_before(first, nodes)

    def _weight(self, graph: Graph, linear: Linear, seen: Activation) -> NodeProto:
        """The node that gives the layer's weights out of int8."""
        weight, name = graph.value(linear.weight), f"{linear.name}_weight"
        scales = self._scales(weight)
        graph.drift[linear.name] = rounding_drift(weight, quantized(weight, scales) * scales, seen)
        inputs = [
            graph.set(f"{name}_quantized", quantized(weight, scales)),
            graph.set(f"{name}_scale", scales),
            graph.set(f"{name}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        return helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantized"], name=f"{name}_dequantize", axis=1)

    def _scales(self, weight: Array) -> Array:
        """Shape: (in_features, out_features) -> (out_features,)."""
        if self.weights == "safe":
            return safe_scales(weight)
        most = 127 if self.weights == "full" else 64
        scales: Array = (np.maximum(np.abs(weight).max(axis=0), _TINY) / most).astype(np.float32)
        return scales


def rounding_drift(weight: Array, rounded: Array, seen: Activation) -> Array:
    """By how much `rounded` weights change the layer's mean output. Shape: (out_features,)."""
    drift: Array = (seen.mean @ (rounded.astype(np.float64) - weight)).astype(np.float32)
    return drift


def quantized(weight: Array, scales: Array) -> NDArray[np.int8]:
    """Shape: weight (in_features, out_features), scales (out_features,) -> weight's."""
    rounded: NDArray[np.int8] = np.clip(np.round(weight / scales), -127, 127).astype(np.int8)
    return rounded
