"""The student in training: its encoder, the maps into the teacher's space, and the weighted sum of the objectives."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgebert.batching import pad
from edgebert.distill.codes import is_coded
from edgebert.distill.decide import plan_layers
from edgebert.distill.encoder import Dense, Encoded, SentenceEncoder, encode_ids
from edgebert.distill.fake_quant import FakeQuant
from edgebert.distill.layer_map import LayerPlan
from edgebert.distill.low_bits import round_linears
from edgebert.distill.maps import layer_maps, ridge_linear, rotation_linear
from edgebert.distill.prepare import MAP_ROWS, Prepared
from edgebert.distill.recipe import Recipe
from edgebert.distill.registry import OBJECTIVES, needed
from edgebert.distill.step import Aim, PairVectors, Step
from edgebert.distill.students import StudentPlan
from edgebert.distill.teacher import TeacherCache
from edgebert.distill.traces import Trace, TracedTeacher, traced, wanted

_RIDGE_ROWS = 4096
_BY_MAPS = {"vector", "mse", "aligned"}  # objectives that compare vectors in a teacher's space
_OF_VECTORS = _BY_MAPS | {"similarity", "contrastive"}


class DistillationModel(nn.Module):
    """Token ids and the teacher's answers in, losses out.

    weights: objective -> weight, see `edgebert.distill.registry`. to_teacher: the map of sentence vectors that is not
    part of the student (None where the spaces are the same or the student keeps the map itself). hidden_to_teacher:
    the map of token states where the widths differ. fake_quant: what imitates int8, None in plain training. others:
    the map to each further teacher; shares: the teachers' shares of the losses, the first one's first. plan, beside,
    layer_maps: which layers are compared, the teacher that answers for them in each step, and the maps between states.
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
        self.others = nn.ModuleList()
        self.shares = [1.0]
        self.plan = LayerPlan()
        self.beside: TracedTeacher | None = None
        self.layer_maps = nn.ModuleDict()
        self.matryoshka: tuple[int, ...] = ()
        self.temperature = 1.0

    @property
    def leaves_unused(self) -> bool:
        """Whether there are weights that no objective reaches: those behind the layer that is compared, or a map."""
        on = {name for name, weight in self.weights.items() if weight}
        has_maps = any(not isinstance(one, nn.Identity) for one in (self.to_teacher, *self.others))
        return not on & _OF_VECTORS or (has_maps and not on & _BY_MAPS)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        teacher_vector: Tensor,
        teacher_states: Tensor | None = None,
        *,
        other_vectors: Sequence[Tensor] = (),
        pair_ids: Tensor | None = None,
        pair_mask: Tensor | None = None,
        pair_same: Tensor | None = None,
        aligned: Tensor | None = None,
        teacher_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The total under "loss" and each unweighted objective under its name, scalars.

        Shape: input_ids and attention_mask (batch, seq_len), teacher_vector (batch, dimension), teacher_states (batch,
        seq_len, width), other_vectors a (batch, dimension) for each further teacher; of pairs, see `Pairs.draw`;
        aligned (batch,), bool: which texts are compared token by token, None for all; teacher_ids (batch, seq_len): the
        teacher's ids of those, None where they are the student's.
        """
        hidden_layers, projections = wanted(self.plan, 0)
        with traced(self.encoder, hidden=hidden_layers, projections=projections) as ours:
            hidden, vector, _ = self._encode(input_ids, attention_mask)
        their_ids = input_ids if teacher_ids is None else teacher_ids
        theirs = self.beside(their_ids, attention_mask) if self.beside else Trace()
        tokens = attention_mask if aligned is None else attention_mask * aligned[:, None]
        pairs = None
        if pair_ids is not None and pair_mask is not None and pair_same is not None:
            anchor, positive = self._encode(pair_ids, pair_mask).sentence_embedding.float().chunk(2)
            pairs = PairVectors(anchor, positive, pair_same)
        # Losses are small differences: they are taken in float32 whatever the forward pass was computed in.
        with torch.autocast(vector.device.type, enabled=False):
            maps, vectors = [self.to_teacher, *self.others], [teacher_vector, *other_vectors]
            step = Step(
                vector=vector.float(), hidden=hidden, token_mask=tokens,
                aims=tuple(Aim(v, share, to) for v, share, to in zip(vectors, self.shares, maps, strict=True)),
                states=teacher_states, to_states=self.hidden_to_teacher, plan=self.plan, layer_maps=self.layer_maps,
                ours=ours, theirs=theirs, pairs=pairs, matryoshka=self.matryoshka, temperature=self.temperature,
            )  # fmt: skip
            losses = {name: OBJECTIVES[name].loss(step) for name, weight in self.weights.items() if weight}
        total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        return {"loss": total, **losses}

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        with self.fake_quant.training_step(self.encoder) if self.fake_quant else contextlib.nullcontext():
            encoded: Encoded = self.encoder(input_ids, attention_mask)
        return encoded


def build_model(
    plan: StudentPlan,
    recipe: Recipe,
    weights: dict[str, float],
    prepared: Prepared,
    cache: TeacherCache,
    others: Sequence[TeacherCache] = (),
) -> DistillationModel:
    """The student with its maps into the teacher's space, started on a sample of the text.

    others: the answers of `recipe.teachers`.
    """
    encoder, freeze = plan.encoder.eval(), recipe.training.freeze_embeddings
    if plan.copied_embeddings or is_coded(plan) if freeze is None else freeze:
        encoder.backbone.get_input_embeddings().weight.requires_grad_(False)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the target is the teacher's answer to the whole text: noise only blurs it
    sample = _sample(prepared.rows, _RIDGE_ROWS)
    comparable = sample if prepared.aligned is None else _sample(prepared.comparable(), _RIDGE_ROWS)
    comparable = comparable[: _RIDGE_ROWS // 16]
    to_teacher = hidden_to_teacher = None
    needs = needed(weights)
    if "states" in needs and encoder.backbone.config.hidden_size != cache.width:
        hidden_to_teacher = ridge_linear(*_token_states(encoder, prepared, cache, comparable))
    projection = recipe.student.projection
    if plan.manifest.dimension != cache.teacher.manifest.dimension or projection == "rotate":
        keep = projection != "drop"
        normalize, encoder.normalize = encoder.normalize, encoder.normalize and not keep
        start, count = (rotation_linear, MAP_ROWS) if projection == "rotate" else (ridge_linear, _RIDGE_ROWS)
        rows = _sample(prepared.rows, count)
        ours = encode_ids(encoder, [prepared.student_ids[r] for r in rows], plan.manifest.pad_token_id)
        encoder.normalize = normalize
        to_teacher = start(torch.from_numpy(ours), torch.from_numpy(cache.vectors(rows)))
        if keep:
            _add_map(encoder, to_teacher)
            to_teacher = None
    if recipe.student.linear_bits is not None:
        round_linears(encoder)
    model = DistillationModel(encoder, weights, to_teacher=to_teacher, hidden_to_teacher=hidden_to_teacher)
    model.matryoshka, model.temperature = recipe.objectives.matryoshka, recipe.objectives.temperature
    _add_teachers(model, recipe, prepared, others, sample, plan.manifest.pad_token_id)
    if needs & {"layers", "attention", "relations"}:
        model.plan = plan_layers(recipe.objectives, weights, plan, cache.teacher)
        model.beside = TracedTeacher(cache.teacher, model.plan)
        few_rows = comparable.tolist() if model.plan.hidden else []
        model.layer_maps = layer_maps(
            encoder, model.beside, model.plan, lambda r: (prepared.student_ids[r], prepared.teacher_ids[r]), few_rows
        )
    return model


def _add_map(encoder: SentenceEncoder, linear: nn.Linear) -> None:
    """Puts `linear` behind the pooling; into the last dense layer where that is linear, too."""
    last = encoder.dense[-1] if encoder.dense else None
    if not isinstance(last, Dense) or not isinstance(last.activation_function, nn.Identity):
        encoder.dense.append(Dense(linear, nn.Identity()))
        return
    both = nn.Linear(last.linear.in_features, linear.out_features, bias=last.linear.bias is not None)
    with torch.no_grad():
        both.weight.copy_(linear.weight @ last.linear.weight)
        if both.bias is not None:
            both.bias.copy_(linear.weight @ last.linear.bias)
    encoder.dense[-1] = Dense(both, nn.Identity())


def _sample(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).choice(rows, min(count, len(rows)), replace=False))


def _add_teachers(
    model: DistillationModel, recipe: Recipe, prepared: Prepared, others: Sequence[TeacherCache],
    sample: NDArray[np.int64], pad_token_id: int,
) -> None:  # fmt: skip
    """Gives `model` its map to each further teacher, started on the rows `sample`, and the teachers' shares."""
    if not others:
        return
    weights = [1.0, *(other.weight for other in recipe.teachers)]
    model.shares = [weight / sum(weights) for weight in weights]
    ours = torch.from_numpy(encode_ids(model.encoder, [prepared.student_ids[r] for r in sample], pad_token_id))
    for other in others:
        model.others.append(ridge_linear(ours, torch.from_numpy(other.vectors(sample))))


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
