"""Which linear layers lose most when their input and weights are rounded to int8, one layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgebert.distill.encoder import SentenceEncoder, encode_ids
from edgebert.progress import Progress
from edgebert.quantize.calibration import Calibration
from edgebert.vectors import row_cosines

_ROWS, _TOKENS = 32, 48


def sensitivity(
    encoder: SentenceEncoder, rows: Calibration, pad_token_id: int, progress: Progress | None = None
) -> dict[str, float]:
    """The cost of every linear layer of the backbone by name, the one that costs most first.

    The cost of a layer is the mean of 1 - cosine between the sentence vectors with that layer alone rounded (inputs
    uint8 with one scale, weights int8 with a scale a channel, both from calibration) and those without.
    """
    short = [row for row in rows.rows if len(row) <= _TOKENS]
    chosen = short[:: max(1, len(short) // _ROWS)][:_ROWS]
    progress = progress or Progress()
    linears = {name: m for name, m in encoder.backbone.named_modules() if isinstance(m, nn.Linear)}
    ranges = {name: _Range() for name in linears}
    hooks = [module.register_forward_pre_hook(ranges[name].see) for name, module in linears.items()]
    exact = encode_ids(encoder, chosen, pad_token_id, batch_size=16)
    for hook in hooks:
        hook.remove()

    def cost(name: str) -> float:
        rounded = _with_rounded(
            linears[name], ranges[name], lambda: encode_ids(encoder, chosen, pad_token_id, batch_size=16)
        )
        progress.advance()
        return float(np.mean(1.0 - row_cosines(rounded, exact)))

    progress.start("sensitivity of layers", len(linears))
    costs = {name: cost(name) for name in linears}
    return dict(sorted(costs.items(), key=lambda item: -item[1]))


def node_names(model: onnx.ModelProto, linears: Iterable[str]) -> tuple[str, ...]:
    """The MatMul nodes of the graph `model` that compute those linear layers, by the exporter's naming."""
    by_path = {node.name.replace("/", "."): node.name for node in model.graph.node if node.op_type == "MatMul"}
    return tuple(by_path[key] for name in linears if (key := f".encoder.backbone.{name}.MatMul") in by_path)


class _Range:
    """The least and largest input of a layer."""

    def __init__(self) -> None:
        self.least, self.most = 0.0, 0.0

    def see(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.least = min(self.least, float(inputs[0].min()))
        self.most = max(self.most, float(inputs[0].max()))

    def rounded(self, x: Tensor) -> Tensor:
        scale = max(self.most - self.least, 1e-12) / 255
        return ((x - self.least) / scale).round().clamp(0, 255) * scale + self.least


def _with_rounded(layer: nn.Linear, seen: _Range, run: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """What `run` gives while `layer` is rounded."""
    weight = layer.weight.data
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    hook = layer.register_forward_pre_hook(lambda module, inputs: (seen.rounded(inputs[0]), *inputs[1:]))
    try:
        with torch.no_grad():
            layer.weight.data = (weight / scale).round() * scale
        return run()
    finally:
        layer.weight.data = weight
        hook.remove()
