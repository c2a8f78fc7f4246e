"""Untrained students: copied layers, fresh ones, other checkpoints, and shapes that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, make_architecture, make_headed
from helpers import make_teacher, sentences

from edgebert.bundle import Bundle
from edgebert.distill.encoder import encode_ids, load_encoder, load_tokenizer
from edgebert.distill.recipe import Student
from edgebert.distill.students import build_student, same_tokenizer, spread
from edgebert.errors import RecipeError


@pytest.fixture(scope="module")
def teacher(tiny_teacher: Path) -> Bundle:
    """The tiny teacher, opened."""
    return Bundle.from_pretrained(tiny_teacher)


def layer_of(backbone: Any, layer: int) -> dict[str, torch.Tensor]:
    """The weights of one layer of a backbone of any architecture."""
    stack = next(m for m in backbone.modules() if isinstance(m, torch.nn.ModuleList))
    return dict(stack[layer].state_dict())


@pytest.mark.parametrize(
    ("layers", "count", "expected"),
    [(6, 3, (0, 3, 5)), (12, 3, (0, 6, 11)), (12, 6, (0, 2, 4, 7, 9, 11)), (4, 4, (0, 1, 2, 3)), (4, 1, (3,)),
     (2, 2, (0, 1)), (1, 1, (0,))],
)  # fmt: skip
def test_layers_are_spread_evenly_with_the_first_and_last(layers: int, count: int, expected: tuple[int, ...]) -> None:
    assert spread(layers, count) == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_student_of_every_architecture_copies_the_layers_it_takes(architecture: str, tmp_path: Path) -> None:
    teacher = Bundle.from_pretrained(make_architecture(tmp_path / architecture, architecture, layers=3))
    plan = build_student(teacher, Student(take_layers=(0, 2)), seed=0)
    source = load_encoder(teacher)
    assert plan.manifest.architecture == architecture
    assert plan.manifest.max_length == 48
    assert plan.copied_embeddings
    assert plan.start == "layers 0, 2 of the teacher"
    for place, layer in enumerate((0, 2)):
        copied, original = layer_of(plan.encoder.backbone, place), layer_of(source.backbone, layer)
        assert copied.keys() == original.keys()
        assert all(torch.equal(copied[name], original[name]) for name in original)
    assert torch.equal(
        plan.encoder.backbone.get_input_embeddings().weight, source.backbone.get_input_embeddings().weight
    )
    stack = next(m for m in plan.encoder.backbone.modules() if isinstance(m, torch.nn.ModuleList))
    assert len(stack) == 2
    vectors = encode_ids(plan.encoder, [[2, 40, 41, 3], [2, 3]], teacher.manifest.pad_token_id)
    assert vectors.shape == (2, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_student_with_all_layers_is_its_teacher(architecture: str, tmp_path: Path) -> None:
    teacher = Bundle.from_pretrained(make_architecture(tmp_path / architecture, architecture, layers=2))
    ids = [tokens.ids for tokens in load_tokenizer(teacher)(["", *sentences(12, seed=3)])]
    pad = teacher.manifest.pad_token_id
    ours = encode_ids(build_student(teacher, Student(), seed=0).encoder, ids, pad)
    assert np.abs(ours - encode_ids(load_encoder(teacher), ids, pad)).max() < 1e-5


def test_a_depth_alone_takes_layers_evenly(teacher: Bundle) -> None:
    plan = build_student(teacher, Student(layers=3), seed=0)
    assert plan.start == "layers 0, 2, 3 of the teacher"
    assert plan.encoder.backbone.config.num_hidden_layers == 3


def test_layers_may_come_twice_and_in_any_order(teacher: Bundle) -> None:
    plan = build_student(teacher, Student(take_layers=(3, 0, 3)), seed=0)
    first, last = layer_of(plan.encoder.backbone, 0), layer_of(plan.encoder.backbone, 2)
    assert all(torch.equal(first[name], last[name]) for name in first)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Student(take_layers=(0, 4)), "student.take_layers names layer 4; .* has 0 to 3"),
        (Student(take_layers=(-1,)), "student.take_layers names layer -1; .* has 0 to 3"),
        (Student(layers=5), "student.layers is 5; .* has 4 layers to copy"),
        (Student(heads=5), "student.heads is 5, which does not divide the width 64"),
        (Student(max_length=65), "student.max_length is 65; the copied positions allow 64"),
        (Student(start="fresh", width=48, heads=5), "student.heads is 5, which does not divide the width 48"),
        (Student(start="fresh", take_layers=(0,)), "student.take_layers copies layers, and a fresh student has none"),
    ],
)
def test_a_shape_that_does_not_fit_its_start_is_refused(shape: Student, message: str, teacher: Bundle) -> None:
    with pytest.raises(RecipeError, match=message):
        build_student(teacher, shape, seed=0)


def test_heads_activation_and_length_of_copied_layers_can_be_changed(teacher: Bundle) -> None:
    plan = build_student(teacher, Student(heads=8, activation="relu", max_length=64), seed=0)
    assert plan.encoder.backbone.config.num_attention_heads == 8
    assert plan.encoder.backbone.encoder.layer[0].intermediate.intermediate_act_fn(torch.tensor(-1.0)) == 0
    assert plan.manifest.max_length == 64


def test_width_and_feed_forward_may_be_stated_as_they_are(teacher: Bundle) -> None:
    assert build_student(teacher, Student(width=64, feed_forward=128), seed=0).manifest.dimension == 64


def test_a_fresh_student_has_the_shape_asked_for_and_the_same_weights_for_the_same_seed(teacher: Bundle) -> None:
    shape = Student(start="fresh", layers=2, width=48, heads=6, feed_forward=96, activation="silu", max_length=20)
    one, same, other = (build_student(teacher, shape, seed=seed) for seed in (1, 1, 2))
    config = one.encoder.backbone.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (2, 48, 6)
    assert (config.intermediate_size, config.hidden_act, config.max_position_embeddings) == (96, "silu", 20)
    assert (one.manifest.dimension, one.manifest.max_length, one.copied_embeddings) == (48, 20, False)
    weights = [plan.encoder.state_dict() for plan in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(*(w["backbone.encoder.layer.0.attention.self.query.weight"] for w in weights[::2]))


def test_a_fresh_student_of_several_pooling_modes_is_as_wide_as_all_of_them(tmp_path: Path) -> None:
    teacher = Bundle.from_pretrained(make_headed(tmp_path / "t", pooling=("cls", "mean"), dense=16))
    plan = build_student(teacher, Student(start="fresh", layers=1, width=24, heads=2), seed=0)
    assert (plan.manifest.pooling, plan.manifest.dimension, plan.manifest.dense) == (("cls", "mean"), 48, ())


def test_a_student_from_another_checkpoint_keeps_that_ones_shape_and_the_teachers_prompts(
    teacher: Bundle, tmp_path: Path
) -> None:
    other = make_teacher(tmp_path / "other", layers=2, width=32, seed=7)
    plan = build_student(teacher, Student(start=str(other), layers=1), seed=0)
    assert plan.manifest.dimension == 32
    assert not plan.copied_embeddings
    assert plan.start == f"layers 1 of {other.name}"
    assert plan.tokenizer_of.root == other
    assert same_tokenizer(plan.tokenizer_of, teacher)


def test_a_tokenizer_with_one_other_word_is_another_tokenizer(teacher: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(teacher.root, tmp_path / "other"))
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["truncation"] = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert same_tokenizer(Bundle.from_pretrained(folder), teacher)
    vocab = content["model"]["vocab"]
    vocab["dog"], vocab["cat"] = vocab["cat"], vocab["dog"]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert not same_tokenizer(Bundle.from_pretrained(folder), teacher)
