"""What one training step knows: the student's answers and the teachers', for the objectives to choose from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgebert.distill.layer_map import LayerPlan
from edgebert.distill.layer_objectives import attention_loss, relation_loss
from edgebert.distill.objectives import contrastive_loss, hidden_loss, shortened
from edgebert.distill.traces import Trace

VectorLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Aim:
    """One teacher's sentence vectors, Shape (batch, its dimension), its share of the loss and the map to them."""

    vector: Tensor
    share: float
    to: nn.Module


@dataclass(frozen=True)
class PairVectors:
    """Anchors and positives, Shape (pairs, dimension), and which share a text, Shape (pairs, pairs)."""

    anchor: Tensor
    positive: Tensor
    same: Tensor


@dataclass(frozen=True)
class Step:
    """Shape: vector (batch, dimension), hidden (batch, seq_len, width), token_mask (batch, seq_len), states (batch,
    seq_len, teacher width). token_mask: 1 on the tokens that are compared one by one. matryoshka: shorter dimensions at
    which vectors are compared, too.
    """

    vector: Tensor
    hidden: Tensor
    token_mask: Tensor
    aims: tuple[Aim, ...]
    states: Tensor | None
    to_states: nn.Module
    plan: LayerPlan
    layer_maps: nn.ModuleDict
    ours: Trace
    theirs: Trace
    pairs: PairVectors | None
    matryoshka: tuple[int, ...]
    temperature: float

    def over_vectors(self, loss: VectorLoss) -> Tensor:
        """The teachers' average of `loss` in each one's space, itself the mean over the dimensions."""
        return _total([aim.share * self._in_space(loss, aim) for aim in self.aims])

    def over_structure(self, loss: VectorLoss) -> Tensor:
        """The teachers' average of `loss` of the student's vectors, long and short, to the teacher's whole ones."""
        found = [aim.share * _mean([loss(view, aim.vector) for view in self._views(self.vector)]) for aim in self.aims]
        return _total(found)

    def in_first_space(self, loss: VectorLoss) -> Tensor:
        """`loss` to the first teacher."""
        return self._in_space(loss, self.aims[0])

    def over_states(self, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """`loss` between the last hidden states."""
        assert self.states is not None
        return loss(self.to_states(self.hidden.float()), self.states, self.token_mask)

    def over_layers(self) -> Tensor:
        """The mean of `hidden_loss` over the pairs of layers."""
        found = []
        for ours, theirs in self.plan.hidden:
            mapped = self.layer_maps["layers" if ours else "embeddings"](self.ours.hidden[ours])
            found.append(hidden_loss(mapped, self.theirs.hidden[theirs], self.token_mask))
        return _mean(found)

    def over_attention(self) -> Tensor:
        """The mean of `attention_loss` over the pairs of layers."""
        found = []
        for ours, theirs in self.plan.attention:
            (query, key, _), (their_query, their_key, _) = self.ours.projections[ours], self.theirs.projections[theirs]
            mask, heads = self.token_mask, self.plan.heads
            found.append(attention_loss(query, key, their_query, their_key, mask, heads=heads))
        return _mean(found)

    def over_relations(self) -> Tensor:
        """The mean of `relation_loss` over queries, keys and values of the pairs of layers."""
        found = []
        for ours, theirs in self.plan.relations:
            for a, b in zip(self.ours.projections[ours], self.theirs.projections[theirs], strict=True):
                found.append(relation_loss(a, b, self.token_mask, heads=self.plan.relation_heads))
        return _mean(found)

    def over_pairs(self) -> Tensor:
        """`contrastive_loss`, the mean over the dimensions."""
        assert self.pairs is not None
        views = zip(self._views(self.pairs.anchor), self._views(self.pairs.positive), strict=True)
        return _mean([contrastive_loss(a, b, self.pairs.same, temperature=self.temperature) for a, b in views])

    def _in_space(self, loss: VectorLoss, aim: Aim) -> Tensor:
        """Within one space both vectors are cut. Through a map the student's is, and the teacher's stays whole: what it
        says in its first components is no matter of the student's first ones.
        """
        found = [loss(aim.to(self.vector), aim.vector)]
        for dimension in self.matryoshka:
            short = shortened(self.vector, dimension)
            if isinstance(aim.to, nn.Identity):
                found.append(loss(short, shortened(aim.vector, dimension)))
            else:
                found.append(loss(aim.to(functional.pad(short, (0, self.vector.shape[1] - dimension))), aim.vector))
        return _mean(found)

    def _views(self, vectors: Tensor) -> list[Tensor]:
        return [vectors, *(shortened(vectors, dimension) for dimension in self.matryoshka)]


def _mean(losses: list[Tensor]) -> Tensor:
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


def _total(losses: list[Tensor]) -> Tensor:
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
