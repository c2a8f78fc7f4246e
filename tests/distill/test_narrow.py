"""Narrower copies: exact where nothing is lost, near where little is, and what does not fit."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, make_architecture, make_headed
from conftest import Result
from helpers import sentences

from edgebert.batching import pad
from edgebert.bundle import Bundle
from edgebert.distill.encoder import SentenceEncoder, load_encoder, load_tokenizer, torch_embedder
from edgebert.distill.layer_parts import parts_of
from edgebert.distill.narrow import narrow
from edgebert.distill.recipe import Student
from edgebert.distill.residual import basis, norm_of_embeddings, read_stream
from edgebert.distill.sizes import Sizes, sizes_of
from edgebert.distill.students import build_student
from edgebert.errors import RecipeError

Cli = Callable[..., Result]
SMALL, LARGE = Sizes(32, 4, 64), Sizes(56, 7, 80)
QUICK = ("--batch-size", "16", "--epochs", "0.3", "--held-out", "60", "--precision", "fp32")


def texts_for(model: Bundle, count: int = 60, seed: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Made-up sentences as the model's ids, and their mask."""
    ids, mask = pad([t.ids for t in load_tokenizer(model)(sentences(count, seed=seed))], model.manifest.pad_token_id)
    return torch.from_numpy(ids), torch.from_numpy(mask)


def widened(encoder: SentenceEncoder) -> SentenceEncoder:
    """The same function with states in a subspace of a wider stream, and with heads and neurons that add nothing.

    The subspace holds the direction of equal values, so that the norms subtract the same.
    """
    config = copy.deepcopy(encoder.backbone.config)
    if getattr(config, "embedding_size", None) == SMALL.width:
        config.embedding_size = LARGE.width
    LARGE.write(config)
    pooler = {} if config.model_type in ("distilbert", "electra") else {"add_pooling_layer": False}
    torch.manual_seed(1)
    made = SentenceEncoder(
        type(encoder.backbone)(config, **pooler), pooling=encoder.pooling, dense=[], normalize=True
    ).eval()
    even = torch.cat([torch.ones(LARGE.width, 1), torch.randn(LARGE.width, SMALL.width - 1)], 1)
    other = torch.cat([torch.ones(SMALL.width, 1), torch.randn(SMALL.width, SMALL.width - 1)], 1)
    (first, a), (second, b) = torch.linalg.qr(even), torch.linalg.qr(other)
    rotation = (first * a.diagonal().sign()) @ (second * b.diagonal().sign()).T
    with torch.no_grad():
        for name, table in made.backbone.named_modules():
            theirs: Any = dict(encoder.backbone.named_modules()).get(name)
            if isinstance(table, torch.nn.Embedding) and table.weight.shape[1] == LARGE.width:
                table.weight.copy_(theirs.weight @ rotation.T)
            elif isinstance(table, torch.nn.Embedding):
                table.weight[:, : theirs.weight.shape[1]] = theirs.weight
            elif name == "embeddings_project":
                table.weight.copy_(rotation @ theirs.weight)
                table.bias.copy_(rotation @ theirs.bias)
            elif isinstance(table, torch.nn.LayerNorm) and table.weight.shape[0] == LARGE.width:
                table.weight.fill_((SMALL.width / LARGE.width) ** 0.5)
        for ours, theirs in zip(parts_of(made), parts_of(encoder), strict=True):
            for one, other_ in zip((*ours.projections, ours.up), (*theirs.projections, theirs.up), strict=True):
                one.weight[: len(other_.weight)] = other_.weight @ rotation.T
                one.bias[: len(other_.weight)] = other_.bias
            for one, other_ in ((ours.out, theirs.out), (ours.down, theirs.down)):
                one.weight.zero_()
                one.weight[:, : other_.weight.shape[1]] = rotation @ other_.weight
                one.bias.copy_(rotation @ other_.bias)
    return made


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_wide_model_whose_states_lie_in_a_subspace_is_made_narrow_without_loss(
    architecture: str, tmp_path: Path
) -> None:
    bundle = Bundle.from_pretrained(make_architecture(tmp_path / "model", architecture, width=SMALL.width))
    small = load_encoder(bundle, fused_attention=True)
    wide, (ids, mask) = widened(small), texts_for(bundle)
    made = narrow(wide, SMALL, ids, mask)
    assert sizes_of(made.backbone.config) == SMALL
    assert made.backbone(input_ids=ids, attention_mask=mask).last_hidden_state.shape[-1] == SMALL.width
    other_ids, other_mask = texts_for(bundle, seed=5)
    with torch.no_grad():
        theirs, wides, ours = (m(other_ids, other_mask).sentence_embedding for m in (small, wide, made))
    for vectors in (wides, ours):
        assert (vectors @ vectors.T - theirs @ theirs.T).abs().max() < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_is_lost_where_nothing_is_left_out(architecture: str, tmp_path: Path) -> None:
    bundle = Bundle.from_pretrained(make_architecture(tmp_path / "model", architecture, layers=2))
    encoder, (ids, mask) = load_encoder(bundle, fused_attention=True), texts_for(bundle)
    made = narrow(encoder, sizes_of(encoder.backbone.config), ids, mask)
    other_ids, other_mask = texts_for(bundle, seed=5)
    with torch.no_grad():
        wide, ours = (m(other_ids, other_mask).sentence_embedding for m in (encoder, made))
    assert (wide - ours).abs().max() < 1e-5


def test_neurons_that_add_least_are_left_out_and_made_up_for(tiny_teacher: Path) -> None:
    bundle = Bundle.from_pretrained(tiny_teacher)
    encoder, (ids, mask) = load_encoder(bundle), texts_for(bundle)
    idle = torch.arange(0, 128, 2)
    with torch.no_grad():
        for part in parts_of(encoder):
            part.down.weight[:, idle] = 0
    made = narrow(encoder, Sizes(64, 4, 64), ids, mask)
    kept = [part.up.weight for part in parts_of(made)]
    for weight, part in zip(kept, parts_of(encoder), strict=True):
        assert (weight - part.up.weight[1::2]).abs().max() < 1e-4
    other_ids, other_mask = texts_for(bundle, seed=5)
    with torch.no_grad():
        wide, ours = (m(other_ids, other_mask).sentence_embedding for m in (encoder, made))
    assert (wide - ours).abs().max() < 1e-5


def test_a_corrected_start_is_nearer_than_a_random_one_of_the_same_shape(tiny_teacher: Path) -> None:
    bundle = Bundle.from_pretrained(tiny_teacher)
    encoder, (ids, mask) = load_encoder(bundle), texts_for(bundle, 200)
    made = narrow(encoder, Sizes(48, 3, 96), ids, mask)
    fresh = build_student(bundle, Student(start="fresh", layers=4, width=48, heads=3), seed=0).encoder.eval()
    other_ids, other_mask = texts_for(bundle, seed=5)
    upper = np.triu_indices(60, 1)
    with torch.no_grad():
        wide, ours, random = (m(other_ids, other_mask).sentence_embedding.numpy() for m in (encoder, made, fresh))
    found = [np.corrcoef((v @ v.T)[upper], (wide @ wide.T)[upper])[0, 1] for v in (ours, random)]
    assert found[0] > found[1] + 0.2
    again = narrow(encoder, Sizes(48, 3, 96), ids, mask)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))


def test_a_basis_holds_the_direction_of_equal_values_and_most_of_the_energy(tiny_teacher: Path) -> None:
    bundle = Bundle.from_pretrained(tiny_teacher)
    encoder, (ids, mask) = load_encoder(bundle), texts_for(bundle)
    assert norm_of_embeddings(encoder) is encoder.backbone.embeddings.LayerNorm
    stream = read_stream(encoder, ids, mask, heads=4)
    found = basis(stream, 16)
    assert (found.T @ found - torch.eye(16)).abs().max() < 1e-5
    assert (found.T @ torch.full((64,), 1 / 8) - 1 / 4).abs().max() < 1e-5
    random = torch.linalg.qr(torch.randn(64, 16, generator=torch.Generator().manual_seed(0)))[0]
    kept = [sum(float((s @ q).pow(2).sum()) for s in stream.states) for q in (found, random)]
    assert kept[0] > 1.5 * kept[1]


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "distilbert"])
def test_a_narrow_student_is_trained_and_opened_by_transformers(
    architecture: str, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    from transformers import AutoModel

    teacher, out = make_architecture(tmp_path / "teacher", architecture), tmp_path / "student"
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--layers", "2", "--width", "16",
                 "--feed-forward", "24", *QUICK)  # fmt: skip
    assert result.code == 0, result.err
    assert "student.width 16 is no multiple of 64" in result.err
    bundle = Bundle.open(out)
    assert bundle.manifest.lineage["student"] == (
        "layers 0, 2 of the teacher, width 16 of 32, heads 2 of 4, feed-forward 24 of 64"
    )
    assert sizes_of(AutoModel.from_pretrained(out).config) == Sizes(16, 2, 24)
    assert torch_embedder(bundle).encode(["a dog"]).shape == (1, 32)
    assert bundle.manifest.quality[0].value > 0.5


def test_a_dense_layer_reads_the_narrow_stream(corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    teacher, out = make_headed(tmp_path / "teacher", pooling=("cls", "mean"), dense=20), tmp_path / "student"
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--layers", "2", "--width", "24",
                 "--vocabulary", "155", *QUICK)  # fmt: skip
    assert result.code == 0, result.err
    manifest = Bundle.open(out).manifest
    assert (manifest.dense, manifest.dimension) == (("2_Dense",), 20)
    assert json.loads((out / "2_Dense" / "config.json").read_text(encoding="utf-8"))["in_features"] == 48
    assert manifest.lineage["student"].endswith("155 tokens, width 24 of 32, heads 3 of 4")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Student(width=128), "student.width is 128, and the layers copied from .* have 64: they can be made narrower"),
        (Student(feed_forward=256), "student.feed_forward is 256, and the layers copied from .* have 128: they can be"),
        (Student(width=40), "student.width is 40; the heads copied from .* have 16 dimensions each"),
        (Student(width=32, heads=4), "student.heads is 4; copied heads keep their 16 dimensions, so a width of 32 has"),
    ],
)
def test_a_narrow_shape_that_cannot_be_is_refused(shape: Student, message: str, tiny_teacher: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        build_student(Bundle.from_pretrained(tiny_teacher), shape, seed=0)
