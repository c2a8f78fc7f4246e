"""What happens inside an encoder while it computes: states of its layers, and queries, keys and values.

Read by hooks on the modules, so that any attention kernel does and every architecture that is known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from edgebert.bundle import Bundle
from edgebert.distill.encoder import SentenceEncoder, load_encoder
from edgebert.distill.layer_map import LayerPlan

# bert, roberta, xlm-roberta and electra; mpnet; distilbert
_PROJECTIONS = (("query", "q", "q_lin"), ("key", "k", "k_lin"), ("value", "v", "v_lin"))


@dataclass
class Trace:
    """Layer number -> tensors of Shape (batch, seq_len, width), float32.

    hidden: states, 0 those of the embedding layer. projections: queries, keys and values, before they are split into
    heads; from layer 1.
    """

    hidden: dict[int, Tensor] = field(default_factory=dict)
    projections: dict[int, list[Tensor]] = field(default_factory=dict)


@contextlib.contextmanager
def traced(encoder: SentenceEncoder, *, hidden: Collection[int], projections: Collection[int]) -> Iterator[Trace]:
    """A trace that is filled by the encoder's next forward pass: those layers' states and projections."""
    trace, layers = Trace(), layers_of(encoder)
    with contextlib.ExitStack() as hooks:

        def keep(handle: Any) -> None:
            hooks.callback(handle.remove)

        if 0 in hidden:
            keep(layers[0].register_forward_pre_hook(_input_into(trace), with_kwargs=True))
        for number in sorted(set(hidden) - {0}):
            keep(layers[number - 1].register_forward_hook(_state_into(trace, number)))
        for number in sorted(set(projections)):
            trace.projections[number] = [torch.empty(0)] * len(_PROJECTIONS)
            for place, linear in enumerate(projections_of(layers[number - 1])):
                keep(linear.register_forward_hook(_projection_into(trace, number, place)))
        yield trace


def layers_of(encoder: SentenceEncoder) -> nn.ModuleList:
    """The encoder's stack of layers."""
    stacks = (module for module in encoder.backbone.modules() if isinstance(module, nn.ModuleList))
    return next(module for module in stacks if not isinstance(module, ParametrizationList))


def projections_of(layer: nn.Module) -> list[nn.Linear]:
    """The linear layers that make a layer's queries, keys and values, in this order."""
    named = {name.rsplit(".", 1)[-1]: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
    return [next(named[name] for name in names if name in named) for names in _PROJECTIONS]


class TracedTeacher:
    """The teacher beside the student in training, for what is too much to be kept: Shape, see `Trace`.

    No module, so that it is in no checkpoint and no optimizer.
    """

    def __init__(self, teacher: Bundle, plan: LayerPlan) -> None:
        self.encoder = load_encoder(teacher, fused_attention=True).requires_grad_(False)
        self.hidden, self.projections = wanted(plan, 1)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Trace:
        """Shape: both (batch, seq_len)."""
        self.encoder.to(input_ids.device)
        with torch.no_grad(), traced(self.encoder, hidden=self.hidden, projections=self.projections) as trace:
            self.encoder(input_ids, attention_mask)
        return trace


def wanted(plan: LayerPlan, side: int) -> tuple[set[int], set[int]]:
    """The layers whose states and whose projections `plan` needs; side: 0 the student's, 1 the teacher's."""
    projections: Sequence[tuple[int, int]] = (*plan.attention, *plan.relations)
    return {pair[side] for pair in plan.hidden}, {pair[side] for pair in projections}


def _input_into(trace: Trace) -> Any:
    def hook(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        trace.hidden[0] = (arguments[0] if arguments else named["hidden_states"]).float()

    return hook


def _state_into(trace: Trace, number: int) -> Any:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        trace.hidden[number] = (output[0] if isinstance(output, tuple) else output).float()

    return hook


def _projection_into(trace: Trace, number: int, place: int) -> Any:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        trace.projections[number][place] = output.float()

    return hook
