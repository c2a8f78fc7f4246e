"""`edgebert trim` and a trimmed vocabulary in a recipe, end to end, on tiny models with tokenizers of each kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import ARCHITECTURES, make_architecture
from conftest import Result
from helpers import WORDS, assert_refused, make_teacher, sentences
from tokenizer_kinds import CHINESE, KINDS, train
from tokenizers import Tokenizer, models, pre_tokenizers

from edgebert.bundle import Bundle
from edgebert.distill.corpus import open_corpus
from edgebert.distill.encoder import load_encoder, load_tokenizer, torch_embedder
from edgebert.distill.readings import foreign
from edgebert.distill.trim import trim
from edgebert.errors import BundleError
from edgebert.golden import read_golden, tokenizer_fault

Cli = Callable[..., Result]
FEW = [*sentences(30, seed=1)[:16], *CHINESE[:8]]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Some lines of text, which use some words of the tiny vocabulary."""
    path = tmp_path / "few.txt"
    path.write_text("\n".join(FEW) + "\n", encoding="utf-8")
    return path


def make_model(folder: Path, kind: str) -> Path:
    """A tiny BERT with a tokenizer of that kind."""
    import torch
    from transformers import BertConfig, BertModel

    make_teacher(folder, layers=1, width=32)
    tokenizer = train(kind)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").unlink()
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings["added_tokens_decoder"] = {
        str(tokenizer.token_to_id(t)): {"content": t, "special": True} for t in ("[PAD]", "[UNK]", "[MASK]")
    }
    path.write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(vocab_size=tokenizer.get_vocab_size() + 5, hidden_size=32, num_hidden_layers=1,
                        num_attention_heads=2, intermediate_size=64, max_position_embeddings=64,
                        initializer_range=0.08)  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def assert_same_vectors(before: Bundle, after: Bundle, texts: list[str]) -> None:
    """The same token strings and, in torch, the same vectors."""
    from transformers import AutoTokenizer

    ours = [t.ids for t in load_tokenizer(after)(texts)]
    theirs = AutoTokenizer.from_pretrained(after.root, local_files_only=True)
    assert ours == [theirs(text)["input_ids"] for text in texts]
    strings = [[load_tokenizer(b).backend.id_to_token(i) for i in t.ids] for b in (before, after)
               for t in load_tokenizer(b)(texts)]  # fmt: skip
    assert strings[: len(texts)] == strings[len(texts) :]
    first, second = (torch_embedder(bundle).encode(texts) for bundle in (before, after))
    assert np.abs(first - second).max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_trimmed_model_answers_covered_text_as_before(kind: str, few: Path, tmp_path: Path) -> None:
    before = Bundle.from_pretrained(make_model(tmp_path / "model", kind))
    after = trim(before, [few], tmp_path / "out", coverage=1.0)
    counted = [text for i, text in enumerate(dict.fromkeys(FEW)) if i % 10 != 9]
    assert_same_vectors(before, after, counted)
    config = json.loads((after.root / "config.json").read_text(encoding="utf-8"))
    facts = after.manifest.lineage["vocabulary"]
    assert config["vocab_size"] == facts["tokens"] < facts["tokens_before"]
    assert facts["corpus"]["changed"] == 0
    assert tokenizer_fault(load_tokenizer(after), read_golden(after)) == ""
    added = json.loads((after.root / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    assert {int(i): t["content"] for i, t in added.items()}.items() <= {
        load_tokenizer(after).backend.token_to_id(t): t for t in ("[PAD]", "[UNK]", "[MASK]")
    }.items()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_of_every_architecture_is_trimmed(architecture: str, few: Path, tmp_path: Path) -> None:
    before = Bundle.from_pretrained(make_architecture(tmp_path / architecture, architecture, layers=1))
    after = trim(before, [few], tmp_path / "out", coverage=1.0)
    assert_same_vectors(before, after, [text for i, text in enumerate(dict.fromkeys(FEW)) if i % 10 != 9])
    assert after.manifest.pad_token_id == before.manifest.pad_token_id
    table = load_encoder(after).backbone.get_input_embeddings()
    assert len(table.weight) == after.manifest.lineage["vocabulary"]["tokens"]


def test_the_command_tells_what_was_kept_and_the_bundle_holds_it(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    done = cli("trim", tiny_teacher, "--corpus", corpus_file, "--keep", 155, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    made = Bundle.open(tmp_path / "out")
    facts = made.manifest.lineage["vocabulary"]
    assert facts["tokens"] == 155
    assert f"vocabulary: 155 of {facts['tokens_before']} tokens kept" in done.out
    assert f"{100 * facts['held_out']['changed']:.2f} % of 40 texts" in done.out
    assert facts["corpus"]["texts"] == 360
    assert 0 < facts["held_out"]["changed"] < 1
    assert made.manifest.lineage["source"] == "tiny"
    words = (made.root / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    vocab = load_tokenizer(made).backend.get_vocab()
    assert words == sorted(vocab, key=lambda token: vocab[token])
    assert "trimmed to 155 of" in (made.root / "README.md").read_text(encoding="utf-8")
    as_json = cli("trim", tiny_teacher, "--corpus", corpus_file, "--keep", 155, "--json", "-o", tmp_path / "again")
    assert json.loads(as_json.out) == json.loads(json.dumps(dict(facts)))


def test_text_of_another_language_is_a_warning_with_the_share_of_unknown_tokens(
    tiny_teacher: Path, tmp_path: Path, cli: Cli
) -> None:
    path = tmp_path / "greek.txt"
    path.write_text("\n".join(f"η γάτα {'κοιμάται ' * i}" for i in range(1, 20)), encoding="utf-8")
    done = cli("trim", tiny_teacher, "--corpus", path, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert "edgebert: warning: 100.0 % of the text's tokens are [UNK]" in done.err
    assert Bundle.open(tmp_path / "out").manifest.lineage["vocabulary"]["corpus"]["unknown"] == 1


def test_prompts_are_read_as_before(few: Path, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path / "model", layers=1, width=32)
    word = next(word for word in WORDS if len(word) > 1 and not any(word in text for text in FEW[:10]))
    prompts = {"prompts": {"query": f"{word} "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    few.write_text("\n".join(FEW[:10]), encoding="utf-8")
    after = trim(Bundle.from_pretrained(folder), [few], tmp_path / "out", coverage=1.0)
    assert load_tokenizer(after).backend.token_to_id(word) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--keep", 90, "--coverage", 0.9), "--keep 90 and --coverage 0.9 contradict each other: give one"),
        (("--keep", 5), "a vocabulary of 5 tokens is too small"),
        (("--coverage", 0), "the coverage is 0.0; it must be above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(
    arguments: tuple[object, ...], message: str, tiny_teacher: Path, few: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out" / "bundle"
    out.parent.mkdir()
    assert_refused(cli("trim", tiny_teacher, "--corpus", few, *arguments, "-o", out), out, message)


def test_too_few_texts_are_refused(tiny_teacher: Path, tmp_path: Path, cli: Cli) -> None:
    path, out = tmp_path / "three.txt", tmp_path / "out" / "bundle"
    out.parent.mkdir()
    path.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert_refused(cli("trim", tiny_teacher, "--corpus", path, "-o", out), out, "3 distinct texts are too few", "10")


def test_an_id_that_no_token_has_is_refused(few: Path, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path / "model", layers=1, width=32)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 7777}), encoding="utf-8")
    with pytest.raises(BundleError, match="its files name the token id 7777, and tokenizer.json has none"):
        trim(Bundle.from_pretrained(folder), [few], tmp_path / "out")


def test_a_text_is_judged_by_a_tokenizer_of_any_kind(tmp_path: Path) -> None:
    folder = make_teacher(tmp_path / "model", layers=1, width=32)
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "dog": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    (tmp_path / "text.txt").write_text("a dog sleeps\na cat\na dog\n", encoding="utf-8")
    found = foreign(Bundle.from_pretrained(folder), open_corpus([tmp_path / "text.txt"]))
    assert found.unknown == pytest.approx(2 / 7)
    assert found.per_character == pytest.approx(7 / 18)


def _words(model: Path) -> set[str]:
    return set(json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])


def test_text_that_is_left_out_chooses_no_tokens(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    corpus, test = tmp_path / "corpus.txt", tmp_path / "test.txt"

    def kept(name: str, text: Path, *more: object) -> set[str]:
        done = cli("distill", tiny_teacher, "--corpus", text, "--layers", 1, "--vocabulary", 150, "--batch-size", 16,
                   "--epochs", 0, "--held-out", 40, "-o", tmp_path / name, *more)  # fmt: skip
        assert done.code == 0, done.err
        return _words(tmp_path / name)

    plain = kept("plain", corpus_file)
    words = [word for word in _words(tiny_teacher) if word.isalpha() and word not in plain][:6]
    test.write_text(
        "\n".join(" ".join([a, b] * n) for a in words for b in words for n in range(1, 9)), encoding="utf-8"
    )
    lines = [corpus_file.read_text(encoding="utf-8"), test.read_text(encoding="utf-8")]
    corpus.write_text("\n".join(lines), encoding="utf-8")
    assert kept("without", corpus, "--exclude", test) == plain
    assert set(words) <= kept("with", corpus)


@pytest.mark.parametrize("start", ["teacher", "fresh"])
def test_a_recipe_trims_the_students_vocabulary(
    start: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe = tmp_path / "recipe.toml"
    shape = "layers = 2" + ("\nwidth = 32" if start == "fresh" else "")
    recipe.write_text(f'[student]\nstart = "{start}"\n{shape}\nvocabulary = 120\n', encoding="utf-8")
    out = tmp_path / "student"
    done = cli("distill", tiny_teacher, "--corpus", corpus_file, "--recipe", recipe, "--batch-size", 16, "--epochs", 1,
               "--held-out", 40, "--precision", "fp32", "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    made = Bundle.open(out)
    assert len(load_encoder(made).backbone.get_input_embeddings().weight) == 120
    assert made.manifest.lineage["vocabulary"]["tokens"] == 120
    assert made.manifest.lineage["student"].endswith(", 120 tokens")
    assert made.manifest.quality[0].value > 0.3
