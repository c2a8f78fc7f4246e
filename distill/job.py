"""What a run of `edgebert.distill.stage` has read and decided before a model computes, and its folder's name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.distill.corpus import Corpus
from edgebert.distill.fake_quant import Schedule
from edgebert.distill.pairs import Pairs
from edgebert.distill.prepare import Prepared
from edgebert.distill.readings import Foreign
from edgebert.distill.recipe import Recipe
from edgebert.distill.registry import needed
from edgebert.distill.select import content_of
from edgebert.distill.students import StudentPlan
from edgebert.distill.teacher import fingerprint, reading_of
from edgebert.schema import plain


@dataclass(frozen=True)
class Job:
    """The parts of a run.

    plan: the student before training. reading: how the teacher reads the text. weights: objective -> weight. steps: how
    many; qat: those that imitate int8, None for none. folder: tokens and checkpoints. others: further teachers. start:
    the model that the student starts from, None for the teacher and for random weights.
    """

    teacher: Bundle
    recipe: Recipe
    plan: StudentPlan
    text: Corpus
    reading: Foreign
    prepared: Prepared
    weights: dict[str, float]
    steps: int
    qat: Schedule | None
    folder: Path
    others: tuple[Bundle, ...]
    start: Bundle | None
    pairs: Pairs | None
    pairs_sha256: list[str]

    @property
    def states(self) -> bool:
        """Whether the teacher's last hidden states are compared."""
        return "states" in needed(self.weights)


def run_key(teacher: Bundle, text: str, recipe: Recipe, *further: object) -> str:
    """The name of the folder of a run or a fit: a hash of all that it depends on.

    text: the corpus' fingerprint. further: what else there is, such as the number of processes, on which the steps
    depend, and sums of what the recipe names.
    """
    data = plain(recipe.data) | {"exclude": content_of(recipe.data.exclude)}
    facts = [fingerprint(teacher), reading_of(teacher), text, plain(recipe) | {"data": data}, *further]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def told_data(recipe: Recipe) -> dict[str, object]:
    """The recipe's part about data, its files by their names."""
    return {**plain(recipe.data), "exclude": [Path(name).name for name in recipe.data.exclude]}
