"""What rounding the weights adds to a layer's mean output is taken out of its bias.

    before   MatMul(W int8) -> Add(b)        after   MatMul(W int8) -> Add(b - E[x] (W int8 - W))

It comes after static-int8, and is exact for the mean of the calibration set, its made-up rows included.
Source: Nagel et al. 2019, arXiv:1906.04721, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Graph


@dataclass(frozen=True)
class BiasCorrection:
    """The pass; it has no options."""

    def __call__(self, graph: Graph, context: Context) -> None:
        """Rewrites `graph`. Layers without a bias stay as they are.

        Raises: RecipeError when static-int8 has not run before.
        """
        if not graph.drift:
            raise RecipeError("bias-correction finds no rounded weights: it comes after static-int8")
        for node in list(graph.graph.node):
            if node.op_type != "MatMul" or node.name not in graph.drift:
                continue
            total = node
            readers = graph.consumers(node.output[0])
            if len(readers) == 1 and readers[0].name == f"{node.name}_outliers_sum":
                total = readers[0]
            bias = graph.bias_of(total)
            if bias is not None:
                adds = graph.consumers(total.output[0])[0]
                corrected = graph.set(f"{node.name}_corrected_bias", graph.value(bias) - graph.drift[node.name])
                place = list(adds.input).index(bias)
                adds.input[place] = corrected
        graph.refresh()
