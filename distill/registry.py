"""Every objective: its name, its weight where a recipe says nothing, its function and what it needs.

To add one, write the function in `objectives.py` or `layer_objectives.py`, and a field of `Objectives` here: the
recipe, the command line, the checks and the training step read it from there. What it computes with is in
`edgebert.distill.step.Step`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from edgebert.distill import objectives as pure
from edgebert.distill.layer_map import Strategy
from edgebert.distill.step import Step
from edgebert.errors import RecipeError

# tokens: teacher and student read texts into the same tokens; states: the teacher's last hidden states, cached; layers,
# attention and relations: the teacher beside the student; space: the student's vectors lie in the teacher's space;
# pairs: text pairs.
Need = Literal["tokens", "states", "layers", "attention", "relations", "space", "pairs"]


@dataclass(frozen=True)
class Objective:
    """loss: the mean over the batch, a scalar. needs: see `Need`; the teachers' sentence vectors are always there."""

    loss: Callable[[Step], Tensor]
    needs: frozenset[Need]


def _learns(weight: float | None, loss: Callable[[Step], Tensor], *needs: Need) -> Any:
    return dataclasses.field(default=weight, metadata={"objective": Objective(loss, frozenset(needs))})


@dataclass(frozen=True)
class Objectives:
    """The weights of the objectives, 0 leaves one out, and their options.

    hidden: None means 1 where teacher and student read at least a tenth of the texts into the same tokens, else 0.
    layer_map: see `edgebert.distill.layer_map.map_layers`; layer_pairs: pairs [student, teacher] instead of it.
    relation_layer: the teacher's layer, from 1, whose relations the student's last one learns; None is the last.
    relation_heads: into how many parts relations are split; None: as many as the teacher has heads.
    temperature: of `contrastive`. matryoshka: shorter dimensions at which vectors must do, too.
    Raises: RecipeError for values out of range.
    """

    # The order is that in which the losses are added up.
    vector: float = _learns(1.0, lambda step: step.over_vectors(pure.vector_loss))
    similarity: float = _learns(1.0, lambda step: step.over_structure(pure.similarity_loss))
    hidden: float | None = _learns(None, lambda step: step.over_states(pure.hidden_loss), "tokens", "states")
    mse: float = _learns(0.0, lambda step: step.over_vectors(pure.mse_loss))
    aligned: float = _learns(0.0, lambda step: step.in_first_space(pure.aligned_loss), "space")
    token_cosine: float = _learns(0.0, lambda step: step.over_states(pure.token_cosine_loss), "tokens", "states")
    layers: float = _learns(0.0, Step.over_layers, "tokens", "layers")
    attention: float = _learns(0.0, Step.over_attention, "tokens", "attention")
    relations: float = _learns(0.0, Step.over_relations, "tokens", "relations")
    contrastive: float = _learns(0.0, Step.over_pairs, "pairs")

    layer_map: Strategy = "uniform"
    layer_pairs: tuple[tuple[int, ...], ...] | None = None
    relation_layer: int | None = None
    relation_heads: int | None = None
    temperature: float = 0.05
    matryoshka: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in OBJECTIVES:
            if not 0 <= (weight := getattr(self, name) or 0) < math.inf:
                raise RecipeError(f"objectives.{name} is {weight}; it must be a finite number of at least 0")
        if not any(getattr(self, name) is None or getattr(self, name) for name in OBJECTIVES):
            raise RecipeError(f"all objectives have weight 0: give one of {', '.join(OBJECTIVES)} a weight above 0")
        if not 0 < self.temperature < math.inf:
            raise RecipeError(f"objectives.temperature is {self.temperature}; it must be a finite number above 0")
        for name, values in (
            ("relation_layer", [self.relation_layer]), ("relation_heads", [self.relation_heads]),
            ("matryoshka", self.matryoshka),
        ):  # fmt: skip
            if wrong := [value for value in values if value is not None and value < 1]:
                raise RecipeError(f"objectives.{name} is {wrong[0]}; it must be a whole number of at least 1")
        if self.layer_pairs == ():
            raise RecipeError("objectives.layer_pairs is empty: name at least one pair, or leave it out")
        if wrong_pair := [pair for pair in self.layer_pairs or () if len(pair) != 2]:
            raise RecipeError(
                f"objectives.layer_pairs holds {list(wrong_pair[0])}; a pair [layer of the student, layer of the "
                "teacher] is wanted"
            )

    def weights(self, *, aligned: bool) -> dict[str, float]:
        """The objectives that are on, or would be by default, with their weights; aligned: whether tokens match."""
        default = {f.name: f.default for f in dataclasses.fields(self)}
        decided = {name: getattr(self, name) for name in OBJECTIVES}
        decided = {name: float(aligned) if weight is None else float(weight) for name, weight in decided.items()}
        return {name: weight for name, weight in decided.items() if weight or default[name] != 0}


OBJECTIVES: Mapping[str, Objective] = {
    f.name: f.metadata["objective"] for f in dataclasses.fields(Objectives) if "objective" in f.metadata
}


def needed(weights: Mapping[str, float]) -> frozenset[Need]:
    """What the objectives with a weight above 0 need."""
    return frozenset(need for name, weight in weights.items() if weight for need in OBJECTIVES[name].needs)


def named_weights(settings: Mapping[str, float]) -> dict[str, float]:
    """`settings` as they are.

    Raises: RecipeError for an unknown objective, listing the known ones.
    """
    if wrong := [name for name in settings if name not in OBJECTIVES]:
        raise RecipeError(f"unknown objective {wrong[0]!r}; known are {', '.join(OBJECTIVES)}")
    return dict(settings)
