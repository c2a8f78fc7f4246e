"""Static int8: one ONNX file with QuantizeLinear and DequantizeLinear nodes that both engines run fast.

    before   x -> MatMul(W) -> Add                  after   Q(x) -> DQ -> MatMul(DQ(W int8)) -> Add
             Gather(table) -> Add                           Gather(table int8) * scale -> Add

Weights: int8, symmetric, one scale a channel, embedding tables included. Activations: uint8, one scale a tensor, fixed
by calibration, so that a text's vector does not depend on what shares its batch. The two matrix products of attention
stay in float: quantizing them loses most of what int8 loses. SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) and fast
bias correction (Nagel et al. 2019, arXiv:1906.04721) are NNCF's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgebert.engines.base import feed
from edgebert.errors import EngineError
from edgebert.quantize.calibration import Calibration
from edgebert.quantize.qdq import for_onnxruntime


@dataclass(frozen=True)
class StaticInt8:
    """The pass.

    samples: calibration texts; made-up inputs of all lengths are added. smooth_quant: strength of SmoothQuant, from 0
    to 1. exclude: names of ONNX nodes to leave in float.
    """

    samples: int = 200
    smooth_quant: float = 0.5
    exclude: tuple[str, ...] = ()

    def __call__(self, model: Path, out: Path, calibration: Calibration, inputs: Sequence[str]) -> None:
        """Writes the int8 form of the fp32 ONNX file `model` to `out`.

        inputs: the graph's input names.
        Raises: EngineError when NNCF cannot quantize the graph.
        """
        import nncf

        graph = onnx.load(model)
        data = nncf.Dataset(list(calibration.rows), lambda row: _inputs(row, tuple(inputs)))
        smooth = nncf.AdvancedSmoothQuantParameters(matmul=self.smooth_quant)
        with _quiet(nncf):
            try:
                quantized = nncf.quantize(
                    graph,
                    data,
                    preset=nncf.QuantizationPreset.MIXED,
                    model_type=nncf.ModelType.TRANSFORMER,
                    subset_size=len(calibration.rows),
                    ignored_scope=nncf.IgnoredScope(names=[*_attention_products(graph), *self.exclude]),
                    advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=smooth),
                )
            except (RuntimeError, ValueError) as problem:
                raise EngineError(
                    f"NNCF cannot quantize {model.name}: {' '.join(str(problem).split())[:300]}"
                ) from None
        for_onnxruntime(quantized)
        onnx.checker.check_model(quantized)
        out.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(quantized, out)


def _inputs(row: tuple[int, ...], names: tuple[str, ...]) -> dict[str, Any]:
    ids = np.array([row], dtype=np.int64)
    return feed(names, ids, np.ones_like(ids))


def _attention_products(graph: onnx.ModelProto) -> list[str]:
    """The names of the MatMul nodes both of whose inputs are computed: queries by keys, and weights by values."""
    constant = {tensor.name for tensor in graph.graph.initializer}
    constant |= {out for node in graph.graph.node if node.op_type == "Constant" for out in node.output}
    return [n.name for n in graph.graph.node if n.op_type == "MatMul" and not constant & set(n.input)]


@contextlib.contextmanager
def _quiet(nncf: Any) -> Any:
    """Keeps NNCF's log and bars off the screen; faults are raised."""
    logger = logging.getLogger("nncf")
    level = logger.level
    nncf.set_log_level(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
