"""Recipes by name, shipped as TOML in `recipes/`; a user's own is a file."""

from __future__ import annotations

from pathlib import Path

from edgebert.distill.recipe import Recipe, read_recipe
from edgebert.errors import RecipeError

_SHIPPED = Path(__file__).parent / "recipes"


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with EdgeBERT, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def find_recipe(name_or_path: str) -> Recipe:
    """The shipped recipe of that name, else the one in that file; `./NAME` is always a file.

    Raises: RecipeError, see `read_recipe`.
    """
    if name_or_path in shipped_recipes():
        return read_recipe(_SHIPPED / f"{name_or_path}.toml")
    if not Path(name_or_path).exists() and Path(name_or_path).suffix != ".toml":
        known = ", ".join(shipped_recipes())
        raise RecipeError(f"no such recipe: {name_or_path}; known are {known}, or give a TOML file")
    return read_recipe(Path(name_or_path))
