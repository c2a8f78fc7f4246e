"""An ONNX graph as the passes see it: linear layers, embedding tables, layer norms, and who reads what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from edgebert.errors import RecipeError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Linear:
    """A product with a constant matrix. `bias`: the constant that the next node adds, None without one.

    Shape: weight (in_features, out_features), as MatMul takes it.
    """

    node: NodeProto
    weight: str
    bias: str | None

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node.name)

    @property
    def input(self) -> str:
        """The tensor it multiplies. Shape: (batch, seq_len, in_features), or (batch, in_features) after pooling."""
        return str(self.node.input[0])


@dataclass(frozen=True)
class Table:
    """An embedding: rows of a constant matrix, chosen by ids. Shape: weight (rows, width)."""

    node: NodeProto
    weight: str


class Graph:
    """A model with its constants and the producers and consumers of every tensor by name; passes change it in place.

    history: the passes that have run. in_float: the names of products that are to stay in float. drift: how far
    rounding its weights moves the mean output of a layer, by the layer's name. Shape: (out_features,). split: which
    channels of a tensor are to be spread over several (`edgebert.quantize.passes.split_outliers`).
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.history: tuple[object, ...] = ()
        self.in_float: set[str] = set()
        self.drift: dict[str, Array] = {}
        self.split: dict[str, NDArray[np.int64]] = {}
        self.adopt(model)

    def adopt(self, model: onnx.ModelProto) -> None:
        """Goes on with another model in place of the one there was."""
        self.model, self.graph = model, model.graph
        self.refresh()

    def refresh(self) -> None:
        """Reads constants, producers and consumers anew, after nodes were changed."""
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producer = {name: node for node in self.graph.node for name in node.output}
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                self._consumers.setdefault(name, []).append(node)

    def consumers(self, name: str) -> list[NodeProto]:
        """The nodes that read the tensor `name`."""
        return self._consumers.get(name, [])

    def value(self, name: str) -> Array:
        """The constant `name` in float32."""
        return np.asarray(numpy_helper.to_array(self.constants[name]), dtype=np.float32)

    def constant_size(self, name: str) -> int | None:
        """How many values the constant `name` has; None where it is computed."""
        if name in self.constants:
            return int(np.prod(self.constants[name].dims))
        node = self.producer.get(name)
        if node is None or node.op_type != "Constant":
            return None
        value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        return None if value is None else int(np.prod(value.dims))

    def set(self, name: str, value: NDArray[np.generic]) -> str:
        """Gives the constant `name` a value, making it where it is not there yet; returns `name`."""
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)  # a scalar stays one
        if name in self.constants:
            self.constants[name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
            self.constants[name] = self.graph.initializer[-1]
        return name

    def linears(self) -> list[Linear]:
        """Every MatMul with a constant float matrix that may be quantized, in the order of the graph."""
        return [
            Linear(node, str(node.input[1]), self.bias_of(node))
            for node in self.graph.node
            if node.op_type == "MatMul" and self._is_matrix(node.input[1]) and node.name not in self.in_float
        ]

    def to_round(self, who: str, exclude: Sequence[str] = ()) -> list[Linear]:
        """The linear layers that the pass `who` is to round: all that are in float, without the nodes `exclude`.

        Raises: RecipeError when there is none, or `exclude` names something else.
        """
        linears = self.linears()
        if not linears:
            raise RecipeError(f"{who} finds no linear layer in float: it must come before passes that round them")
        names = [linear.name for linear in linears]
        for name in exclude:
            if name not in names:
                raise RecipeError(
                    f"{who}: exclude names {name!r}, which is no linear layer; there are {', '.join(names)}"
                )
        chosen = [linear for linear in linears if linear.name not in exclude]
        if not chosen:
            raise RecipeError(f"{who}: all {len(linears)} linear layers are to stay in float; at least one must not")
        return chosen

    def read_channels(self, tensor: str) -> NDArray[np.bool_] | None:
        """The channels of `tensor` that must lie in its range, None for all of them.

        Those that its linear layers multiply with zeros alone need not, nor those that are split.
        """
        weights = [self.value(linear.weight) for linear in self.linears() if linear.input == tensor]
        if not weights:
            return None
        read = np.any([np.abs(weight).max(axis=1) > 0 for weight in weights], axis=0)
        read[self.split.get(tensor, np.empty(0, np.int64))] = False
        return None if read.all() else read

    def tables(self) -> Iterator[Table]:
        """Every Gather of rows of a constant float matrix."""
        for node in self.graph.node:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            if node.op_type == "Gather" and axis == 0 and self._is_matrix(node.input[0]):
                yield Table(node, str(node.input[0]))

    def add_bias(self, linear: Linear, value: Array) -> None:
        """Adds the constant `value` to what `linear` gives: to its bias, or in a node of its own. Shape: (out,)."""
        if linear.bias is not None:
            add = self.consumers(linear.node.output[0])[0]
            place = list(add.input).index(linear.bias)
            add.input[place] = self.set(f"{linear.name}_shifted_bias", self.value(linear.bias) + value)
            self.refresh()
            return
        out, name = linear.node.output[0], f"{linear.name}_shifted"
        linear.node.output[0] = f"{name}_product"
        inputs = [linear.node.output[0], self.set(f"{name}_bias", value)]
        self.insert_after(linear.node, [helper.make_node("Add", inputs, [out], name=name)])

    def insert_after(self, node: NodeProto, new: list[NodeProto]) -> None:
        """Puts the nodes `new` behind `node`."""
        place = 1 + next(i for i, other in enumerate(self.graph.node) if other is node)
        for offset, one in enumerate(new):
            self.graph.node.insert(place + offset, one)
        self.refresh()

    def insert_before(self, node: NodeProto, new: list[NodeProto]) -> None:
        """Puts the nodes `new` before `node`."""
        place = next(i for i, other in enumerate(self.graph.node) if other is node)
        for offset, one in enumerate(new):
            self.graph.node.insert(place + offset, one)
        self.refresh()

    def replace(self, node: NodeProto, new: list[NodeProto]) -> None:
        """Puts the nodes `new` in the place of `node`."""
        self.insert_after(node, new)
        self.graph.node.remove(node)
        self.refresh()

    def drop_unused(self) -> None:
        """Takes out constants that no node reads, and the notes about types, which no longer hold."""
        used = {name for node in self.graph.node for name in node.input} | {out.name for out in self.graph.output}
        for name, tensor in list(self.constants.items()):
            if name not in used:
                self.graph.initializer.remove(tensor)
        del self.graph.value_info[:]
        self.refresh()

    def bias_of(self, node: NodeProto) -> str | None:
        """The constant vector that the only reader of the product `node` adds to it."""
        readers = self.consumers(node.output[0])
        if len(readers) != 1 or readers[0].op_type != "Add":
            return None
        return next((str(name) for name in readers[0].input if self._is_vector(name)), None)

    def _is_matrix(self, name: str) -> bool:
        tensor = self.constants.get(name)
        return tensor is not None and len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT

    def _is_vector(self, name: str) -> bool:
        tensor = self.constants.get(name)
        return tensor is not None and len(tensor.dims) == 1 and tensor.data_type == onnx.TensorProto.FLOAT
