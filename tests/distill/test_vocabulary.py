"""Trimming `tokenizer.json` of the three kinds: covered text is read as before, other text falls back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tokenizers
from helpers import sentences
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import CHINESE, KINDS, SPECIAL, TEXT, train
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from edgebert.distill.vocabulary import always_kept, choose, rebuild, token_ids, unknown_id
from edgebert.errors import BundleError, RecipeError


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest) -> Tokenizer:
    """One tokenizer of every kind."""
    return train(request.param)


def content_of(tokenizer: Tokenizer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


def counts_of(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    ids = [i for e in tokenizer.encode_batch(texts, add_special_tokens=False) for i in e.ids]
    return np.bincount(ids, minlength=tokenizer.get_vocab_size())


def trimmed(whole: Tokenizer, texts: list[str], **how: Any) -> tuple[Tokenizer, Any]:
    content = content_of(whole)
    kept = choose(content, counts_of(whole, texts), **how)
    return Tokenizer.from_str(json.dumps(rebuild(content, kept))), kept


def test_text_of_kept_tokens_is_read_into_the_same_tokens(whole: Tokenizer) -> None:
    text = [*sentences(30, seed=1)[:12], *CHINESE[:5]]
    smaller, kept = trimmed(whole, text, coverage=1.0)
    assert len(kept) == smaller.get_vocab_size() < whole.get_vocab_size()
    for line in text:
        before, after = whole.encode(line), smaller.encode(line)
        assert after.tokens == before.tokens
        assert kept[after.ids].tolist() == before.ids
        assert smaller.decode(after.ids) == whole.decode(before.ids)


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.sampled_from([w for line in TEXT for w in line.split()]), min_size=1, max_size=8))
def test_whatever_the_text_a_trimmed_vocabulary_changes_only_words_of_dropped_tokens(words: list[str]) -> None:
    for whole, smaller, kept in every_trimmed():
        line = " ".join(words)
        before, after = whole.encode(line), smaller.encode(line)
        if set(before.ids) <= set(kept.tolist()):
            assert after.tokens == before.tokens
        assert after.ids[0] == smaller.token_to_id("[CLS]")
        assert after.ids[-1] == smaller.token_to_id("[SEP]")
        assert after.tokens.count("[UNK]") <= before.tokens.count("[UNK]")


_MADE: list[tuple[Tokenizer, Tokenizer, Any]] = []


def every_trimmed() -> list[tuple[Tokenizer, Tokenizer, Any]]:
    """Each kind, whole and trimmed to a tenth of the text."""
    if not _MADE:
        for kind in KINDS:
            tokenizer = train(kind)
            _MADE.append((tokenizer, *trimmed(tokenizer, TEXT[::40], coverage=0.8)))
    return _MADE


def test_what_other_text_falls_back_to_is_never_dropped(whole: Tokenizer) -> None:
    smaller, _ = trimmed(whole, ["a"], coverage=1.0)
    for line in [*TEXT[:40], *CHINESE[:10]]:
        after = smaller.encode(line)
        assert "[UNK]" not in after.tokens
        assert smaller.decode(after.ids).replace(" ", "") == whole.decode(whole.encode(line).ids).replace(" ", "")


def test_special_tokens_stay_in_their_places_everywhere(whole: Tokenizer) -> None:
    content = content_of(whole)
    smaller, kept = trimmed(whole, TEXT[:3], coverage=0.5)
    made = content_of(smaller)
    for token in SPECIAL:
        assert smaller.token_to_id(token) == kept.tolist().index(whole.token_to_id(token))
    assert [t["content"] for t in made["added_tokens"]] == [t["content"] for t in content["added_tokens"]]
    pair = smaller.encode("the dog", "a cat")
    assert pair.tokens[0] == "[CLS]"
    assert pair.tokens[-1] == "[SEP]"
    assert smaller.token_to_id("[UNK]") == (
        unknown_id(made) if unknown_id(content) is not None else smaller.token_to_id("[UNK]")
    )


def test_a_number_of_tokens_is_kept_to_and_the_most_frequent_ones_come_first(whole: Tokenizer) -> None:
    content, counts = content_of(whole), counts_of(whole, TEXT)
    least = len(choose(content, counts * 0, coverage=1.0))
    small, large = (set(choose(content, counts, keep=least + more).tolist()) for more in (8, 16))
    assert least <= len(small) <= least + 8
    assert small <= large
    assert int(counts[sorted(small)].sum()) < int(counts[sorted(large)].sum())


def test_a_coverage_is_reached_by_no_more_tokens_than_it_takes(whole: Tokenizer) -> None:
    content, counts = content_of(whole), counts_of(whole, TEXT)
    sizes = []
    for share in (0.5, 0.8, 0.95, 1.0):
        kept = choose(content, counts, coverage=share)
        assert counts[kept].sum() >= share * counts.sum()
        sizes.append(len(kept))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_all_parts_of_a_merged_token_stay() -> None:
    content = content_of(train("BPE"))
    ids = token_ids(content)
    longest = max((t for t in ids if t not in SPECIAL), key=len)
    counts = np.zeros(len(ids), np.int64)
    counts[ids[longest]] = 1
    made = rebuild(content, choose(content, counts, coverage=1.0))
    whole, smaller = Tokenizer.from_str(json.dumps(content)), Tokenizer.from_str(json.dumps(made))
    word = longest.replace("▁", "")
    assert longest in whole.encode(word).tokens
    assert smaller.encode(word).tokens == whole.encode(word).tokens
    assert len(made["model"]["merges"]) < len(content["model"]["merges"])


def test_merges_written_as_lines_are_read_too() -> None:
    content = content_of(train("BPE"))
    kept = choose(content, counts_of(train("BPE"), TEXT[:20]), coverage=1.0)
    lines = json.loads(json.dumps(content))
    lines["model"]["merges"] = [" ".join(merge) for merge in lines["model"]["merges"]]
    assert [m.split(" ") for m in rebuild(lines, kept)["model"]["merges"]] == rebuild(content, kept)["model"]["merges"]


def test_a_unigram_model_keeps_its_least_score_and_so_the_price_of_an_unknown_character() -> None:
    content = content_of(train("Unigram"))
    scores = [score for _, score in content["model"]["vocab"]]
    made = rebuild(content, choose(content, np.zeros(len(scores), np.int64), coverage=1.0))
    assert min(score for _, score in made["model"]["vocab"]) == min(scores)


def test_characters_that_the_text_does_not_have_can_be_given_up() -> None:
    content = json.loads(train("WordPiece").to_str())
    vocabulary, unknown = content["model"]["vocab"], content["model"]["unk_token"]
    for token in ("\u0436", "##\u0436", "\u3042", "q", "##q"):
        vocabulary.setdefault(token, len(vocabulary))
    counts = np.zeros(len(token_ids(content)), np.int64)
    counts[vocabulary["\u0436"]] = 2
    kept = set(choose(content, counts, characters="used").tolist())
    assert {vocabulary[token] for token in ("\u0436", "q", "##q", unknown)} <= kept
    assert not {vocabulary["##\u0436"], vocabulary["\u3042"]} & kept
    assert {vocabulary["##\u0436"], vocabulary["\u3042"]} <= set(choose(content, counts).tolist())


def test_bytes_and_the_mark_of_a_words_beginning_are_no_characters_to_give_up() -> None:
    content = json.loads(train("BPE").to_str())
    alphabet = {i for token, i in token_ids(content).items() if len(token) == 1}
    content["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    content["model"]["vocab"]["\u0120"] = len(content["model"]["vocab"])
    kept = set(choose(content, np.zeros(1 + max(token_ids(content).values()), np.int64), characters="used").tolist())
    assert alphabet | {content["model"]["vocab"]["\u0120"]} <= kept
    content = json.loads(train("Unigram").to_str())
    model = content["model"]
    model["vocab"] += [["\u2581", -99.0], ["\u3042", -1.0], ["\u3044", -500.0]]
    ids = token_ids(content)
    kept = set(choose(content, np.zeros(1 + max(ids.values()), np.int64), characters="used").tolist())
    assert {ids["\u2581"], ids["\u3044"]} <= kept  # the last one has the least score
    assert ids["\u3042"] not in kept


def test_a_chinese_character_inside_a_word_which_bert_never_reads_need_not_stay() -> None:
    vocab = {t: i for i, t in enumerate([*SPECIAL, "猫", "##猫", "a", "##a"])}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    assert "##猫" not in made.encode("a猫a猫猫").tokens
    assert {vocab[t] for t in ("猫", "a", "##a")} <= always_kept(content_of(made))
    assert vocab["##猫"] not in always_kept(content_of(made))
    made.normalizer = normalizers.BertNormalizer(handle_chinese_chars=False)
    assert vocab["##猫"] in always_kept(content_of(made))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"keep": 300, "coverage": 0.9}, "a vocabulary of 300 tokens and a coverage of 0.9 contradict each other"),
        ({"coverage": 0.0}, "the coverage is 0.0; it must be above 0 and at most 1"),
        ({"coverage": 1.5}, "the coverage is 1.5; it must be above 0 and at most 1"),
        ({"coverage": float("nan")}, "the coverage is nan; it must be above 0 and at most 1"),
        ({"keep": 7}, "a vocabulary of 7 tokens is too small: [0-9]+ are always kept"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(how: dict[str, Any], message: str) -> None:
    content = content_of(train("WordPiece"))
    with pytest.raises(RecipeError, match=message):
        choose(content, np.zeros(len(token_ids(content)), np.int64), **how)


def test_a_model_of_another_kind_is_refused() -> None:
    content = content_of(tokenizers.Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")))
    with pytest.raises(BundleError, match="the tokenizer's model is 'WordLevel'; .* of WordPiece, Unigram, BPE"):
        choose(content, np.zeros(2, np.int64))
