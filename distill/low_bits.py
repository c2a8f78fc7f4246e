"""Linear layers in 4 bits while they learn: what is trained with is what `edgebert quantize --recipe int4` stores.

Runs of 32 input features of an output channel share a scale, and their weights are -8 to 7 times that. The layers
compute with such weights in every step; the gradient passes to the weights behind them as if nothing were rounded (the
straight-through estimator: Bengio et al. 2013, arXiv:1308.3432). At the end the rounded weights are the student's.

Source of the blocks: the format of ONNX Runtime's MatMulNBits, the same as Q4_0 of llama.cpp.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgebert.errors import RecipeError

BLOCK = 32
_MOST = 65504.0  # of float16


def four_bit_weight(weight: Tensor) -> Tensor:
    """`weight` in blocks of 32 columns, each -8 to 7 times a scale that float16 holds, such that the greatest is 8.

    Shape: (out_features, in_features) -> the same, float32; 32 divides in_features.
    """
    blocks = weight.detach().float().reshape(len(weight), -1, BLOCK)
    greatest = blocks.gather(2, blocks.abs().argmax(dim=2, keepdim=True))
    scale = (greatest / -8).clamp(-_MOST, _MOST).half().float()
    steps = (blocks / torch.where(scale == 0, torch.ones_like(scale), scale)).round().clamp(-8, 7)
    return (steps * scale).reshape(weight.shape)


def check_linears(encoder: nn.Module) -> None:
    """Raises: RecipeError for one of the linear layers that are rounded whose input is no multiple of 32 wide."""
    for name, layer in _rounded_layers(encoder):
        if layer.in_features % BLOCK:
            raise RecipeError(
                f"student.linear_bits is 4; the {layer.in_features} inputs of {name} are no whole blocks of {BLOCK}"
            )


def round_linears(encoder: nn.Module) -> None:
    """Has the linear layers of `encoder` compute with 4-bit weights, until `keep_rounded`.

    A dense layer with a bias behind the pooling stays in float, as it does in graphs. Raises: see `check_linears`.
    """
    check_linears(encoder)
    for _, layer in _rounded_layers(encoder):
        parametrize.register_parametrization(layer, "weight", _Rounded())


def keep_rounded(encoder: nn.Module) -> None:
    """Makes the rounded weights those of the layers, which are plain ones again."""
    for layer in encoder.modules():
        if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _rounded_layers(encoder: nn.Module) -> list[tuple[str, nn.Linear]]:
    layers = [(name, layer) for name, layer in encoder.named_modules() if isinstance(layer, nn.Linear)]
    return [(name, layer) for name, layer in layers if not name.startswith("dense.") or layer.bias is None]


class _Rounded(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        rounded: Tensor = _StraightThrough.apply(weight)  # type: ignore[no-untyped-call]
        return rounded


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return four_bit_weight(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]
