"""An encoder with heads in training: by the labels of examples, or by what a teacher's head says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgebert.distill.encoder import SentenceEncoder
from edgebert.distill.fake_quant import FakeQuant
from edgebert.distill.objectives import hidden_loss
from edgebert.manifest import Head
from edgebert.tasks.task import Task


class TaskModel(nn.Module):
    """Tokens and targets of one task in, its loss out. weights: of each head's labels, None for all the same."""

    fake_quant: FakeQuant | None = None
    leaves_unused = True  # every batch is of one head, and pooled vectors are no part of most

    def __init__(self, encoder: SentenceEncoder, tasks: Sequence[Task], heads: Sequence[Head]) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks, self.heads = tuple(tasks), tuple(heads)
        self.weights: list[Tensor | None] = [None] * len(self.heads)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, targets: Tensor, head: int,
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Shape: input_ids, attention_mask and token_type_ids (batch, seq_len); targets see `Task.loss`."""
        logits = self.encoder(input_ids, attention_mask, token_type_ids).logits[head].float()
        return {"loss": self._of_labels(logits, targets, attention_mask, head)}

    def _of_labels(self, logits: Tensor, targets: Tensor, mask: Tensor, head: int) -> Tensor:
        weights = self.weights[head]
        weights = None if weights is None else weights.to(logits.device)
        return self.tasks[head].loss(logits, targets, mask, self.heads[head], weights)


@dataclass(frozen=True)
class Master:
    """What one head learns from: a teacher's encoder, in eval mode, and the place of the head there.

    over_tokens: whether the head answers for tokens. hidden: whether its last hidden states are learnt, too; they can
    be where student and teacher read the same tokens in states of the same width.
    """

    encoder: SentenceEncoder
    place: int
    over_tokens: bool
    hidden: bool


@dataclass(frozen=True)
class Shares:
    """Weights of what is learnt: the teacher's logits, softened by `temperature`, its last hidden states, labels."""

    logits: float
    hidden: float
    labels: float
    temperature: float


class ImitationModel(TaskModel):
    """See `TaskModel`; the loss is the distance from what each head's master said, and from labels where they count."""

    def __init__(self, encoder: SentenceEncoder, tasks: Sequence[Task], heads: Sequence[Head], shares: Shares) -> None:
        super().__init__(encoder, tasks, heads)
        self.shares = shares

    def forward(  # type: ignore[override]  # the loop calls it by name with what `ImitationCollator` gives
        self, input_ids: Tensor, attention_mask: Tensor, targets: Tensor, head: int,
        token_type_ids: Tensor | None = None, *, wanted: Tensor, states: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The total under "loss", each unweighted part under its name.

        Shape: see `TaskModel`; wanted, the master's logits, (batch, labels) or (batch, seq_len, labels); states, its
        last hidden ones, (batch, seq_len, width), None where they are not learnt.
        """
        task, facts = self.tasks[head], self.heads[head]
        ours = self.encoder(input_ids, attention_mask, token_type_ids)
        with torch.autocast(input_ids.device.type, enabled=False):
            logits = ours.logits[head].float()
            total = {"logits": task.imitation(logits, wanted, attention_mask, facts, self.shares.temperature)}
            if states is not None:
                total["hidden"] = hidden_loss(ours.last_hidden_state.float(), states, attention_mask)
            if self.shares.labels:
                total["labels"] = self._of_labels(logits, targets, attention_mask, head)
        loss = torch.stack([getattr(self.shares, name) * part for name, part in total.items()]).sum()
        return {"loss": loss, **total}
