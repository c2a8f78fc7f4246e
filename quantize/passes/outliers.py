"""A few channels of an activation that reach far beyond all others stay in float, so that the rest gets finer steps.

    before   x -> MatMul(W)
    after    x -> MatMul(W without the rows of those channels) -> Add
             x -> Gather(those channels) -> MatMul(their rows of W) -^

In the feed-forward part of BERT a handful of channels reach 50 times further than the median; with one scale for all,
ordinary values fall into three or four of the 256 steps. The float product has a few rows and costs little.

Source: the mixed decomposition of LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339; here calibration fixes the
channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Graph, Linear
from edgebert.quantize.statistics import Activation


@dataclass(frozen=True)
class Outliers:
    """The pass. channels: at most so many of one activation. gain: how many times finer the steps must get.

    Raises: RecipeError for a number below 1.
    """

    channels: int = 8
    gain: float = 3.0
    keeps_activations: ClassVar[bool] = True  # what was measured before it still holds

    def __post_init__(self) -> None:
        for name, value in (("channels", self.channels), ("gain", self.gain)):
            if not value >= 1:
                raise RecipeError(f"outliers: {name} is {value}; it must be 1 or more")

    def __call__(self, graph: Graph, context: Context) -> None:
        """Rewrites `graph`."""
        linears = graph.to_round("outliers")
        seen = context.observe(graph, [linear.input for linear in linears])
        for linear in linears:
            chosen = outlier_channels(seen[linear.input], self.channels, self.gain)
            if len(chosen) and linear.input not in graph.split:  # else they are spread, in integers
                self._split(graph, linear, chosen)

    def _split(self, graph: Graph, linear: Linear, channels: NDArray[np.int64]) -> None:
        weight, out, name = graph.value(linear.weight), linear.node.output[0], f"{linear.name}_outliers"
        rest = weight.copy()
        rest[channels] = 0
        linear.node.input[1] = graph.set(f"{name}_rest_weight", rest)
        linear.node.output[0] = f"{name}_rest"
        picked, nodes = f"{linear.input}_outliers", []
        if picked not in graph.producer:  # layers that read the same tensor share it
            inputs = [linear.input, graph.set(f"{picked}_channels", channels)]
            gather = helper.make_node("Gather", inputs, [picked], name=f"{picked}_gather", axis=-1)
            graph.insert_before(linear.node, [gather])
        inputs = [picked, graph.set(f"{name}_weight", weight[channels])]
        nodes.append(helper.make_node("MatMul", inputs, [f"{name}_product"], name=f"{name}_product"))
        nodes.append(helper.make_node("Add", [f"{name}_rest", f"{name}_product"], [out], name=f"{name}_sum"))
        graph.in_float.add(f"{name}_product")
        graph.insert_after(linear.node, nodes)


def outlier_channels(seen: Activation, most: int, gain: float) -> NDArray[np.int64]:
    """The kept channels that reach far beyond the others, at most `most`, in their order.

    As few as give most of the gain; none where the steps would not get `gain` times finer.
    """
    largest = seen.largest if seen.kept is None else np.where(seen.kept, seen.largest, 0.0)
    order = np.argsort(-largest, kind="stable")[: min(most, seen.channels // 8) + 1]
    reach = largest[order]
    if len(reach) < 2 or reach[0] < gain * reach[-1]:
        return np.empty(0, np.int64)
    # The last channel that still reaches a quarter further than what remains when all are taken.
    count = int((reach > 1.25 * reach[-1]).sum())
    return np.sort(order[:count])
