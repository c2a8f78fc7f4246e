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
from edgebert.quantize.ranges import METHODS, Method, min_max, spanned, steps
from edgebert.quantize.saturation import safe_scales
from edgebert.quantize.statistics import Activation
from edgebert.quantize.windows import NONE, Windows, affordable, gathered, widen

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
        wanted = {linear.name for linear in chosen}
        # From the last to the first: a layer whose columns are repeated for a later one is not yet rounded itself.
        for name in reversed(list(dict.fromkeys(linear.input for linear in chosen))):
            linears = [linear for linear in graph.linears() if linear.input == name and linear.name in wanted]
            self._quantize(graph, name, linears, seen[name])

    def _quantize(self, graph: Graph, name: str, linears: list[Linear], seen: Activation) -> None:
        """Gives `linears`, which all read the tensor `name`, that tensor rounded, and int8 weights."""
        channels, (scale, zero) = graph.split.get(name, NONE), steps(*METHODS[self.ranges](seen))
        if not affordable(seen, channels, *spanned(scale, zero)):
            scale, zero = steps(*min_max(seen))  # for which the split was decided; narrower ranges need more windows
        windows = Windows.of(seen, channels, *spanned(scale, zero))
        facts = [graph.set(f"{name}_scale", np.array(scale)), graph.set(f"{name}_zero_point", np.array(zero))]
        rounded, nodes = self._rounded(graph, linears, facts, windows)
        nodes.append(
            helper.make_node("DequantizeLinear", [rounded, *facts], [f"{name}_dequantized"], name=f"{name}_dequantize")
        )
        first = linears[0].node  # the earliest: `Graph.linears` keeps the graph's order
        for linear in linears:
            nodes.append(self._weight(graph, linear, seen, windows))
            linear.node.input[0], linear.node.input[1] = f"{name}_dequantized", nodes[-1].output[0]
        graph.insert_before(first, nodes)

    @staticmethod
    def _rounded(
        graph: Graph, linears: list[Linear], facts: list[str], windows: Windows
    ) -> tuple[str, list[NodeProto]]:
        """The tensor that `linears` read in uint8 with its windows: what it is called, and the nodes that make it."""
        name = linears[0].input

        def quantize(tensor: str) -> NodeProto:
            return helper.make_node(
                "QuantizeLinear", [tensor, *facts], [f"{tensor}_quantized"], name=f"{tensor}_quantize"
            )

        if not len(windows.channels):
            return f"{name}_quantized", [quantize(name)]
        if (shifted := widen(graph, linears, windows)) is not None:
            return f"{shifted}_quantized", [quantize(shifted)]
        shifted, nodes = gathered(graph, name, windows)
        parts, whole = [f"{name}_quantized", f"{shifted}_quantized"], f"{name}_joined"
        nodes += [quantize(name), quantize(shifted), helper.make_node("Concat", parts, [whole], name=whole, axis=-1)]
        return whole, nodes

    def _weight(self, graph: Graph, linear: Linear, seen: Activation, windows: Windows) -> NodeProto:
        """The node that gives the layer's weights out of int8; what the windows add too much goes out of the bias."""
        original, name = graph.value(linear.weight), f"{linear.name}_weight"
        weight = windows.weight(original)
        scales = self._scales(weight)
        rounded = quantized(weight, scales) * scales
        graph.drift[linear.name] = rounding_drift(original, rounded[: len(original)], seen)
        if len(windows.channels):
            graph.add_bias(linear, -windows.surplus(rounded))
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
