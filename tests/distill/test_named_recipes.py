"""The shipped recipes: each trains, its loss falls, and what it promises is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Result
from helpers import assert_refused, make_teacher, sentences
from torch import Tensor

from edgebert.bundle import Bundle
from edgebert.distill import training
from edgebert.distill.encoder import torch_embedder
from edgebert.distill.named import find_recipe, shipped_recipes
from edgebert.distill.recipe import Recipe, override, preset
from edgebert.errors import RecipeError

Cli = Callable[..., Result]
QUICK = ("--batch-size", "16", "--epochs", "2", "--held-out", "60", "--precision", "fp32", "--learning-rate", "1e-3")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher whose width 48 relation heads divide, as they divide those of real ones."""
    return make_teacher(tmp_path_factory.mktemp("teacher") / "teacher", width=96, heads=12)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of every step that is trained."""
    seen: list[float] = []
    see = training.Figures.see

    def watched(figures: training.Figures, loss: Tensor) -> None:
        seen.append(float(loss.detach()))
        see(figures, loss)

    monkeypatch.setattr(training.Figures, "see", watched)
    return seen


@pytest.mark.parametrize("name", ["distilbert", "edgebert", "leaf", "minilmv2", "tinybert"])
def test_every_shipped_recipe_trains_and_its_loss_falls(
    name: str, teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, losses: list[float]
) -> None:
    out = tmp_path / "student"
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--recipe", name, *QUICK)
    assert result.code == 0, result.err
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    manifest = Bundle.open(out).manifest
    assert manifest.quality[0].value > manifest.lineage["agreement_before_training"]
    on = {objective for objective, weight in manifest.lineage["objectives"].items() if weight}
    assert on == {
        "distilbert": {"vector", "token_cosine"}, "edgebert": {"vector", "similarity", "hidden"}, "leaf": {"aligned"},
        "minilmv2": {"vector", "relations"}, "tinybert": {"vector", "layers", "attention"},
    }[name]  # fmt: skip


def test_all_shipped_recipes_are_known_and_the_default_is_one_of_them() -> None:
    assert shipped_recipes() == ["distilbert", "edgebert", "leaf", "minilmv2", "tinybert"]
    assert find_recipe("edgebert") == Recipe(student=preset("3-layer"))


def test_a_student_of_leaf_searches_the_teachers_index(
    teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--recipe", "leaf", "--start", "fresh",
                 "--layers", "2", "--width", "48", "--heads", "4", *QUICK, "--epochs", "8")  # fmt: skip
    assert result.code == 0, result.err
    bundle = Bundle.open(out)
    assert (bundle.manifest.dimension, bundle.manifest.dense) == (96, ("2_Dense",))
    texts = sentences(100, seed=7)
    index = torch_embedder(Bundle.from_pretrained(teacher)).encode(texts)
    found = (torch_embedder(bundle).encode(texts) @ index.T).argmax(axis=1)
    assert np.mean(found == np.arange(100)) > 0.5  # by chance 0.01


def test_options_and_presets_override_a_named_recipe(
    teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--recipe", "distilbert", "--preset",
                 "2-layer", "--vector", "0.5", "--objective", "mse=2", *QUICK, "--epochs", "0.1")  # fmt: skip
    assert result.code == 0, result.err
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"] == 2
    weights = Bundle.open(out).manifest.lineage["objectives"]
    assert weights == {"vector": 0.5, "similarity": 0.0, "hidden": 0.0, "mse": 2.0, "token_cosine": 1.0}


def test_an_unknown_recipe_lists_the_known_ones_and_a_file_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="no such recipe: bigbert; known are distilbert, edgebert, leaf, minilmv2"):
        find_recipe("bigbert")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaf").write_text("[training]\nseed = 7\n", encoding="utf-8")
    assert find_recipe("./leaf") == override(Recipe(), "training", seed=7)
    assert find_recipe("leaf").objectives.aligned == 1


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("warmth=1", "unknown objective 'warmth'; known are vector, similarity, hidden, mse"),
        ("layers=-1", "objectives.layers is -1.0; it must be"),
        ("mse=nan", "objectives.mse is nan; it must be"),
    ],
)
def test_a_weight_that_does_not_fit_is_refused(
    option: str, part: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    assert_refused(cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--objective", option), out, part)


def test_a_weight_that_is_no_number_is_wrong_usage(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "s", "--objective", "layers")
    assert result.code == 2
    assert "'layers' is not an objective and its weight" in result.err
