"""Task heads in torch: transformers' own, over hidden states that are given.

A head is one of transformers' `AutoModelFor...` models whose encoder is replaced by a stand-in that hands over the
hidden states that the shared encoder computed. So every architecture's head is the one that transformers trains, saves
and opens, and several heads share one pass of one encoder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgebert.errors import BundleError

AUTO_CLASSES = {
    "text": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}


class _Given(nn.Module):
    """Stands in for an encoder: gives the hidden states that it was handed, and the pooler's answer where there is one."""

    def __init__(self, pooler: nn.Module | None) -> None:
        super().__init__()
        self.pooler = pooler
        self.hidden: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        assert self.hidden is not None
        pooled = None if self.pooler is None else self.pooler(self.hidden)
        return BaseModelOutputWithPooling(last_hidden_state=self.hidden, pooler_output=pooled)


class Head(nn.Module):
    """Hidden states to logits.

    model: a transformers model with a head; its encoder is taken out of it and left in `encoder_of` for the caller.
    level: "text" gives (batch, labels), "token" (batch, seq_len, labels), "span" (batch, seq_len, 2): start and end.
    """

    def __init__(self, model: Any, level: str) -> None:
        super().__init__()
        self.prefix: str = model.base_model_prefix
        encoder = getattr(model, self.prefix)
        setattr(model, self.prefix, _Given(getattr(encoder, "pooler", None)))
        self.model, self.level = model, level

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Shape: hidden (batch, seq_len, width), attention_mask (batch, seq_len) -> see the class."""
        given = getattr(self.model, self.prefix)
        given.hidden = hidden
        try:
            answer = self.model(input_ids=torch.zeros_like(attention_mask), attention_mask=attention_mask)
        finally:
            given.hidden = None
        if self.level == "span":
            return torch.stack([answer.start_logits, answer.end_logits], dim=-1)
        logits: Tensor = answer.logits
        return logits
