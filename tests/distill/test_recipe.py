"""Recipes: TOML, presets, overriding, and values out of range."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgebert.distill.recipe import PRESETS, Data, Objectives, Recipe, Student, Training, override, preset, read_recipe
from edgebert.errors import RecipeError
from edgebert.schema import parse, plain


def test_a_recipe_in_toml_sets_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        '[student]\nstart = "fresh"\nlayers = 2\nwidth = 48\nheads = 4\nprojection = "drop"\n'
        "[objectives]\nvector = 2\nhidden = 0.5\n"
        "[training]\nepochs = 0.5\nfreeze_embeddings = false\nseed = 9\n"
        "[data]\nmax_sentences = 100\n",
        encoding="utf-8",
    )
    recipe = read_recipe(path)
    assert recipe.student == Student(start="fresh", layers=2, width=48, heads=4, projection="drop")
    assert recipe.objectives == Objectives(vector=2.0, similarity=1.0, hidden=0.5)
    assert recipe.training == dataclasses.replace(Training(), epochs=0.5, freeze_embeddings=False, seed=9)
    assert recipe.data == Data(max_sentences=100)


def test_an_empty_recipe_is_the_default_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("", encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml") == Recipe()


def test_a_recipe_survives_the_way_through_json() -> None:
    recipe = Recipe(student=Student(take_layers=(0, 3)), training=Training(seed=4))
    assert parse(Recipe, json.loads(json.dumps(plain(recipe))), where="here", error=RecipeError) == recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[training]\nepoch = 3\n", "unknown key 'epoch'; known are accumulate, batch_size, epochs"),
        (
            "[trainig]\nepochs = 3\n",
            "unknown key 'trainig'; known are data, objectives, student, task, teachers, training",
        ),
        ("[training\n", "is not TOML"),
        ('[training]\nepochs = "three"\n', "epochs: float is wanted, not 'three'"),
        ("[training]\nbatch_size = 8.5\n", "batch_size: int is wanted, not 8.5"),
        ("[training]\nbatch_size = true\n", "batch_size: int is wanted, not True"),
        ('[training]\nprecision = "fp8"\n', "'fp8' is not one of 'auto', 'fp32', 'bf16'"),
        ('[student]\nactivation = "tanh"\n', "'tanh' is not one of 'gelu', 'relu', 'silu', 'gelu_new'"),
        ('[student]\ntake_layers = [0, "1"]\n', r"take_layers\[1\]: int is wanted, not '1'"),
        ("[student]\ntake_layers = 3\n", "take_layers: a list is wanted, not 3"),
        ("student = 3\n", "student: a table is wanted, not 3"),
    ],
)
def test_a_recipe_that_cannot_be_read_says_where_and_why(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match=message) as raised:
        read_recipe(tmp_path / "recipe.toml")
    assert "recipe.toml" in str(raised.value)


def test_a_missing_recipe_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe: .*none.toml"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="binary.toml is not TOML"):
        read_recipe(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("training", "epochs", -1.0),
        ("training", "epochs", float("nan")),
        ("training", "epochs", float("inf")),
        ("training", "batch_size", 1),
        ("training", "learning_rate", -1e-3),
        ("training", "learning_rate", float("inf")),
        ("training", "weight_decay", -0.1),
        ("training", "warmup", 1.0),
        ("training", "warmup", -0.1),
        ("training", "warmup", float("nan")),
        ("training", "qat", -0.1),
        ("training", "qat", 1.1),
        ("training", "qat", float("nan")),
        ("training", "seed", -1),
        ("training", "seed", 2**32),
        ("objectives", "vector", -1.0),
        ("objectives", "hidden", float("nan")),
        ("objectives", "similarity", float("inf")),
        ("data", "held_out", 1),
        ("data", "max_sentences", 3),
        ("student", "layers", 0),
        ("student", "width", -64),
        ("student", "heads", 0),
        ("student", "feed_forward", 0),
        ("student", "max_length", 2),
    ],
)
def test_a_value_out_of_range_is_named_with_its_value(part: str, field: str, value: float) -> None:
    with pytest.raises(RecipeError) as raised:
        override(Recipe(), part, **{field: value})
    assert f"{part}.{field} is {value}; it must be" in str(raised.value)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("training", "epochs", 0.0),
        ("training", "batch_size", 2),
        ("training", "warmup", 0.0),
        ("training", "qat", 0.0),
        ("training", "qat", 1.0),
        ("training", "seed", 2**32 - 1),
        ("objectives", "vector", 0.0),
        ("data", "held_out", 2),
        ("data", "max_sentences", 4),
        ("student", "max_length", 3),
    ],
)
def test_a_value_at_its_limit_is_accepted(part: str, field: str, value: float) -> None:
    recipe = override(Recipe(), part, **{field: value})
    assert getattr(getattr(recipe, part), field) == value


def test_objectives_that_are_all_zero_are_refused() -> None:
    with pytest.raises(RecipeError, match="all objectives have weight 0"):
        Recipe(objectives=Objectives(vector=0, similarity=0, hidden=0))
    assert Recipe(objectives=Objectives(vector=0, similarity=0)).objectives.hidden is None


def test_layers_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(RecipeError, match="student.layers is 3 and student.take_layers names 2"):
        Recipe(student=Student(layers=3, take_layers=(0, 1)))
    with pytest.raises(RecipeError, match="student.take_layers is empty"):
        Recipe(student=Student(take_layers=()))


def test_override_leaves_what_is_none() -> None:
    recipe = override(Recipe(), "training", epochs=None, seed=3, batch_size=None)
    assert recipe.training == dataclasses.replace(Training(), seed=3)
    assert recipe.student == Student()


def test_every_preset_is_a_valid_recipe_with_its_depth() -> None:
    depths = {name: Recipe(student=preset(name)).student.layers for name in PRESETS}
    assert depths == {
        "2-layer": 2, "3-layer": 3, "4-layer": 4, "6-layer": 6, "minilm-6x384": 6, "tinybert-4x312": 4,
        "wide-3x512": 3,
    }  # fmt: skip
    assert all(s.width is None or s.width % (s.heads or 1) == 0 for s in PRESETS.values())


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="unknown preset '5-layer'; known are 2-layer, 3-layer"):
        preset("5-layer")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocabulary": 0}, "student.vocabulary is 0; it must be a finite number of at least 1"),
        ({"coverage": 0.0}, "student.coverage is 0.0; it must be above 0 and at most 1"),
        ({"coverage": 1.01}, "student.coverage is 1.01; it must be above 0 and at most 1"),
        ({"vocabulary": 9, "coverage": 0.9}, "student.vocabulary is 9 and student.coverage 0.9: give one"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(student=Student(**values))  # type: ignore[arg-type]
