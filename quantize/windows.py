"""Writing split channels into a graph: the windows of each, where they come from, and the rows and bias that go with
them. See `edgebert.quantize.passes.split_outliers`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from edgebert.quantize.graph import Array, Graph, Linear
from edgebert.quantize.statistics import Activation

_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Erf", "Tanh", "Relu", "Gelu", "Sigmoid", "Pow", "Clip")
_TOLERANCE = 1e-3  # of a window: what reaches so little beyond one needs no further


@dataclass(frozen=True)
class Windows:
    """The further windows of a tensor's split channels, and idle columns between them.

    channels: which channel each column repeats. shifts: what is taken from it. constants: what each column counts too
    much, as a value; idle columns have no row of weights. Idle ones stand between two of the same channel, whose
    weights would otherwise be neighbours that saturate together (`edgebert.quantize.saturation`).
    Shape: all (columns,).
    """

    channels: NDArray[np.int64]
    shifts: Array
    constants: Array
    idle: NDArray[np.bool_]

    @classmethod
    def of(cls, seen: Activation, channels: Sequence[int] | NDArray[np.int64], low: float, high: float) -> Windows:
        """The windows beyond `low` to `high` that the split `channels` reach."""
        reach, columns = high - low, list[tuple[int, float, float, bool]]()
        for channel in channels:
            above = math.ceil((seen.most[channel] - high) / reach - _TOLERANCE)
            below = math.ceil((low - seen.least[channel]) / reach - _TOLERANCE)
            parts = [(i * reach, low) for i in range(1, above + 1)] + [(-i * reach, high) for i in range(1, below + 1)]
            for shift, constant in parts:
                columns += [(channel, shift, constant, False), (channel, shift, 0.0, True)]
        chosen, shifts, constants, idle = zip(*columns, strict=True) if columns else ((), (), (), ())
        return cls(
            np.array(chosen, np.int64), np.array(shifts, np.float32), np.array(constants, np.float32),
            np.array(idle, bool),
        )  # fmt: skip

    def weight(self, weight: Array) -> Array:
        """`weight` with the rows of the windows. Shape: (in_features, out) -> (in_features + columns, out)."""
        return np.concatenate([weight, np.where(self.idle[:, None], 0.0, weight[self.channels]).astype(np.float32)])

    def surplus(self, rounded: Array) -> Array:
        """What the windows' constants add to the layer. Shape: rounded (in_features + columns, out) -> (out,)."""
        total: Array = (self.constants.astype(np.float64) @ rounded[-len(self.channels) :]).astype(np.float32)
        return total


def widen(graph: Graph, readers: Sequence[Linear], windows: Windows) -> str | None:
    """Lets the linear layer that makes what `readers` read, value by value, make the windows' columns too.

    Returns the name of the shifted tensor; None where there is no such layer or somebody else reads what it makes.
    """
    tensor = readers[0].input
    if (found := _maker(graph, tensor)) is None:
        return None
    linear, add = found
    if {node.name for node in graph.consumers(tensor)} != {reader.name for reader in readers}:
        return None
    assert linear.bias is not None
    weight, bias = graph.value(linear.weight), graph.value(linear.bias)
    linear.node.input[1] = graph.set(f"{linear.weight}_widened", np.hstack([weight, weight[:, windows.channels]]))
    place = list(add.input).index(linear.bias)
    add.input[place] = graph.set(f"{linear.bias}_widened", np.concatenate([bias, bias[windows.channels]]))
    shifts = np.concatenate([np.zeros(len(bias), np.float32), windows.shifts])
    shifted = f"{tensor}_windows"
    inputs = [tensor, graph.set(f"{shifted}_shifts", shifts)]
    graph.insert_after(graph.producer[tensor], [helper.make_node("Sub", inputs, [shifted], name=shifted)])
    return shifted


def gathered(graph: Graph, tensor: str, windows: Windows) -> tuple[str, list[NodeProto]]:
    """The windows' columns out of `tensor`: the name of the shifted values, and the nodes that make them."""
    name = f"{tensor}_windows"
    picked = [tensor, graph.set(f"{name}_channels", windows.channels)]
    nodes = [
        helper.make_node("Gather", picked, [f"{name}_picked"], name=f"{name}_gather", axis=-1),
        helper.make_node(
            "Sub", [f"{name}_picked", graph.set(f"{name}_shifts", windows.shifts)], [name], name=f"{name}_shift"
        ),
    ]
    return name, nodes


def _maker(graph: Graph, tensor: str) -> tuple[Linear, NodeProto] | None:
    """The linear layer out of which `tensor` is made value by value, and the node that adds its bias."""
    linears = {linear.node.output[0]: linear for linear in graph.linears()}
    between: list[NodeProto] = []
    waiting, seen, made = [tensor], set[str](), None
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in linears:
            if made is not None:
                return None
            made = linears[name]
            continue
        node = graph.producer.get(name)
        if node is None or node.op_type not in _ELEMENTWISE:
            return None
        between.append(node)
        for source in node.input:
            size = graph.constant_size(source)
            if size is None:
                waiting.append(source)
            elif size != 1 and source != _bias(graph, node):
                return None
    if made is None or made.bias is None:
        return None
    names = {node.name for node in between}
    inner = [made.node.output[0], *(node.output[0] for node in between if node.output[0] != tensor)]
    if any(reader.name not in names for name in inner for reader in graph.consumers(name)):
        return None
    first = [node for node in between if made.bias in node.input]
    return (made, first[0]) if len(first) == 1 else None


def _bias(graph: Graph, node: NodeProto) -> str | None:
    """The bias that `node` adds to a linear layer."""
    made = next((linear for linear in graph.linears() if linear.node.output[0] in node.input), None)
    return None if made is None else made.bias
