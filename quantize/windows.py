"""Writing split channels into a graph: the windows of each, where they come from, and the rows and bias that go with
them. See `edgebert.quantize.passes.split_outliers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from edgebert.quantize.graph import Array, Graph, Linear
from edgebert.quantize.statistics import Activation

Channels = NDArray[np.int64]
NONE: Channels = np.empty(0, np.int64)
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Erf", "Tanh", "Relu", "Gelu", "Sigmoid", "Pow", "Clip")
_TOLERANCE = 1e-3  # of a window: what reaches so little beyond one needs no further
_ALIGNED = 16  # columns a row is filled up to: kernels are slower on a remainder
_MOST = 0.25  # columns, of those there are: beyond that the float product of `Outliers` costs less


@dataclass(frozen=True)
class Windows:
    """The further windows of a tensor's split channels, and idle columns between and after them.

    channels: which channel each column repeats. shifts: what is taken from it. constants: what each column counts too
    much, as a value; idle columns have no row of weights. They stand between two of the same channel, whose weights
    would otherwise be neighbours that saturate together (`edgebert.quantize.saturation`), and fill the row up.
    Shape: all (columns,).
    """

    channels: Channels
    shifts: Array
    constants: Array
    idle: NDArray[np.bool_]

    @classmethod
    def of(cls, seen: Activation, channels: Channels, low: float, high: float) -> Windows:
        """The windows beyond `low` to `high` that the split `channels` reach, the first of each, then the second of
        each and so on, so that seldom two of the same channel meet."""
        reach, columns = high - low, list[tuple[int, float, float, bool]]()
        above, below = _counts(seen, channels, low, high)
        last = seen.channels - 1
        for i in range(1, int(max(above.max(initial=0), below.max(initial=0))) + 1):
            for counts, shift, constant in ((above, i * reach, low), (below, -i * reach, high)):
                for channel in channels[counts >= i]:
                    if channel == last:
                        columns.append((channel, shift, 0.0, True))
                    columns.append((channel, shift, constant, False))
                    last = channel
        if columns:
            columns += [(columns[0][0], 0.0, 0.0, True)] * (-(seen.channels + len(columns)) % _ALIGNED)
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
        rows = rounded[len(rounded) - len(self.channels) :]
        total: Array = (self.constants.astype(np.float64) @ rows).astype(np.float32)
        return total


def affordable(seen: Activation, channels: Channels, low: float, high: float) -> bool:
    """Whether splitting `channels` by windows from `low` to `high` takes few enough columns."""
    above, below = _counts(seen, channels, low, high)
    return float((above + below).sum()) <= _MOST * seen.channels


def _counts(seen: Activation, channels: Channels, low: float, high: float) -> tuple[NDArray[np.float64], ...]:
    """How many further windows each channel needs above and below. Shape: both (channels,)."""
    above, below = ((seen.most[channels] - high), (low - seen.least[channels]))
    over, under = (np.ceil(beyond / (high - low) - _TOLERANCE).clip(min=0) for beyond in (above, below))
    return over, under


def widen(graph: Graph, readers: Sequence[Linear], windows: Windows) -> str | None:
    """Lets the linear layer that makes what `readers` read, value by value, make the windows' columns too.

    Returns the name of the shifted tensor; None where there is no such layer or somebody else reads what it makes.
    """
    tensor = readers[0].input
    if {node.output[0] for node in graph.consumers(tensor)} != {reader.node.output[0] for reader in readers}:
        return None
    if (found := _maker(graph, tensor)) is None:
        return None
    linear, bias, add = found
    weight, values, name = graph.value(linear.weight), graph.value(bias), f"{linear.name}_widened"
    linear.node.input[1] = graph.set(f"{name}_weight", np.hstack([weight, weight[:, windows.channels]]))
    place = list(add.input).index(bias)
    add.input[place] = graph.set(f"{name}_bias", np.concatenate([values, values[windows.channels]]))
    shifts = np.concatenate([np.zeros(len(values), np.float32), windows.shifts])
    shifted = f"{tensor}_windows"
    inputs = [tensor, graph.set(f"{shifted}_shifts", shifts)]
    graph.insert_after(graph.producer[tensor], [helper.make_node("Sub", inputs, [shifted], name=shifted)])
    return shifted


def gathered(graph: Graph, tensor: str, windows: Windows) -> tuple[str, list[NodeProto]]:
    """The windows' columns out of `tensor`: the name of the shifted values, and the nodes that make them."""
    name = f"{tensor}_windows"
    channels, shifts = graph.set(f"{name}_channels", windows.channels), graph.set(f"{name}_shifts", windows.shifts)
    picked = f"{name}_picked"
    nodes = [
        helper.make_node("Gather", [tensor, channels], [picked], name=f"{name}_gather", axis=-1),
        helper.make_node("Sub", [picked, shifts], [name], name=f"{name}_shift"),
    ]
    return name, nodes


def _maker(graph: Graph, tensor: str) -> tuple[Linear, str, NodeProto] | None:
    """The linear layer out of which `tensor` is made value by value, its bias, and the node that adds it.

    None where there is none, or where anybody else, the graph's outputs among them, would see the further columns.
    """
    if (found := _sources(graph, tensor)) is None:
        return None
    linear, nodes = found
    if linear.bias is None:
        return None
    product = str(linear.node.output[0])
    if {output.name for output in graph.graph.output} & {product, *nodes}:
        return None
    inner = [product, *(name for name in nodes if name != tensor)]
    if any(reader.output[0] not in nodes for name in inner for reader in graph.consumers(name)):
        return None
    (add,) = graph.consumers(product)
    return linear, linear.bias, add


def _sources(graph: Graph, tensor: str) -> tuple[Linear, dict[str, NodeProto]] | None:
    """The one linear layer that `tensor` is computed from value by value, and the nodes after it by what they give."""
    linears = {str(linear.node.output[0]): linear for linear in graph.linears()}
    nodes, made, waiting = dict[str, NodeProto](), dict[str, Linear](), [tensor]
    while waiting:
        name = waiting.pop()
        if name in linears:
            made[name] = linears[name]
            continue
        node = graph.producer.get(name)
        if node is None or node.op_type not in _ELEMENTWISE:
            return None
        nodes[name] = node
        biases = [linears[source].bias for source in node.input if source in linears]
        for source in (str(source) for source in node.input if source and source not in nodes):
            size = graph.constant_size(source)
            if size is None:
                waiting.append(source)
            elif size != 1 and source not in biases:
                return None
    return (next(iter(made.values())), nodes) if len(made) == 1 else None
