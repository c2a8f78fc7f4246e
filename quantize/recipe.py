"""Recipes: named sequences of passes, the built-in ones from cheap to dear, and the user's from TOML."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.graph import Graph
from edgebert.quantize.passes import PASSES, Pass
from edgebert.quantize.passes.dynamic_int8 import DynamicInt8
from edgebert.quantize.passes.outliers import Outliers
from edgebert.quantize.passes.smooth_quant import SmoothQuant
from edgebert.quantize.passes.split_outliers import SplitOutliers
from edgebert.quantize.passes.static_int8 import StaticInt8
from edgebert.quantize.passes.weight_only import WeightOnly
from edgebert.schema import parse, plain, read_toml

TableBits = Literal[4, 8]


@dataclass(frozen=True)
class Recipe:
    """Passes in the order in which they run. float_layers: so many of the most sensitive layers stay in float."""

    name: str
    passes: tuple[Pass, ...]
    float_layers: int = 0

    def __post_init__(self) -> None:
        """Raises: RecipeError for a split that no pass writes, or that would no longer fit the activations."""
        kinds = [type(one) for one in self.passes]
        if SplitOutliers not in kinds:
            return
        later = kinds[kinds.index(SplitOutliers) + 1 :]
        if StaticInt8 not in later:
            raise RecipeError(f"the recipe {self.name!r} has no static-int8 after split-outliers to write it")
        if SmoothQuant in later or SplitOutliers in later:
            raise RecipeError(
                f"the recipe {self.name!r} has smooth-quant or split-outliers after split-outliers, which needs the "
                "activations as they are rounded"
            )

    @property
    def depends_on_batch(self) -> bool:
        """Whether a text's vector depends on what shares its batch."""
        return any(isinstance(one, DynamicInt8) for one in self.passes)

    def excluding(self, nodes: tuple[str, ...]) -> Recipe:
        """The recipe with those MatMul nodes in float, beside the ones it names itself."""
        passes = tuple(
            dataclasses.replace(one, exclude=(*one.exclude, *nodes))
            if isinstance(one, StaticInt8 | DynamicInt8)
            else one
            for one in self.passes
        )
        return dataclasses.replace(self, passes=passes)

    def run(self, context: Context) -> onnx.ModelProto:
        """The graph of `context` after all passes.

        Raises: RecipeError for a pass that does not fit the graph.
        """
        graph = Graph(context.original)
        for one in self.passes:
            one(graph, context)
            graph.history = (*graph.history, one)
        graph.drop_unused()
        return graph.model

    def facts(self) -> dict[str, Any]:
        """As the manifest tells it."""
        names = {kind: name for name, kind in PASSES.items()}
        return {"name": self.name, "passes": [{"pass": names[type(one)], **plain(one)} for one in self.passes]}


def _outliers(channels: int, gain: float) -> tuple[Pass, ...]:
    """In integers where that takes few columns, else in float."""
    return SplitOutliers(channels, gain), Outliers(channels, gain)


def _static(name: str, *passes: Pass, float_layers: int = 0) -> Recipe:
    return Recipe(name, (*passes, WeightOnly()), float_layers)


# From cheap to dear: what runs fastest first. `outliers-8` is the default.
LADDER = (
    _static("static", StaticInt8()),
    _static("outliers-8", *_outliers(8, 3.0), StaticInt8()),
    _static("outliers-16", *_outliers(16, 2.0), StaticInt8()),
    _static("outliers-32", *_outliers(32, 1.5), StaticInt8()),
    _static("smooth-outliers-32", SmoothQuant(), *_outliers(32, 1.5), StaticInt8("percentile")),
    _static("smooth-outliers-32-float-2", SmoothQuant(), *_outliers(32, 1.5), StaticInt8("percentile"), float_layers=2),
    _static("smooth-outliers-32-float-4", SmoothQuant(), *_outliers(32, 1.5), StaticInt8("percentile"), float_layers=4),
    Recipe("weight-only", (WeightOnly(linears=8),)),
)
DYNAMIC = Recipe("dynamic", (DynamicInt8(), WeightOnly()))
INT4 = Recipe("int4", (WeightOnly(linears=4),))  # for students that learnt in 4 bits
RECIPES = {recipe.name: recipe for recipe in (*LADDER, DYNAMIC, INT4)}
DEFAULT = "outliers-8"


def with_tables(recipe: Recipe, bits: TableBits) -> Recipe:
    """`recipe` with embedding tables of so many bits.

    Raises: RecipeError when none of its passes packs tables.
    """
    if not any(isinstance(one, WeightOnly) for one in recipe.passes):
        raise RecipeError(f"the recipe {recipe.name!r} has no weight-only pass, which alone packs tables")
    passes = tuple(dataclasses.replace(p, tables=bits) if isinstance(p, WeightOnly) else p for p in recipe.passes)
    return dataclasses.replace(recipe, passes=passes)


def find_recipe(name: str) -> Recipe:
    """The built-in recipe of that name, or the one in the TOML file `name`.

    Raises: RecipeError when there is none, or the file holds an unknown pass or option.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".toml"):
        return read_recipe(Path(name))
    raise RecipeError(f"no recipe {name!r}; there are {', '.join(RECIPES)}, and files ending in .toml")


@dataclass(frozen=True)
class _File:
    passes: tuple[Any, ...]
    name: str = "own"
    float_layers: int = 0


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file: `[[passes]]` tables with the key `pass` and that pass's options.

    Raises: RecipeError.
    """
    content = read_toml(path, what="recipe", error=RecipeError)
    data = parse(_File, content, where=str(path), error=RecipeError)
    if not data.passes:
        raise RecipeError(f"{path}: a recipe needs at least one [[passes]]")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", data.name):
        raise RecipeError(f"{path}: name is {data.name!r}; letters, digits, '.', '_' and '-' are allowed")
    if data.float_layers < 0:
        raise RecipeError(f"{path}: float_layers is {data.float_layers}; it must be 0 or more")
    kinds = {one.get("pass") for one in data.passes if isinstance(one, dict)}
    if data.float_layers and not kinds & {"static-int8", "dynamic-int8"}:
        raise RecipeError(
            f"{path}: float_layers is {data.float_layers}; only static-int8 and dynamic-int8 leave layers in float"
        )
    return Recipe(
        data.name, tuple(_pass(one, f"{path}: passes[{i}]") for i, one in enumerate(data.passes)), data.float_layers
    )


def _pass(data: Any, where: str) -> Pass:
    if not isinstance(data, dict) or data.get("pass") not in PASSES:
        got = data.get("pass") if isinstance(data, dict) else data
        raise RecipeError(f"{where}: no pass {got!r}; there are {', '.join(PASSES)}")
    options = {key: value for key, value in data.items() if key != "pass"}
    return parse(PASSES[data["pass"]], options, where=f"{where} ({data['pass']})", error=RecipeError)
