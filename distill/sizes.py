"""The sizes that one layer of an encoder has, and which of them copied layers can be brought to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgebert.bundle import Bundle
from edgebert.distill.recipe import Student
from edgebert.errors import RecipeError

_BERT, _DISTILBERT = ("hidden_size", "num_attention_heads", "intermediate_size"), ("dim", "n_heads", "hidden_dim")


@dataclass(frozen=True)
class Sizes:
    """Of an encoder: its width, attention heads and feed-forward neurons."""

    width: int
    heads: int
    feed_forward: int

    @property
    def head_size(self) -> int:
        """Dimensions of a head."""
        return self.width // self.heads

    def narrowed(self, shape: Student) -> Sizes:
        """These with the width and feed-forward width of `shape`; heads keep their size."""
        width = shape.width or self.width
        return Sizes(width, width // self.head_size, shape.feed_forward or self.feed_forward)

    def write(self, config: Any) -> None:
        """Puts them into a transformers configuration."""
        names = _DISTILBERT if config.model_type == "distilbert" else _BERT
        for name, size in zip(names, (self.width, self.heads, self.feed_forward), strict=True):
            setattr(config, name, size)


def sizes_of(config: Any) -> Sizes:
    """The sizes that a transformers configuration tells."""
    return Sizes(
        *(int(getattr(config, name)) for name in (_DISTILBERT if config.model_type == "distilbert" else _BERT))
    )


def read_sizes(config: Mapping[str, Any]) -> Sizes:
    """The sizes that a model's `config.json` tells."""
    return Sizes(*(int(config[name]) for name in (_DISTILBERT if config["model_type"] == "distilbert" else _BERT)))


def check_sizes(has: Sizes, shape: Student, origin: Bundle) -> None:
    """Whether `shape` can be made of layers of those sizes, copied from `origin`.

    Raises: RecipeError when it cannot.
    """
    for field in ("width", "feed_forward"):
        if (wanted := getattr(shape, field) or 0) > getattr(has, field):
            raise RecipeError(
                f"student.{field} is {wanted}, and the layers copied from {origin.source} have {getattr(has, field)}: "
                "they can be made narrower only; start fresh, or leave it out"
            )
    if shape.width is None or shape.width == has.width:
        return
    if shape.width % has.head_size:
        raise RecipeError(
            f"student.width is {shape.width}; the heads copied from {origin.source} have {has.head_size} dimensions "
            "each and are kept or left out whole, so a multiple of that is wanted"
        )
    if shape.heads not in (None, shape.width // has.head_size):
        raise RecipeError(
            f"student.heads is {shape.heads}; copied heads keep their {has.head_size} dimensions, so a width of "
            f"{shape.width} has {shape.width // has.head_size}: leave it out, or start fresh"
        )
