"""SmoothQuant: what is hard to round in an activation moves into the weights, which have a scale a channel.

    before   x -> MatMul(W)                  after   x -> Mul(1 / s) -> MatMul(s * W)

One s for all layers that read the same x, so that it is scaled once. Source: Xiao et al. 2022, arXiv:2211.10438.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import helper

from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Array, Graph, Linear

_LEAST = 1e-5


@dataclass(frozen=True)
class SmoothQuant:
    """The pass. alpha: how much moves, from 0 to 1. everywhere: smooth all inputs, not only those out of a LayerNorm.

    What comes out of a GELU or of attention has its outliers in few channels, which ruin the weights they move into.
    Raises: RecipeError for an alpha that is not within 0 to 1.
    """

    alpha: float = 0.5
    everywhere: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise RecipeError(f"smooth-quant: alpha is {self.alpha}; it must be within 0 to 1")

    def __call__(self, graph: Graph, context: Context) -> None:
        """Rewrites `graph`."""
        groups: dict[str, list[Linear]] = {}
        for linear in graph.to_round("smooth-quant"):
            producer = graph.producer.get(linear.input)
            if self.everywhere or (producer is not None and producer.op_type == "LayerNormalization"):
                groups.setdefault(linear.input, []).append(linear)
        seen = context.observe(graph, [linear.input for linear in graph.linears()])
        for name, linears in groups.items():
            weights = [graph.value(linear.weight) for linear in linears]
            scale = self._scale(seen[name].largest.astype(np.float32), weights)
            self._scaled(graph, name, linears, weights, scale)

    def _scale(self, activation: Array, weights: list[Array]) -> Array:
        """Shape: activation (in_features,), weights (in_features, out_features) -> (in_features,)."""
        most = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
        scale = np.maximum(activation, _LEAST) ** self.alpha / np.maximum(most, _LEAST) ** (1 - self.alpha)
        centred: Array = np.maximum(scale, _LEAST) / np.exp(np.log(np.maximum(scale, _LEAST)).mean())
        return centred

    def _scaled(self, graph: Graph, name: str, linears: list[Linear], weights: list[Array], scale: Array) -> None:
        smooth = f"{name}_smooth"
        node = helper.make_node("Mul", [name, graph.set(f"{smooth}_factor", 1 / scale)], [smooth], name=smooth)
        graph.insert_before(linears[0].node, [node])
        for linear, weight in zip(linears, weights, strict=True):
            linear.node.input[0] = smooth
            linear.node.input[1] = graph.set(f"{linear.weight}_smooth", weight * scale[:, None])
        graph.refresh()
