"""The residual stream of an encoder over a sample of text: its states, a basis of them, and what adds to them most."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgebert.distill.encoder import SentenceEncoder
from edgebert.distill.layer_parts import parts_of
from edgebert.distill.traces import layers_of


@dataclass
class Stream:
    """What an encoder's residual stream holds. mask: where `input_ids` are tokens, bool. Shape: (batch, seq_len) each.

    states: those that layers read, the first one that of the embeddings, two more for each layer. sums: what each norm
    was given for them; None in front where no norm of that width is. Shape: (tokens, width) each. heads, neurons: for
    each layer the energy that an attention head or a feed-forward neuron adds. Shape: (heads,), (neurons,).
    """

    input_ids: Tensor
    mask: Tensor
    states: list[Tensor] = field(default_factory=list)
    sums: list[Tensor | None] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)
    neurons: list[Tensor] = field(default_factory=list)


@torch.no_grad()
def read_stream(encoder: SentenceEncoder, input_ids: Tensor, mask: Tensor, *, heads: int) -> Stream:
    """The stream of `encoder`, which has that many heads, over those texts. Shape: (batch, seq_len) each."""
    stream = Stream(input_ids, mask.bool())
    embedding_norm, layers = norm_of_embeddings(encoder), layers_of(encoder)

    def keep_first(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        stream.states.append((arguments[0] if arguments else named["hidden_states"])[stream.mask])
        if embedding_norm is None:
            stream.sums.append(None)

    def keep(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        stream.sums.append(arguments[0][stream.mask])
        stream.states.append(output[stream.mask])

    def keep_sum(_: nn.Module, arguments: tuple[Tensor, ...], __: Tensor) -> None:
        stream.sums.append(arguments[0][stream.mask])

    def weigh_heads(linear: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        stream.heads.append(_energies(linear, arguments[0][stream.mask], heads))

    def weigh_neurons(linear: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        weight: Any = linear.weight
        stream.neurons.append(arguments[0][stream.mask].pow(2).mean(0) * weight.pow(2).sum(0))

    with _hooks() as hooks:
        hooks.append(layers[0].register_forward_pre_hook(keep_first, with_kwargs=True))
        if embedding_norm is not None:
            hooks.append(embedding_norm.register_forward_hook(keep_sum))
        for part in parts_of(encoder):
            hooks += [norm.register_forward_hook(keep) for norm in (part.attention_norm, part.norm)]
            hooks += [part.out.register_forward_pre_hook(weigh_heads)]
            hooks += [part.down.register_forward_pre_hook(weigh_neurons)]
        encoder(input_ids, mask)
    return stream


def norm_of_embeddings(encoder: SentenceEncoder) -> nn.LayerNorm | None:
    """The norm that ends the embeddings; None where a projection into the stream follows it, as in small ELECTRAs."""
    if hasattr(encoder.backbone, "embeddings_project"):
        return None
    found: nn.LayerNorm = encoder.backbone.embeddings.LayerNorm
    return found


def basis(stream: Stream, width: int) -> Tensor:
    """Orthonormal directions that hold most of the stream's energy, every state counting alike. Shape: (its, width).

    A norm subtracts the mean over the dimensions. So the direction of equal values is one of them, and is turned into
    the direction of equal values of the narrow stream: where all gains are equal and the states lie within the basis,
    the narrow norm computes what the wide one does.
    Source: Ashkboos et al. 2024, SliceGPT, arXiv:2401.15024, who fold the subtraction into the weights instead.
    """
    whole = stream.states[0].shape[1]
    if width == whole:
        return torch.eye(whole)
    moment = torch.zeros(whole, whole, dtype=torch.float64)
    for state in stream.states:
        centred = (state - state.mean(1, keepdim=True)).double()
        moment += centred.T @ centred / centred.pow(2).sum().clamp(min=1e-30)
    even = torch.full((whole, 1), whole**-0.5, dtype=torch.float64)
    moment = (moment + moment.T) / 2 + 2 * len(stream.states) * even @ even.T  # above all others
    directions = torch.linalg.eigh(moment)[1].flip(1)[:, :width]
    # An eigenvector's sign is chance.
    largest = directions[directions.abs().argmax(0), torch.arange(width)]
    directions = directions * torch.where(largest < 0, -1.0, 1.0)
    found: Tensor = directions @ _turned(width)
    return found.float()


def _turned(width: int) -> Tensor:
    """The reflection that takes the first axis into the direction of equal values. Shape: (width, width)."""
    normal = -torch.full((width,), width**-0.5, dtype=torch.float64)
    normal[0] += 1
    unit = normal / normal.norm().clamp(min=1e-30)
    found: Tensor = torch.eye(width, dtype=torch.float64) - 2 * unit[:, None] * unit[None, :]
    return found


def _energies(linear: Any, rows: Tensor, heads: int) -> Tensor:
    """The mean squared length of what each head's part of `rows` adds. Shape: rows (tokens, width) -> (heads,)."""
    size = rows.shape[1] // heads
    parts = [slice(h * size, (h + 1) * size) for h in range(heads)]
    return torch.stack([(rows[:, part] @ linear.weight[:, part].T).pow(2).sum(1).mean() for part in parts])


@contextlib.contextmanager
def _hooks() -> Iterator[list[Any]]:
    """A list whose hooks are removed at the end."""
    found: list[Any] = []
    try:
        yield found
    finally:
        for hook in found:
            hook.remove()
