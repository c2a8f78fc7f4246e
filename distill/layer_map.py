"""Which layer of the student learns from which layer of the teacher.

Layers are counted as TinyBERT counts them (arXiv:1909.10351): 0 is the embedding layer, m the output of the m-th layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgebert.errors import RecipeError

Pairs = tuple[tuple[int, int], ...]
Strategy = Literal["uniform", "top", "last"]


@dataclass(frozen=True)
class Shape:
    """Of an encoder: its layers without the embedding layer, their width and attention heads."""

    layers: int
    width: int
    heads: int


@dataclass(frozen=True)
class LayerPlan:
    """Pairs (layer of the student, layer of the teacher).

    hidden: whose states are compared, embedding layers among them. attention: whose attention scores. relations: whose
    relations. heads: attention heads of both. relation_heads: into how many parts relations are split.
    """

    hidden: Pairs = ()
    attention: Pairs = ()
    relations: Pairs = ()
    heads: int = 1
    relation_heads: int = 1


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape that a `config.json` tells."""
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    if config["model_type"] == "distilbert":
        names = ("n_layers", "dim", "n_heads")
    layers, width, heads = (int(config[name]) for name in names)
    return Shape(layers, width, heads)


def map_layers(strategy: Strategy, student: Shape, teacher: Shape) -> Pairs:
    """The pairs of a strategy.

    "uniform" spreads the student's layers over the teacher's, 3 over 6 as 1-2, 2-4, 3-6; "top" takes the teacher's last
    ones in order; both begin with the embedding layers. "last" is one pair, the last layer of each.
    Raises: RecipeError when the student is deeper than the teacher.
    """
    if strategy == "last":
        return ((student.layers, teacher.layers),)
    if student.layers > teacher.layers:
        raise RecipeError(
            f"objectives.layer_map {strategy!r} maps a student of {student.layers} layers to a teacher of as many or "
            f'more, and this one has {teacher.layers}: take "last", or name objectives.layer_pairs'
        )
    if strategy == "top":
        above = teacher.layers - student.layers
        return ((0, 0), *((m, m + above) for m in range(1, student.layers + 1)))
    return ((0, 0), *((m, int(m * teacher.layers / student.layers + 0.5)) for m in range(1, student.layers + 1)))


def check_pairs(pairs: tuple[tuple[int, ...], ...], student: Shape, teacher: Shape) -> Pairs:
    """`pairs` as they are.

    Raises: RecipeError when one names a layer that is not there.
    """
    for pair in pairs:
        for layer, of, name in zip(pair, (student, teacher), ("student", "teacher"), strict=True):
            if not 0 <= layer <= of.layers:
                raise RecipeError(
                    f"objectives.layer_pairs names layer {layer} of the {name}, which has 0 (the embedding layer) to "
                    f"{of.layers}"
                )
    return tuple((pair[0], pair[1]) for pair in pairs)
