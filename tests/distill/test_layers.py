"""Layer maps, traces of every architecture, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, make_architecture
from conftest import Result
from helpers import make_teacher, reframed, sentences

from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_encoder, torch_embedder
from edgebert.distill.layer_map import LayerPlan, Shape, map_layers
from edgebert.distill.pairs import prepare_pairs
from edgebert.distill.registry import Objectives
from edgebert.distill.traces import TracedTeacher
from edgebert.errors import RecipeError

Cli = Callable[..., Result]
QUICK = ("--batch-size", "16", "--epochs", "0.3", "--held-out", "60", "--precision", "fp32")


def test_the_strategies_are_those_of_the_papers() -> None:
    three, four, six = (Shape(layers, 8, 2) for layers in (3, 4, 6))
    assert map_layers("uniform", three, six) == ((0, 0), (1, 2), (2, 4), (3, 6))
    assert map_layers("uniform", four, six) == ((0, 0), (1, 2), (2, 3), (3, 5), (4, 6))
    assert map_layers("top", three, six) == ((0, 0), (1, 4), (2, 5), (3, 6))
    assert map_layers("last", three, six) == ((3, 6),)
    with pytest.raises(RecipeError, match="maps a student of 6 layers .* and this one has 3"):
        map_layers("uniform", six, three)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_traces_are_what_the_layers_compute(architecture: str, tmp_path: Path) -> None:
    bundle = Bundle.from_pretrained(make_architecture(tmp_path / "model", architecture))
    plan = LayerPlan(hidden=((0, 0), (1, 1), (2, 3)), attention=((1, 2),), relations=((1, 3),))
    ids, mask = torch.tensor([[2, 9, 10, 3], [2, 11, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    trace = TracedTeacher(bundle, plan)(ids, mask)
    encoder = load_encoder(bundle)
    with torch.no_grad():
        states = encoder.backbone(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    assert set(trace.hidden) == {0, 1, 3}
    for number, found in trace.hidden.items():
        assert torch.allclose(found[mask == 1], states[number][mask == 1], atol=1e-5)
    assert set(trace.projections) == {2, 3}
    named = dict(encoder.named_modules())
    place = {"mpnet": "encoder.layer.2.attention.attn.k", "distilbert": "transformer.layer.2.attention.k_lin"}
    linear = named[f"backbone.{place.get(architecture, 'encoder.layer.2.attention.self.key')}"]
    assert torch.allclose(trace.projections[3][1][mask == 1], linear(states[2])[mask == 1], atol=1e-5)


def test_a_narrow_student_learns_layers_through_maps_and_relations_of_its_own_heads(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[student]\nstart = "fresh"\nlayers = 2\nwidth = 24\nheads = 3\nfeed_forward = 48\n'
        "[objectives]\nlayers = 1\nrelations = 1\nrelation_heads = 8\nrelation_layer = 3\n"
        "layer_pairs = [[0, 0], [2, 3]]\n"
    )
    out = tmp_path / "student"
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--recipe", recipe, *QUICK)
    assert result.code == 0, result.err
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert (config["hidden_size"], config["num_attention_heads"]) == (24, 3)
    assert Bundle.open(out).manifest.lineage["objectives"]["relations"] == 1


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ("layers = 1\nlayer_pairs = [[0, 0], [1, 5]]", "names layer 5 of the teacher, which has 0 (the emb"),
        ("attention = 1\nlayer_pairs = [[3, 1]]", "layer_pairs names layer 3 of the student"),
        ("layers = 1\nlayer_pairs = [[1, 2, 3]]", "layer_pairs holds [1, 2, 3]; a pair"),
        ("layers = 1\nlayer_pairs = []", "layer_pairs is empty"),
        ("attention = 1\nlayer_pairs = [[0, 0]]", "objectives.attention has no layers to compare"),
        ("relations = 1\nrelation_layer = 5", "relation_layer is 5; the teacher has layers 1 to 4"),
        ("relations = 1\nrelation_heads = 7", "relation_heads is 7, which does not divide both widths, 64"),
        ("relations = 1\nrelation_heads = 0", "relation_heads is 0; it must be"),
        ("matryoshka = [64]", "matryoshka names 64 dimensions; the student's vectors have 64"),
        ("matryoshka = [-1]", "matryoshka is -1; it must be"),
        ("temperature = 0", "temperature is 0.0; it must be"),
        ("contrastive = 1", "objectives.contrastive learns from pairs, and none are given"),
        ("warmth = 1", "unknown key 'warmth'; known are aligned, attention, contrastive, hidden"),
        ("layers = nan", "objectives.layers is nan; it must be"),
        ("attention = -2", "objectives.attention is -2.0; it must be"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_clear_error(
    settings: str, part: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "student"
    recipe.write_text(f"[student]\nlayers = 2\n[objectives]\n{settings}\n", encoding="utf-8")
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--recipe", recipe, *QUICK)
    assert (result.code, out.exists()) == (1, False)
    assert result.err.splitlines()[-1].startswith("edgebert: ")
    assert part in result.err.splitlines()[-1]


def test_attention_wants_the_teachers_heads_and_alignment_its_space(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    arguments = ("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "student", "--start", "fresh",
                 "--layers", "1", "--width", "24", "--heads", "2", *QUICK)  # fmt: skip
    result = cli(*arguments, "--objective", "attention=1")
    assert result.code == 1
    assert "the student has 2 heads and the teacher 4" in result.err
    result = cli(*arguments, "--objective", "aligned=1", "--projection", "drop")
    assert result.code == 1
    assert "objectives.aligned wants the student's vectors in the teacher's space, of 64 dimensions" in result.err


@pytest.mark.parametrize("name", ["hidden", "token_cosine", "layers", "attention", "relations"])
def test_what_compares_tokens_wants_the_teachers_tokenizer(
    name: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    other = reframed(make_architecture(tmp_path / "other", "roberta", layers=2))
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "student", "--start", other, *QUICK,
                 "--objective", f"{name}=1")  # fmt: skip
    assert result.code == 1
    assert f"objectives.{name} compares token by token" in result.err


def test_weights_list_what_is_on_or_is_by_default() -> None:
    assert Objectives().weights(aligned=False) == {"vector": 1.0, "similarity": 1.0, "hidden": 0.0}
    assert Objectives(vector=0, relations=2).weights(aligned=True) == {
        "vector": 0.0, "similarity": 1.0, "hidden": 1.0, "relations": 2.0,
    }  # fmt: skip


def test_two_teachers_share_the_losses_and_a_short_vector_keeps_the_structure(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    other = make_teacher(tmp_path / "other", width=32, seed=5)
    recipe, text = tmp_path / "recipe.toml", sentences(60, seed=9)

    start = "[student]\nlayers = 2\n[objectives]\nhidden = 0\nvector = 0\nmatryoshka = [16]\n"

    def agreement_with_other(name: str, more: str) -> float:
        recipe.write_text(start + more, encoding="utf-8")
        result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / name, "--recipe", recipe,
                     *QUICK, "--epochs", "4", "--learning-rate", "1e-3")  # fmt: skip
        assert result.code == 0, result.err
        ours, theirs = (torch_embedder(Bundle.from_pretrained(path)).encode(text) for path in (tmp_path / name, other))
        upper = np.triu_indices(len(text), 1)
        return float(np.corrcoef((ours @ ours.T)[upper], (theirs @ theirs.T)[upper])[0, 1])

    both = agreement_with_other("both", f'[[teachers]]\nmodel = "{other.as_posix()}"\nweight = 50\n')
    assert both > agreement_with_other("one", "") + 0.02
    (told,) = Bundle.open(tmp_path / "both").manifest.lineage["teachers"]
    assert told["teacher"] == "other"


def test_teachers_that_nothing_is_learnt_from_are_refused(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    other, recipe = make_teacher(tmp_path / "other", width=32, seed=5), tmp_path / "recipe.toml"
    recipe.write_text(
        "[student]\nlayers = 2\n[objectives]\nvector = 0\nsimilarity = 0\nhidden = 0\naligned = 1\n"
        f'[[teachers]]\nmodel = "{other.as_posix()}"\n', encoding="utf-8",
    )  # fmt: skip
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "out", "--recipe", recipe, *QUICK)
    assert result.code == 1
    assert result.err.endswith(
        "edgebert: 1 further teachers are given, and nothing is learnt from them: give one of objectives.vector, mse, "
        "similarity a weight above 0, or leave them out\n"
    )


def test_a_text_that_is_in_two_pairs_on_either_side_is_no_negative(tiny_teacher: Path, tmp_path: Path) -> None:
    rows = [("a dog", "a cat"), ("a cat", "a dog"), ("rain", "tea"), ("rain", "a book"), ("snow", "ice")]
    (tmp_path / "pairs.tsv").write_text(
        "anchor\tpositive\n" + "".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8"
    )
    teacher = Bundle.from_pretrained(tiny_teacher)
    pairs = prepare_pairs([tmp_path / "pairs.tsv"], ("anchor", "positive"), teacher, tmp_path / "ids", max_length=32)
    drawn = pairs.draw([3, 1, 4, 1, 5], 0)
    texts = [tuple(ids[mask == 1].tolist()) for ids, mask in zip(drawn["pair_ids"], drawn["pair_mask"], strict=True)]
    held = [{texts[i], texts[5 + i]} for i in range(5)]
    expected = [[bool(one & other) for other in held] for one in held]
    assert drawn["pair_same"].tolist() == expected
    assert sum(map(sum, expected)) == 5 + 4


def test_pairs_are_learnt_and_a_column_that_is_missing_is_named(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    texts, pairs = sentences(200, seed=3), tmp_path / "pairs.tsv"
    lines = [f"{a}\t{b}" for a, b in zip(texts[:100], texts[100:], strict=True)]
    pairs.write_text("anchor\tpositive\n" + "\n".join(lines) + "\n", encoding="utf-8")
    arguments = ("distill", tiny_teacher, "--corpus", corpus_file, "--layers", "2", *QUICK, "--epochs", "6",
                 "--learning-rate", "1e-3", "--pairs", pairs)  # fmt: skip
    result = cli(*arguments, "-o", tmp_path / "student", "--objective", "contrastive=1")
    assert result.code == 0, result.err
    assert Bundle.open(tmp_path / "student").manifest.lineage["pairs"]["count"] == 100
    found = []
    for model in (tmp_path / "student", tiny_teacher):
        vectors = torch_embedder(Bundle.from_pretrained(model)).encode(texts)
        found.append(float(np.mean((vectors[:100] @ vectors[100:].T).argmax(axis=1) == np.arange(100))))
    assert found[0] > found[1] + 0.3
    result = cli(*arguments, "-o", tmp_path / "off")
    assert "pairs are given, and objectives.contrastive is 0" in result.err
    pairs.write_text("anchor\tanswer\na\tb\n", encoding="utf-8")
    result = cli(*arguments, "-o", tmp_path / "wrong", "--objective", "contrastive=1")
    assert result.code == 1
    assert "has no column 'positive'; it has 'anchor', 'answer'" in result.err
    pairs.write_text("anchor\tpositive\na\tb\n\t\n", encoding="utf-8")
    result = cli(*arguments, "-o", tmp_path / "few", "--objective", "contrastive=1")
    assert "1 pairs are too few" in result.err
