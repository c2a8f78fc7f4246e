"""Quantization-aware training: the last steps of training see the numbers that static int8 will make of the student.

    float    x -> Linear(W)            imitated    Q(x; uint8, one scale) -> Linear(Q(W; int8, a scale a channel))
             Embedding(table)                      Q(Embedding(table); int8, a scale a row)

Q rounds to the steps of int8 and goes back to float. Its gradient is that of the identity, and 0 where a value was cut
off (the straight-through estimator: Bengio et al. 2013, arXiv:1308.3432; Jacob et al. 2018, arXiv:1712.05877). Every
linear layer and embedding of the student is imitated, as `edgebert quantize` converts every one; attention's two matrix
products stay in float there and here. SmoothQuant and bias correction, which come after training, are not imitated.

The layers are reached through torch's function mode, so that the student's modules stay what they are: there is nothing
to take out again before it is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from edgebert.distill.encoder import SentenceEncoder
from edgebert.errors import RecipeError

QAT_SHARE = 0.25
_OBSERVED = 0.1  # of the part
_AVERAGED = 100  # steps


@dataclass(frozen=True)
class Schedule:
    """Steps, counted from 0: from `observe_from` on the inputs' ranges are measured, from `quantize_from` on used."""

    observe_from: int
    quantize_from: int


def schedule(share: float, steps: int) -> Schedule | None:
    """The last `share` of `steps` steps, the first tenth of which only measures ranges; None where `share` is 0.

    Raises: RecipeError when that are fewer than two steps: one to measure, one to quantize.
    """
    if share == 0:
        return None
    part = round(share * steps)
    if part < 2:
        raise RecipeError(
            f"training.qat is {share} and training has {steps} steps: that leaves {part} to quantize, and at least 2 "
            "are needed; train longer, or set it to 0 or nearer to 1"
        )
    return Schedule(steps - part, steps - part + max(1, round(_OBSERVED * part)))


def quantize_input(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`values` at the 256 steps of uint8 between `low` and `high`, scalars with low <= 0 <= high; any shape, float32.

    0 is one of the steps, as padding and ReLU's zeros need it.
    """
    scale = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).tiny)
    zero = (-low / scale).round().clamp(0, 255).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values.float(), scale, zero, 0, 255)


def quantize_rows(weight: Tensor) -> Tensor:
    """`weight` at the 255 symmetric steps of int8, one scale a row. Shape: (..., width) of both, float32.

    Rows are output channels of a linear layer or words of a table.
    """
    rows = weight.float().reshape(-1, weight.shape[-1])
    scale = (rows.detach().abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    zero = torch.zeros(len(rows), dtype=torch.int32, device=rows.device)
    return torch.fake_quantize_per_channel_affine(rows, scale, zero, 0, -127, 127).reshape(weight.shape)


class FakeQuant(nn.Module):
    """The ranges of the inputs of an encoder's linear layers, and what imitates int8 with them.

    The ranges are buffers, so checkpoints hold them, and with several processes the first one's count. Buffers: low and
    high (linear layers,), running means of the batches' least and greatest values; seen, how many batches there were.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, encoder: SentenceEncoder, when: Schedule) -> None:
        super().__init__()
        self.when = when
        self.observes = self.quantizes = False
        for name in ("low", "high"):
            self.register_buffer(name, torch.zeros(len(_linears(encoder))))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def at(self, step: int) -> None:
        """Takes up what is due at `step` of training."""
        self.observes, self.quantizes = step >= self.when.observe_from, step >= self.when.quantize_from

    def training_step(self, encoder: SentenceEncoder) -> TorchFunctionMode:
        """A context in which `encoder` computes as is due at this step, and ranges are measured."""
        if self.observes:
            self.seen += 1
        return _Imitation(self, encoder, observes=self.observes, quantizes=self.quantizes)

    def int8(self, encoder: SentenceEncoder) -> TorchFunctionMode:
        """A context in which `encoder` computes as int8 does, with the ranges as they are."""
        return _Imitation(self, encoder, observes=False, quantizes=True)

    def observe(self, place: int, values: Tensor) -> None:
        """Takes the least and greatest of a batch into the ranges of linear layer `place`; zero is always in them.

        The plain mean of the first hundred batches, an exponential one from then on: NNCF takes the mean, too.
        """
        with torch.no_grad():
            low, high = values.float().aminmax()
            weight = 1 / self.seen.clamp(max=_AVERAGED)
            self.low[place] += weight * (low.clamp(max=0) - self.low[place])
            self.high[place] += weight * (high.clamp(min=0) - self.high[place])


class QatSwitch(TrainerCallback):
    """Tells a `FakeQuant` before each step which one it is; a resumed run begins where it was."""

    def __init__(self, fake_quant: FakeQuant) -> None:
        self.fake_quant = fake_quant

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See `FakeQuant.at`."""
        self.fake_quant.at(state.global_step)


class _Imitation(TorchFunctionMode):
    """While open, linear layers and embeddings of `encoder` compute with quantized numbers."""

    def __init__(self, ranges: FakeQuant, encoder: SentenceEncoder, *, observes: bool, quantizes: bool) -> None:
        super().__init__()
        self.ranges, self.observes, self.quantizes = ranges, observes, quantizes
        self.places = {id(layer.weight): place for place, layer in enumerate(_linears(encoder))}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is functional.linear:
            return self._linear(*args, **(kwargs or {}))
        found = func(*args, **(kwargs or {}))
        return quantize_rows(found) if self.quantizes and func is functional.embedding else found

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        place = self.places.get(id(weight))
        if place is not None and self.observes:
            self.ranges.observe(place, input)
        if place is not None and self.quantizes:
            input = quantize_input(input, self.ranges.low[place], self.ranges.high[place])
            weight = quantize_rows(weight)
        return functional.linear(input, weight, bias)


def _linears(encoder: SentenceEncoder) -> list[nn.Linear]:
    return [module for module in encoder.modules() if isinstance(module, nn.Linear)]
