"""Task heads in torch: transformers' own, over hidden states that are given.

A head is one of transformers' `AutoModelFor...` models whose encoder is replaced by a stand-in that hands over the
hidden states that the shared encoder computed. So every architecture's head is the one that transformers trains, saves
and opens, and several heads share one pass of one encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgebert import manifest
from edgebert.bundle import Bundle
from edgebert.distill.quiet import quiet_transformers
from edgebert.errors import BundleError

AUTO_CLASSES: dict[manifest.Level, str] = {
    "text": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}


class _Given(nn.Module):
    """Stands in for an encoder: gives the hidden states that it is handed as `inputs_embeds`, and what the pooler makes
    of them."""

    def __init__(self, pooler: nn.Module | None) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        pooled = None if self.pooler is None else self.pooler(inputs_embeds)
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)


class Head(nn.Module):
    """Hidden states to logits.

    model: a transformers model with a head; its encoder is taken out of it.
    level: "text" gives (batch, labels), "token" (batch, seq_len, labels), "span" (batch, seq_len, 2): start and end.
    """

    def __init__(self, model: Any, level: manifest.Level) -> None:
        super().__init__()
        self.prefix: str = model.base_model_prefix
        encoder = getattr(model, self.prefix)
        setattr(model, self.prefix, _Given(getattr(encoder, "pooler", None)))
        self.model, self.level = model, level

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Shape: hidden (batch, seq_len, width), attention_mask (batch, seq_len) -> see the class."""
        answer = self.model(inputs_embeds=hidden, attention_mask=attention_mask)
        if self.level == "span":
            return torch.stack([answer.start_logits, answer.end_logits], dim=-1)
        logits: Tensor = answer.logits
        return logits


def fresh_head(config: Any, level: manifest.Level) -> Head:
    """A head with random weights over an encoder with that configuration, whose `num_labels` says how many logits."""
    import transformers

    return Head(getattr(transformers, AUTO_CLASSES[level]).from_config(config), level)


def head_over(base: Bundle, head: manifest.Head) -> Head:
    """A new head over that model, with its pooler's weights where the model has a trained pooler; the model's own head
    where that has the same labels.

    Raises: what transformers raises for weights that do not fit.
    """
    import transformers

    labels = head.labels or (("LABEL_0",) if head.level == "text" else ("LABEL_0", "LABEL_1"))
    problem = None
    if head.level == "text":
        problem = "multi_label_classification" if head.multi_label else "single_label_classification"
        problem = problem if head.labels else "regression"
    auto = getattr(transformers, AUTO_CLASSES[head.level])
    with quiet_transformers():
        whole = auto.from_pretrained(
            base.root, dtype=torch.float32, local_files_only=True, trust_remote_code=False, num_labels=len(labels),
            id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    whole.config.problem_type = problem
    made = Head(whole, head.level)
    if (head.level, head.labels) in [(own.level, own.labels) for own in base.manifest.heads]:
        return made  # the base does this task already, and goes on with it
    fresh = fresh_head(whole.config, head.level)
    kept = f"model.{made.prefix}.pooler."
    fresh.load_state_dict({name: weight for name, weight in made.state_dict().items() if name.startswith(kept)},
                          strict=False)  # fmt: skip
    return fresh


def load_head(root: Path, head: manifest.Head) -> Head:
    """The head that the manifest names, of the model in the folder `root`.

    Raises: BundleError for weights of the head that are missing; what transformers raises for those that do not fit.
    """
    import transformers
    from safetensors.torch import load_file

    if head.folder:
        made = fresh_head(transformers.AutoConfig.from_pretrained(root / head.folder), head.level)
        made.load_state_dict(load_file(root / head.folder / "model.safetensors"))
        return made
    auto = getattr(transformers, AUTO_CLASSES[head.level])
    with quiet_transformers():
        whole, found = auto.from_pretrained(
            root, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    if missing := sorted(name for name in found["missing_keys"] if not name.startswith(f"{whole.base_model_prefix}.")):
        raise BundleError(
            f"{root} has no weights of its head ({', '.join(missing)}), though config.json says "
            f"{type(whole).__name__}: fine-tune it first, `edgebert finetune`"
        )
    return Head(whole, head.level)


def save_with_head(backbone: Any, head: Head, folder: Path) -> None:
    """Writes encoder and head as the one transformers model that they are, with its configuration."""
    given = getattr(head.model, head.prefix)
    pooler = getattr(backbone, "pooler", None)
    if given.pooler is not None:
        backbone.pooler = given.pooler
    setattr(head.model, head.prefix, backbone)
    try:
        head.model.save_pretrained(folder)
    finally:
        if given.pooler is not None:
            backbone.pooler = pooler
        setattr(head.model, head.prefix, given)


def save_head(head: Head, folder: Path) -> None:
    """Writes the head alone: its configuration and its own weights."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    head.model.config.save_pretrained(folder)
    save_file({name: weight.contiguous() for name, weight in head.state_dict().items()}, folder / "model.safetensors")
