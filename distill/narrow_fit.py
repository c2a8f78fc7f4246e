"""Correcting a narrow encoder's weights so that each computes on a sample of text what the wide encoder's does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgebert.distill.encoder import SentenceEncoder
from edgebert.distill.layer_parts import Parts, parts_of
from edgebert.distill.objectives import ridge
from edgebert.distill.residual import Stream, norm_of_embeddings

_STRENGTH = 0.1  # of the ridge penalty: of 0.001, 0.01 and 0.1 the best on other text with 5,000 tokens
_LEAST_GAIN = 0.1  # of the mean gain: what is divided by


@torch.no_grad()
def fit(
    made: SentenceEncoder, wide: SentenceEncoder, stream: Stream, directions: Tensor, columns: Sequence[Tensor],
    neurons: Sequence[Tensor],
) -> None:  # fmt: skip
    """Corrects the weights of `made` in place, from its embeddings to its last layer, in one pass over the sample.

    Each weight is corrected when the pass comes to it, on what the weights before it, corrected already, give it: so it
    makes up for their errors, too. stream: of the encoder `wide`; directions: the basis of the narrow stream, Shape:
    (width of `wide`, width of `made`); columns, neurons: for each layer the channels of attention and the neurons kept.
    """
    hooks = []
    norm, state = norm_of_embeddings(made), stream.states[0] @ directions
    if norm is not None:
        hooks.append(norm.register_forward_pre_hook(_norm_to(state, stream.mask)))
    for layer, (ours, theirs) in enumerate(zip(parts_of(made), parts_of(wide), strict=True)):
        hooks += _Layer(stream, directions, layer, ours, theirs, columns[layer], neurons[layer]).hooks()
    made(stream.input_ids, stream.mask.long())
    for hook in hooks:
        hook.remove()


class _Layer:
    """The corrections of one layer, as hooks on its parts."""

    def __init__(
        self, stream: Stream, directions: Tensor, layer: int, ours: Parts, theirs: Parts, columns: Tensor,
        neurons: Tensor,
    ) -> None:  # fmt: skip
        self.stream, self.directions, self.ours, self.theirs = stream, directions, ours, theirs
        self.first, self.columns, self.neurons = 2 * layer, columns, neurons
        self.residual = torch.empty(0)

    def hooks(self) -> list[Any]:
        """To be removed when the pass is over."""
        mask, ours, theirs = self.stream.mask, self.ours, self.theirs
        first, middle, last = (self.stream.states[self.first + i] for i in range(3))
        found = []
        for one, other in zip(ours.projections, theirs.projections, strict=True):
            found.append(one.register_forward_pre_hook(self._reads(other, first, self.columns)))
        found.append(ours.out.register_forward_pre_hook(self._adds(self.first + 1)))
        found.append(ours.attention_norm.register_forward_pre_hook(_norm_to(middle @ self.directions, mask)))
        found.append(ours.up.register_forward_pre_hook(self._reads(theirs.up, middle, self.neurons)))
        found.append(ours.down.register_forward_pre_hook(self._adds(self.first + 2)))
        found.append(ours.norm.register_forward_pre_hook(_norm_to(last @ self.directions, mask)))
        return found

    def _reads(self, other: nn.Linear, state: Tensor, rows: Tensor) -> Callable[..., None]:
        """For a layer that reads the stream: to give what the wide one gives in those rows."""

        def hook(linear: Any, arguments: tuple[Tensor, ...]) -> None:
            self.residual = arguments[0][self.stream.mask]
            _correct(linear, self.residual, functional.linear(state, other.weight[rows], other.bias[rows]))

        return hook

    def _adds(self, place: int) -> Callable[..., None]:
        """For a layer that adds to the stream: to add what makes the norm behind it give the wide stream's state."""

        def hook(linear: Any, arguments: tuple[Tensor, ...]) -> None:
            before, after = self.stream.sums[place], self.stream.states[place] @ self.directions
            assert before is not None
            _correct(
                linear,
                arguments[0][self.stream.mask],
                _aim(before @ self.directions, after, self.ours.norm.eps) - self.residual,
            )

        return hook


def _correct(linear: Any, rows: Tensor, wanted: Tensor) -> None:
    """Adds to weight and bias what makes `linear(rows)` nearest to `wanted`, with a penalty on what is added."""
    features = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    added = ridge(features, wanted - functional.linear(rows, linear.weight, linear.bias), strength=_STRENGTH)
    linear.weight += added[:, :-1]
    linear.bias += added[:, -1]


def _norm_to(wanted: Tensor, mask: Tensor) -> Callable[..., None]:
    """A hook that gives a norm the gains and biases that make its output nearest to `wanted`."""

    def hook(norm: Any, arguments: tuple[Tensor, ...]) -> None:
        gain, bias = _gains(arguments[0][mask], wanted, norm.eps)
        norm.weight.copy_(gain)
        norm.bias.copy_(bias)

    return hook


def _gains(rows: Tensor, wanted: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Gain and bias of a norm over `rows`, least squares dimension by dimension. Shape: (tokens, width) each."""
    even = functional.layer_norm(rows, rows.shape[1:], eps=eps)
    centred = even - even.mean(0)
    gain = (centred * (wanted - wanted.mean(0))).sum(0) / centred.pow(2).sum(0).clamp(min=1e-9)
    return gain, wanted.mean(0) - gain * even.mean(0)


def _aim(rows: Tensor, wanted: Tensor, eps: float) -> Tensor:
    """What a norm must be given to give `wanted`, with the means and deviations of `rows`. Shape: (tokens, width)."""
    gain, bias = _gains(rows, wanted, eps)
    least = _LEAST_GAIN * gain.abs().mean()
    divisor = torch.where(gain.abs() < least, torch.where(gain < 0, -least, least), gain)
    even = functional.layer_norm((wanted - bias) / divisor, rows.shape[1:], eps=eps)
    return even * rows.std(1, unbiased=False, keepdim=True) + rows.mean(1, keepdim=True)
