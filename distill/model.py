"""The student in training: its encoder, the maps into the teacher's space, and the weighted sum of the objectives."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgebert.batching import pad
from edgebert.distill.encoder import Dense, SentenceEncoder, encode_ids
from edgebert.distill.fake_quant import FakeQuant
from edgebert.distill.objectives import hidden_loss, ridge, similarity_loss, vector_loss
from edgebert.distill.prepare import Prepared
from edgebert.distill.recipe import Recipe
from edgebert.distill.students import StudentPlan
from edgebert.distill.teacher import TeacherCache

_RIDGE_ROWS = 4096


class DistillationModel(nn.Module):
    """Token ids and the teacher's answers in, losses out.

    weights: objective -> weight, of "vector", "similarity", "hidden". to_teacher: the map of sentence vectors that is
    not part of the student (None where the spaces are the same or the student keeps the map itself). hidden_to_teacher:
    the map of token states where the widths differ. fake_quant: what imitates int8, None in plain training.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        weights: dict[str, float],
        *,
        to_teacher: nn.Linear | None = None,
        hidden_to_teacher: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.weights = weights
        self.to_teacher = to_teacher or nn.Identity()
        self.hidden_to_teacher = hidden_to_teacher or nn.Identity()
        self.fake_quant: FakeQuant | None = None

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, teacher_vector: Tensor, teacher_states: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The total under "loss" and each unweighted objective under its name, scalars.

        Shape: input_ids and attention_mask (batch, seq_len), teacher_vector (batch, dimension), teacher_states (batch,
        seq_len, width).
        """
        with self.fake_quant.training_step(self.encoder) if self.fake_quant else contextlib.nullcontext():
            hidden, vector = self.encoder(input_ids, attention_mask)
        losses: dict[str, Tensor] = {}
        # Losses are small differences: they are taken in float32 whatever the forward pass was computed in.
        with torch.autocast(vector.device.type, enabled=False):
            vector = vector.float()
            if self.weights.get("vector"):
                losses["vector"] = vector_loss(self.to_teacher(vector), teacher_vector)
            if self.weights.get("similarity"):
                losses["similarity"] = similarity_loss(vector, teacher_vector)
            if teacher_states is not None and self.weights.get("hidden"):
                losses["hidden"] = hidden_loss(self.hidden_to_teacher(hidden.float()), teacher_states, attention_mask)
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        return {"loss": total, **losses}


def build_model(
    plan: StudentPlan, recipe: Recipe, weights: dict[str, float], prepared: Prepared, cache: TeacherCache
) -> DistillationModel:
    """The student with its maps into the teacher's space, started by ridge regression on a sample of the text."""
    encoder, freeze = plan.encoder.eval(), recipe.training.freeze_embeddings
    if plan.copied_embeddings if freeze is None else freeze:
        encoder.backbone.get_input_embeddings().weight.requires_grad_(False)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the target is the teacher's answer to the whole text: noise only blurs it
    few = min(_RIDGE_ROWS, len(prepared.rows))
    sample = np.sort(np.random.default_rng(0).choice(prepared.rows, few, replace=False))
    to_teacher = hidden_to_teacher = None
    if weights["hidden"] and encoder.backbone.config.hidden_size != cache.width:
        hidden_to_teacher = _ridge_linear(*_token_states(encoder, prepared, cache, sample[: _RIDGE_ROWS // 16]))
    if plan.manifest.dimension != cache.teacher.manifest.dimension:
        keep = recipe.student.projection == "keep"
        normalize, encoder.normalize = encoder.normalize, encoder.normalize and not keep
        ours = encode_ids(encoder, [prepared.student_ids[r] for r in sample], plan.manifest.pad_token_id)
        encoder.normalize = normalize
        to_teacher = _ridge_linear(torch.from_numpy(ours), torch.from_numpy(cache.vectors(sample)))
        if keep:
            encoder.dense.append(Dense(to_teacher, nn.Identity()))
            to_teacher = None
    return DistillationModel(encoder, weights, to_teacher=to_teacher, hidden_to_teacher=hidden_to_teacher)


def _token_states(
    encoder: SentenceEncoder, prepared: Prepared, cache: TeacherCache, rows: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Last hidden states of both models on the tokens of `rows`. Shape: (tokens, width) each."""
    ours, theirs = [], []
    for row in rows.tolist():
        input_ids, mask = pad([prepared.student_ids[row]], 0)
        with torch.inference_mode():
            ours.append(encoder(torch.from_numpy(input_ids), torch.from_numpy(mask)).last_hidden_state[0])
        theirs.append(torch.from_numpy(cache.states(row).astype(np.float32)))
    return torch.cat(ours).clone(), torch.cat(theirs)


def _ridge_linear(features: Tensor, wanted: Tensor) -> nn.Linear:
    """A linear layer without bias, started by ridge regression. Shape: features (rows, in), wanted (rows, out)."""
    layer = nn.Linear(features.shape[1], wanted.shape[1], bias=False)
    with torch.no_grad():
        layer.weight.copy_(ridge(features, wanted))
    return layer
