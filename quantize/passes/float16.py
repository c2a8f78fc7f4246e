"""Float weights in half precision on disk: half the size, the arithmetic stays in float32.

    before   node(W)                 after   node(Cast(W float16))

Engines undo the cast once, when they load. Float16 arithmetic itself gains nothing on processors without it, and
bfloat16 arithmetic needs no other file: it is a hint to OpenVINO (`edgebert verify` says whether it is right here).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Graph

_LARGE = 1024  # values; smaller constants (biases, norms, scales) stay exact
_MOST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Float16:
    """The pass; it has no options.

    Raises: RecipeError when a weight is beyond float16's range.
    """

    def __call__(self, graph: Graph, context: Context) -> None:
        """Rewrites `graph`."""
        for name, tensor in list(graph.constants.items()):
            if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < _LARGE or len(tensor.dims) < 2:
                continue
            value = numpy_helper.to_array(tensor)
            if np.abs(value).max() > _MOST:
                raise RecipeError(f"the weight {name} reaches {np.abs(value).max():.4g}; float16 ends at {_MOST:.0f}")
            readers = graph.consumers(name)
            graph.set(f"{name}_half", value.astype(np.float16))
            cast = helper.make_node(
                "Cast", [f"{name}_half"], [f"{name}_float"], name=f"{name}_cast", to=TensorProto.FLOAT
            )
            for reader in readers:
                for place, used in enumerate(reader.input):
                    if used == name:
                        reader.input[place] = f"{name}_float"
            graph.insert_before(graph.graph.node[0], [cast])
