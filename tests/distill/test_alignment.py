"""Texts that two tokenizers read into the same tokens under other ids, and what is learnt of them token by token."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import make_architecture
from conftest import Result
from safetensors.torch import load_file, save_file

from edgebert.bundle import Bundle
from edgebert.distill.alignment import aligned_rows, same_tokens
from edgebert.distill.batches import Collator
from edgebert.distill.encoder import load_encoder, load_tokenizer
from edgebert.distill.layer_map import LayerPlan
from edgebert.distill.model import DistillationModel
from edgebert.distill.ragged import Ragged, RaggedWriter
from edgebert.distill.registry import OBJECTIVES
from edgebert.distill.teacher import TeacherCache
from edgebert.distill.traces import TracedTeacher

Cli = Callable[..., Result]
TOKENWISE = [name for name, objective in OBJECTIVES.items() if "tokens" in objective.needs]
RENAMED = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[UNK]": "<unk>"}
TEXTS = ["the dog runs.", "a cat sleeps over the river.", "ω dog", ""]


def renumbered(model: Path, folder: Path, *, shift: int = 7, without: str | None = None) -> Bundle:
    """The same model under ids moved by `shift`, with other names for its special tokens; without: a word's token."""
    shutil.copytree(model, folder)
    (folder / "vocab.txt").unlink()
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    size = len(content["model"]["vocab"])
    ids = {old: (old + shift) % size for old in range(size)}
    vocab = {RENAMED.get(t, t): ids[i] for t, i in content["model"]["vocab"].items()}
    if without is not None:
        vocab[f"{without}unused"] = vocab.pop(without)
    content["model"] |= {"vocab": vocab, "unk_token": "<unk>"}
    template = json.dumps(content["post_processor"])
    for name, new in RENAMED.items():
        template = template.replace(name, new)
    content["post_processor"] = json.loads(template)
    for special in content["post_processor"]["special_tokens"].values():
        special["ids"] = [ids[i] for i in special["ids"]]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    names = {f"{role}_token": RENAMED[f"[{role.upper()}]"] for role in ("cls", "sep", "pad", "unk")}
    (folder / "special_tokens_map.json").write_text(json.dumps(names), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": ids[0]}), encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    weights[name] = torch.roll(weights[name], shift, dims=0)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return Bundle.from_pretrained(folder)


def read(model: Bundle, texts: list[str], path: Path) -> Ragged:
    """The ids that the model reads."""
    with RaggedWriter(path, np.int32) as ids:
        for tokens in load_tokenizer(model)(texts):
            ids.append(tokens.ids)
    return Ragged(path)


@pytest.fixture
def teacher(tiny_teacher: Path) -> Bundle:
    """The tiny teacher, opened."""
    return Bundle.from_pretrained(tiny_teacher)


def batch_of(student: Bundle, teacher: Bundle, folder: Path) -> tuple[dict[str, Any], DistillationModel]:
    """A batch of `TEXTS` and the model of all objectives that compare tokens, one with itself layer by layer."""
    ours, theirs = read(student, TEXTS, folder / "ours"), read(teacher, TEXTS, folder / "theirs")
    cache = TeacherCache(teacher, theirs, hidden=True, precision="fp32")
    cache.fill(cache.missing())
    aligned = aligned_rows(ours, theirs, same_tokens(student, teacher))
    collator = Collator(ours, cache, pad_token_id=student.manifest.pad_token_id, hidden=True, aligned=aligned)
    model = DistillationModel(load_encoder(student), dict.fromkeys(TOKENWISE, 1.0))
    pairs = ((1, 1), (4, 4))
    model.plan = LayerPlan(hidden=((0, 0), *pairs), attention=pairs, relations=((4, 4),), heads=4, relation_heads=4)
    model.beside = TracedTeacher(teacher, model.plan)
    model.layer_maps = torch.nn.ModuleDict({"embeddings": torch.nn.Identity(), "layers": torch.nn.Identity()})
    return collator(range(len(TEXTS))), model


def test_the_same_tokens_under_other_ids_and_names_are_aligned(teacher: Bundle, tmp_path: Path) -> None:
    other = renumbered(teacher.root, tmp_path / "other")
    same = same_tokens(other, teacher)
    assert [same[i] for i in load_tokenizer(other)([TEXTS[2]])[0].ids] == load_tokenizer(teacher)([TEXTS[2]])[0].ids
    assert same[other.manifest.pad_token_id] == teacher.manifest.pad_token_id
    rows = aligned_rows(read(other, TEXTS, tmp_path / "a"), read(teacher, TEXTS, tmp_path / "b"), same)
    assert rows.tolist() == [True] * 4


def test_a_text_with_a_word_that_one_lacks_is_not_aligned(teacher: Bundle, tmp_path: Path) -> None:
    other = renumbered(teacher.root, tmp_path / "other", without="dog")
    ours, theirs = read(other, TEXTS, tmp_path / "a"), read(teacher, TEXTS, tmp_path / "b")
    assert aligned_rows(ours, theirs, same_tokens(other, teacher)).tolist() == [False, True, False, True]
    assert aligned_rows(theirs, ours, same_tokens(teacher, other)).tolist() == [False, True, False, True]


def test_the_same_model_under_other_ids_has_no_loss_where_it_is_aligned(teacher: Bundle, tmp_path: Path) -> None:
    other = renumbered(teacher.root, tmp_path / "other", without="dog")
    batch, model = batch_of(other, teacher, tmp_path)
    assert batch["aligned"].tolist() == [False, True, False, True]
    with torch.no_grad():
        losses, all_rows = model(**batch), model(**(batch | {"aligned": torch.ones(4, dtype=torch.bool)}))
    for name in TOKENWISE:
        assert abs(losses[name]) < 1e-5, name
        assert all_rows[name] > 1e-3, name


def test_the_loss_of_a_batch_is_that_of_its_aligned_texts_alone(teacher: Bundle, tmp_path: Path) -> None:
    other = renumbered(teacher.root, tmp_path / "other", without="dog")
    batch, model = batch_of(other, teacher, tmp_path)
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        losses = model(**batch)
        alone = model(**{name: part[[1, 3]] for name, part in batch.items() if name != "aligned"})
    for name in TOKENWISE:
        assert losses[name] > 1e-3
        assert losses[name] == pytest.approx(float(alone[name]), rel=1e-4), name


def test_a_batch_without_an_aligned_text_teaches_nothing_of_tokens(teacher: Bundle, tmp_path: Path) -> None:
    batch, model = batch_of(renumbered(teacher.root, tmp_path / "other"), teacher, tmp_path)
    batch["aligned"] = torch.zeros(4, dtype=torch.bool)
    losses = model(**batch)
    losses["loss"].backward()
    assert {name: float(losses[name].detach()) for name in TOKENWISE} == dict.fromkeys(TOKENWISE, 0.0)
    assert all(torch.isfinite(w.grad).all() for w in model.encoder.parameters() if w.grad is not None)


def test_a_start_with_the_teachers_tokens_under_other_ids_learns_hidden_states_by_default(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    other, out = make_architecture(tmp_path / "other", "roberta", layers=2), tmp_path / "student"
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--start", other, "--batch-size", "16",
                 "--epochs", "0.3", "--held-out", "60", "--precision", "fp32",
                 *(part for name in TOKENWISE[1:] for part in ("--objective", f"{name}=1")))  # fmt: skip
    assert result.code == 0, result.err
    assert "100.0 % of the texts are read into the teacher's own tokens; only those are compared" in result.err
    lineage = Bundle.open(out).manifest.lineage
    assert lineage["aligned_share"] == 1
    assert {name: lineage["objectives"][name] for name in TOKENWISE} == dict.fromkeys(TOKENWISE, 1.0)


@pytest.mark.parametrize(("vocabulary", "wanted"), [(155, 1.0), (130, 0.0)])
def test_a_trimmed_student_learns_hidden_states_where_a_tenth_of_the_texts_stays(
    vocabulary: int, wanted: float, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    arguments = ("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--layers", "2", "--batch-size", "16",
                 "--epochs", "0.3", "--held-out", "60", "--precision", "fp32", "--vocabulary", vocabulary)  # fmt: skip
    result = cli(*arguments)
    assert result.code == 0, result.err
    lineage = Bundle.open(out).manifest.lineage
    assert lineage["objectives"]["hidden"] == wanted
    assert (lineage["aligned_share"] >= 0.1) == bool(wanted)
    assert 0 < lineage["aligned_share"] < 1
