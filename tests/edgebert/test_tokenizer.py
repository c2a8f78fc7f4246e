"""Text to token ids: the manifest's length and nothing that tokenizer.json stores beside."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from tokenizers import pre_tokenizers as pre

import edgebert
from edgebert.bundle import Bundle
from edgebert.errors import BudgetError, BundleError, EngineError
from edgebert.tokenizer import Tokenizer, TokenizerSoon, open_tokenizer


@pytest.fixture
def path(tiny_teacher: Path) -> Path:
    return tiny_teacher / "tokenizer.json"


def with_stored(path: Path, out: Path) -> Path:
    """The tokenizer with a truncation to 5 tokens and a padding to 20 stored in it."""
    stored = tokenizers.Tokenizer.from_file(str(path))
    stored.enable_truncation(5)
    stored.enable_padding(length=20)
    stored.save(str(out))
    data = json.loads(out.read_text(encoding="utf-8"))
    assert data["truncation"] and data["padding"]
    return out


def test_ids_have_the_special_tokens_around_the_words(path: Path) -> None:
    vocab = tokenizers.Tokenizer.from_file(str(path)).get_vocab()
    tokens = Tokenizer(path, max_length=48)(["The dog sleeps.", ""])
    assert tokens[0].ids == [vocab[t] for t in ("[CLS]", "the", "dog", "sleeps", ".", "[SEP]")]
    assert tokens[1].ids == [vocab["[CLS]"], vocab["[SEP]"]]
    assert not tokens[0].truncated
    assert not tokens[1].truncated


def test_stored_truncation_and_padding_are_ignored(path: Path, tmp_path: Path) -> None:
    texts = ["dog", "the old dog sleeps in the city and the cat reads", "dog cat " * 40]
    plain = Tokenizer(path, max_length=48)(texts)
    stored = Tokenizer(with_stored(path, tmp_path / "tokenizer.json"), max_length=48)(texts)
    assert stored == plain
    assert [len(t.ids) for t in stored] == [3, 14, 48]
    assert [t.truncated for t in stored] == [False, False, True]


@pytest.mark.parametrize(("words", "truncated"), [(6, False), (7, True)])
def test_a_text_is_cut_only_where_it_goes_on(path: Path, words: int, truncated: bool) -> None:
    (tokens,) = Tokenizer(path, max_length=8)(["dog " * words])
    assert len(tokens.ids) == 8
    assert tokens.truncated is truncated
    assert tokens.ids[-1] == 3  # the separator stays


@pytest.mark.parametrize("text", ["dog \ud800 cat", "\udfff", "\ud83d\ude00 dog", "\ud800" * 100])
def test_lone_surrogates_are_read_as_replacement_characters(path: Path, text: str) -> None:
    clean = "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else c for c in text)
    tokenizer = Tokenizer(path, max_length=48)
    assert tokenizer([text]) == tokenizer([clean])


def test_texts_stay_one_to_one(path: Path) -> None:
    tokenizer = Tokenizer(path, max_length=48)
    texts = ["dog", "", "今天 dog", "\ud800", "DOG", " \n\t ", "dog\0cat"]
    assert tokenizer(texts) == [tokenizer([text])[0] for text in texts]
    assert tokenizer([]) == []


def test_a_tokenizer_larger_than_the_vocabulary_does_not_match(path: Path) -> None:
    size = tokenizers.Tokenizer.from_file(str(path)).get_vocab_size()
    assert Tokenizer(path, max_length=48, vocab_size=size)(["dog"])[0].ids
    with pytest.raises(
        BundleError, match=f"has {size} tokens and the model's vocabulary {size - 1}: they do not match"
    ):
        Tokenizer(path, max_length=48, vocab_size=size - 1)


def test_a_bundle_is_checked_against_the_vocabulary_of_its_config(copied_bundle: Path) -> None:
    config = json.loads((copied_bundle / "config.json").read_text(encoding="utf-8"))
    size = config["vocab_size"]
    text = (copied_bundle / "config.json").read_text(encoding="utf-8")
    assert str(size) in text
    (copied_bundle / "config.json").write_text(text.replace(f'"vocab_size": {size}', f'"vocab_size": {size - 1}'))
    with pytest.raises(BundleError, match=f"has {size} tokens and the model's vocabulary {size - 1}"):
        open_tokenizer(Bundle.open(copied_bundle))
    with pytest.raises(BundleError, match="they do not match"):
        edgebert.load(copied_bundle)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b'{"version": "1.0", "model": {"type": "BPE"}}'])
def test_a_file_that_is_no_tokenizer_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=f"{path} is not a tokenizer that can be read: .") as caught:
        Tokenizer(path, max_length=8)
    assert "\n" not in str(caught.value)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tokenizer.json is not a tokenizer that can be read"):
        Tokenizer(tmp_path / "tokenizer.json", max_length=8)


def test_a_very_long_text_gives_the_same_tokens_and_is_not_tokenized_to_its_end(tiny_teacher: Path) -> None:
    tokenizer = Tokenizer(tiny_teacher / "tokenizer.json", max_length=16)
    whole = tokenizers.Tokenizer.from_file(str(tiny_teacher / "tokenizer.json"))
    whole.enable_truncation(16)
    for text in (
        "the dog runs " * 20_000,
        "\u4eca\u5929" * 20_000,
        " " * 100_000 + "the dog",
        "a" * 100_000,
        "the " + " " * 9_000,
    ):
        found = tokenizer([text])[0]
        encoded = whole.encode(text)
        assert (found.ids, found.truncated) == (encoded.ids, bool(encoded.overflowing)), text[:20]
    seen: list[int] = []
    one, batch = tokenizer.backend.encode, tokenizer.backend.encode_batch_fast

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(backend, name)

        def encode(self, text: str) -> object:
            seen.append(len(text))
            return one(text)

        def encode_batch_fast(self, texts: list[str]) -> object:
            seen.extend(map(len, texts))
            return batch(texts)

    backend = tokenizer.backend
    tokenizer.backend = Watched()  # type: ignore[assignment]
    for texts in (["the dog runs " * 20_000], ["the dog runs " * 20_000, "the dog"]):
        seen.clear()
        assert tokenizer(texts)[0].truncated
        assert len(seen) == len(texts)
        assert max(seen) <= 64 * 16


# Words, other scripts, blanks that are dropped, and what looks like one and is not, or not always.
_PIECES = st.sampled_from([
    "dog", "The", "xyzq", ".", "[SEP]", "[MASK]", "\u4eca\u5929", "e\u0301", "\u0301", "\U0001f600", "\0", "\x1c",
    "\x0b", "\x85", "\u200b", "\u2003", "\u2028", "\ufeff", "\ufffd", "\u00ad", *" \t\n\r\xa0\u3000",
])  # fmt: skip
_RUNS = st.lists(st.tuples(_PIECES, st.sampled_from([1, 1, 2, 3, 40, 700])), min_size=1, max_size=12)
_NORMALIZERS = [
    None, normalizers.BertNormalizer(), normalizers.BertNormalizer(clean_text=False, lowercase=False),
    normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()]),
    normalizers.Sequence([normalizers.NFD(), normalizers.BertNormalizer()]),
]  # fmt: skip


@given(
    _RUNS, st.sampled_from(_NORMALIZERS),
    st.sampled_from([pre.BertPreTokenizer(), pre.Whitespace(), pre.WhitespaceSplit()]),
)  # fmt: skip
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blanks_that_are_dropped_change_no_token(path: Path, runs: Any, normalizer: Any, splitter: Any) -> None:
    plain = tokenizers.Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(path, max_length=4)
    for backend in (plain, tokenizer.backend):
        backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    assert tokenizer._drops_blanks
    text = "".join(piece * times for piece, times in runs)
    squeezed, is_whole = tokenizer._beginning(text, len(text))
    assert is_whole and plain.encode(squeezed).ids == plain.encode(text).ids
    plain.enable_truncation(4)
    text = text.replace("\x0b", " ").replace("\x85", " ")  # where these part words, a long text may be cut in a word
    encoded, found = plain.encode(text), tokenizer([text])[0]
    assert (found.ids, found.truncated) == (encoded.ids, bool(encoded.overflowing))


def test_a_long_text_is_cut_at_other_blanks_too(path: Path) -> None:
    plain, text = tokenizers.Tokenizer.from_file(str(path)), "dog" * 40 + "\t" * 40 + "dog" * 40
    plain.enable_truncation(4)
    assert Tokenizer(path, max_length=4)([text])[0].ids == plain.encode(text).ids


@pytest.mark.parametrize(
    ("normalizer", "splitter", "added"),
    [
        (None, pre.Metaspace(), "[X]"), (None, pre.ByteLevel(), "[X]"), (None, None, "[X]"),
        (normalizers.Replace("  ", "\u2581"), pre.BertPreTokenizer(), "[X]"),
        (normalizers.Sequence([normalizers.NFC(), normalizers.Nmt()]), pre.BertPreTokenizer(), "[X]"),
        (None, pre.Sequence([pre.Metaspace(), pre.BertPreTokenizer()]), "[X]"),
        (None, pre.BertPreTokenizer(), "a  b"),
    ],
)  # fmt: skip
def test_where_blanks_count_all_of_them_are_read(path: Path, normalizer: Any, splitter: Any, added: str) -> None:
    plain, tokenizer = tokenizers.Tokenizer.from_file(str(path)), Tokenizer(path, max_length=4)
    for backend in (plain, tokenizer.backend):
        if normalizer is not None:
            backend.normalizer = normalizer
        backend.pre_tokenizer = splitter
        backend.add_tokens([added])
    plain.enable_truncation(4)
    assert not tokenizer._drops_blanks
    for text in ("dog" + " " * 3000 + "cat", " " * 5000 + added, "dog  cat " * 300):
        encoded, found = plain.encode(text), tokenizer([text])[0]
        assert (found.ids, found.truncated) == (encoded.ids, bool(encoded.overflowing))


def test_within_a_budget_no_text_is_read_without_end(path: Path) -> None:
    tokenizer, seen = Tokenizer(path, max_length=16), list[int]()
    backend = tokenizer.backend

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(backend, name)

        def encode(self, text: str) -> object:
            seen.append(len(text))
            return backend.encode(text)

    tokenizer.backend = Watched()  # type: ignore[assignment]
    tokenizer.within_budget()
    cat = backend.token_to_id("cat")
    assert tokenizer([" " * 1_000_000 + "cat"])[0].ids == [2, cat, 3]
    assert tokenizer(["\n\t" * 500_000 + "cat"])[0].ids == [2, cat, 3]
    with pytest.raises(
        BudgetError, match="a text of 1000000 characters has only 3 tokens in its first 3072, and reading"
    ):
        tokenizer(["a" * 1_000_000])
    assert max(seen) <= 3 * 64 * 16


def test_a_load_within_a_budget_says_which_text_breaks_it(tiny_bundle: Path) -> None:
    with edgebert.load(tiny_bundle, engine="onnxruntime", threads=1, memory_mb=2000) as encoder:
        assert encoder.encode(" " * 1_000_000).shape == (64,)
        with pytest.raises(BudgetError, match="would break memory_mb: shorten it, or load the model without memory_mb"):
            encoder.encode(["dog", "a" * 1_000_000])
        assert encoder.encode("dog").shape == (64,)


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "edgebert-tokenizer"]


def test_a_load_that_fails_leaves_no_thread(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError):
        edgebert.load(tiny_bundle, device="gpu", engine="onnxruntime")
    assert readers() == []


@pytest.mark.parametrize("begun", ["never", "once", "twice", "without threads"])
def test_a_tokenizer_is_read_once_by_a_thread_or_by_the_caller(
    begun: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    if begun == "without threads":
        monkeypatch.setattr(threading.Thread, "start", none)
    soon = TokenizerSoon(Bundle.open(tiny_bundle))
    assert readers() == []
    for _ in range({"never": 0, "twice": 2}.get(begun, 1)):
        soon.begin()
    found = soon.read()
    soon.begin()
    assert soon.read() is found
    assert found(["dog"])[0].ids[0] == 2
    assert readers() == []


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_wrong_with_a_tokenizer_is_raised_where_it_is_read(begun: bool, copied_bundle: Path) -> None:
    (copied_bundle / "tokenizer.json").write_bytes(bytes((copied_bundle / "tokenizer.json").stat().st_size))
    soon = TokenizerSoon(Bundle.open(copied_bundle))
    if begun:
        soon.begin()
    for _ in range(2):
        with pytest.raises(BundleError, match="is not a tokenizer that can be read"):
            soon.read()
