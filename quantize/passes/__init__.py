"""The passes: each rewrites an ONNX graph in place. A recipe is a sequence of them (`edgebert.quantize.recipe`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edgebert.quantize.context import Context
from edgebert.quantize.graph import Graph
from edgebert.quantize.passes.bias_correction import BiasCorrection
from edgebert.quantize.passes.dynamic_int8 import DynamicInt8
from edgebert.quantize.passes.float16 import Float16
from edgebert.quantize.passes.outliers import Outliers
from edgebert.quantize.passes.smooth_quant import SmoothQuant
from edgebert.quantize.passes.split_outliers import SplitOutliers
from edgebert.quantize.passes.static_int8 import StaticInt8
from edgebert.quantize.passes.weight_only import WeightOnly


class Pass(Protocol):
    """A frozen dataclass of options that is called with a graph."""

    def __call__(self, graph: Graph, context: Context) -> None:
        """Rewrites `graph`."""


# In the order in which they make sense: what prepares activations, what rounds, what mends, what packs the rest.
PASSES: Mapping[str, type[Pass]] = {
    "smooth-quant": SmoothQuant,
    "split-outliers": SplitOutliers,
    "outliers": Outliers,
    "static-int8": StaticInt8,
    "dynamic-int8": DynamicInt8,
    "bias-correction": BiasCorrection,
    "weight-only": WeightOnly,
    "float16": Float16,
}

__all__ = ["PASSES", "Pass"]
