"""Recipes: the built-in ones, TOML files and what is wrong with them, and what the manifest tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import kinds, run

from edgebert.engines.base import feed
from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.passes import PASSES
from edgebert.quantize.passes.dynamic_int8 import DynamicInt8
from edgebert.quantize.passes.outliers import Outliers
from edgebert.quantize.passes.static_int8 import StaticInt8
from edgebert.quantize.passes.weight_only import WeightOnly
from edgebert.quantize.recipe import DEFAULT, LADDER, RECIPES, Recipe, find_recipe, read_recipe, with_tables
from edgebert.quantize.stage import Options
from edgebert.quantize.task_gate import TaskGate

EVERY = """
name = "mine"
float_layers = 1
[[passes]]
pass = "smooth-quant"
alpha = 1
everywhere = true
[[passes]]
pass = "outliers"
channels = 4
gain = 2.5
[[passes]]
pass = "static-int8"
ranges = "mse"
weights = "7-bit"
exclude = ["a", "b"]
[[passes]]
pass = "bias-correction"
[[passes]]
pass = "weight-only"
tables = 4
"""


def written(folder: Path, content: str) -> Path:
    """A recipe file."""
    path = folder / "own.toml"
    path.write_text(content, encoding="utf-8")
    return path


def test_a_file_gives_the_passes_it_names(tmp_path: Path) -> None:
    recipe = find_recipe(str(written(tmp_path, EVERY)))
    assert (recipe.name, recipe.float_layers) == ("mine", 1)
    assert recipe.passes[1] == Outliers(4, 2.5)
    assert recipe.passes[2] == StaticInt8("mse", "7-bit", ("a", "b"))
    assert recipe.passes[4] == WeightOnly(4)
    assert recipe.facts()["passes"][2] == {
        "pass": "static-int8", "ranges": "mse", "weights": "7-bit", "exclude": ["a", "b"],
    }  # fmt: skip
    assert {one["pass"] for one in recipe.facts()["passes"]} <= set(PASSES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "own.toml: the key 'passes' is missing"),
        ("passes = []", "own.toml: a recipe needs at least one [[passes]]"),
        ('[[passes]]\npass = "static"', "own.toml: passes[0]: no pass 'static'; there are smooth-quant, split-"),
        ("[[passes]]\ngain = 2.0", "own.toml: passes[0]: no pass None; there are smooth-quant"),
        ("passes = [3]", "own.toml: passes[0]: no pass 3; there are smooth-quant"),
        ('[[passes]]\npass = "outliers"\nchannel = 3', "(outliers): unknown key 'channel'; known are channels, gain"),
        ('[[passes]]\npass = "outliers"\nchannels = "3"', "(outliers): channels: int is wanted, not '3'"),
        ('[[passes]]\npass = "outliers"\nchannels = 0', "outliers: channels is 0; it must be 1 or more"),
        ('[[passes]]\npass = "smooth-quant"\nalpha = 2.0', "smooth-quant: alpha is 2.0; it must be within 0 to 1"),
        ('[[passes]]\npass = "static-int8"\nranges = "max"',
         "ranges: 'max' is not one of 'min-max', 'percentile', 'entropy', 'mse'"),
        ('[[passes]]\npass = "static-int8"\nweights = "8-bit"', "'8-bit' is not one of 'safe', '7-bit', 'full'"),
        ('[[passes]]\npass = "weight-only"\ntables = 5', "tables: 5 is not one of 4, 8, 32"),
        ('name = "x"\nfloats = 1\n[[passes]]\npass = "float16"', "unknown key 'floats'; known are float_layers, name"),
        ('float_layers = -1\n[[passes]]\npass = "float16"', "float_layers is -1; it must be 0 or more"),
        ('name = "../up"\n[[passes]]\npass = "float16"', "name is '../up'; letters, digits"),
        ('name = ""\n[[passes]]\npass = "float16"', "name is ''; letters, digits"),
        ("[[passes]\n", "own.toml"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_told_with_what_is_allowed(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        read_recipe(written(tmp_path, content))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_and_an_unknown_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="none.toml"):
        find_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(
        RecipeError, match="no recipe 'statik'; there are static, outliers-8, .*dynamic, int4, and files ending"
    ):
        find_recipe("statik")


def test_the_ladder_begins_at_the_default_and_with_a_task_everything_competes() -> None:
    assert Options().recipes[0].name == DEFAULT
    assert Options(task=TaskGate()).recipes == LADDER
    assert Options(recipe=RECIPES["dynamic"], task=TaskGate()).recipes == (RECIPES["dynamic"],)
    assert all(WeightOnly(4) in recipe.passes for recipe in Options(tables=4).recipes if recipe.name != "weight-only")
    assert [recipe.name for recipe in Options(tables=4).recipes] == [recipe.name for recipe in Options().recipes]


def test_tables_and_excluded_layers_change_a_copy() -> None:
    recipe = RECIPES["outliers-8"]
    assert with_tables(recipe, 4).passes[-1] == WeightOnly(4)
    assert recipe.passes[-1] == WeightOnly(8)
    left = recipe.excluding(("a",)).excluding(("b",))
    assert left.passes[2] == StaticInt8(exclude=("a", "b"))
    assert RECIPES["dynamic"].excluding(("a",)).passes[0] == DynamicInt8(("a",))


@pytest.mark.parametrize("name", RECIPES)
def test_every_built_in_recipe_gives_a_graph_near_the_original(name: str, exported: Context) -> None:
    before = exported.original.SerializeToString()
    model = RECIPES[name].run(exported)
    assert exported.original.SerializeToString() == before
    assert any(kind in kinds(model) for kind in ("QuantizeLinear", "MatMulInteger", "DequantizeLinear", "MatMulNBits"))
    ids = np.random.default_rng(0).integers(5, 60, size=(3, 17))
    inputs = feed(exported.inputs, ids, np.ones_like(ids))
    one, other = (run(m, inputs, ["sentence_embedding"])[0] for m in (model, exported.original))
    assert (one * other).sum(axis=1).min() > 0.95


def test_a_recipe_gives_the_same_graph_again(exported: Context) -> None:
    one, again = (RECIPES["smooth-outliers-32"].run(exported).SerializeToString(deterministic=True) for _ in range(2))
    assert one == again


def test_passes_in_an_order_that_cannot_be_are_refused(exported: Context) -> None:
    with pytest.raises(RecipeError, match="static-int8 finds no linear layer in float"):
        Recipe("twice", (StaticInt8(), StaticInt8())).run(exported)


def test_layers_can_stay_in_float_only_where_a_pass_leaves_them_out(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('float_layers = 4\n[[passes]]\npass = "weight-only"\nlinears = 8\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="float_layers is 4; only static-int8 and dynamic-int8 leave layers in float"):
        read_recipe(path)


def test_bits_of_tables_need_a_pass_that_packs_them() -> None:
    with pytest.raises(RecipeError, match="the recipe 'bare' has no weight-only pass, which alone packs tables"):
        with_tables(Recipe("bare", (StaticInt8(),)), 4)
