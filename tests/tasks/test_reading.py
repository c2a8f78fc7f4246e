"""Tokens of every kind of tokenizer stand where their words stand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tasks.made import write_rows
from tokenizer_kinds import KINDS, train
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

import edgebert.tokenizer
from edgebert.errors import BudgetError, DataError
from edgebert.manifest import Head
from edgebert.tasks import task_named
from edgebert.tasks.answer import _span
from edgebert.tasks.reading import Row, TaskReader
from edgebert.tasks.tag import joined
from edgebert.tasks.tagging import merged
from edgebert.tasks.task import IGNORED

PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "▁dog", "dog", "今天", "天", "今", "▁London", "s")
FRAME = {"special_tokens": [("<s>", 0), ("</s>", 2)], "single": "<s> $A </s>", "pair": "<s> $A </s> </s> $B </s>"}


def unigram(pre_tokenizer: Any) -> Tokenizer:
    made = Tokenizer(models.Unigram([(piece, -5.0) for piece in PIECES], unk_id=3, byte_fallback=False))
    made.pre_tokenizer, made.post_processor = pre_tokenizer, processors.TemplateProcessing(**FRAME)
    return made


def bytes_of_words(*, trim: bool) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(PIECES[:4]), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["the London dog runs"] * 50, trainer)
    made.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim, add_prefix_space=False
    )
    return made


TOKENIZERS = {
    "metaspace": lambda: unigram(pre_tokenizers.Metaspace()),
    "words, metaspace": lambda: unigram(
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    ),
    "bytes": lambda: bytes_of_words(trim=True),
    "bytes with blanks": lambda: bytes_of_words(trim=False),
}


def reading(backend: Tokenizer, path: Path, *, max_length: int, stride: int) -> TaskReader:
    """A reader with that tokenizer, which is kept in the folder `path`."""
    backend.save(str(path / "tokenizer.json"))
    made = edgebert.tokenizer.Tokenizer(path / "tokenizer.json", max_length=max_length)
    return TaskReader(made, max_length=max_length, stride=stride)


def places(row: Row) -> set[tuple[int, int]]:
    """Where its tokens stand."""
    return {place for place in row.offsets if place is not None}


@pytest.fixture(params=TOKENIZERS)
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> TaskReader:
    return reading(TOKENIZERS[request.param](), tmp_path, max_length=32, stride=8)


def test_what_learnt_all_finds_the_words(reader: TaskReader, tmp_path: Path) -> None:
    task = task_named("tag")
    row = {"tokens": ["the", "London", "今天", "dog", "😀"], "tags": ["O", "B-A", "B-B", "I-B", "B-A"]}
    (example,) = task.read([write_rows(tmp_path / "rows.jsonl", [row])])
    head = task.head([example])
    (lesson,), rows = task.lessons(reader, [example], head), task.rows(reader, example.text)
    logits = np.where(np.arange(len(head.labels)) == lesson.target[:, None], 9.0, -9.0).astype(np.float32)
    places, answers = joined(rows, [logits])
    found = merged(example.text, places, answers, head.labels)
    assert [(tag.text, tag.label) for tag in found] == [("London", "A"), ("今天dog", "B"), ("😀", "A")]


def test_heads_of_other_schemes_learn_what_they_have(reader: TaskReader, tmp_path: Path) -> None:
    row = {"tokens": ["the", "dog"], "tags": ["O", "B-A"]}
    examples = task_named("tag").read([write_rows(tmp_path / "rows.jsonl", [row])])
    for labels in (("I-A", "O"), ("A", "O")):
        (lesson,) = task_named("tag").lessons(reader, examples, Head("tag", "tag", "token", labels))
        assert set(lesson.target.tolist()) == {0, 1, IGNORED}
    with pytest.raises(DataError, match="the label 'B-A' is not among those of the training text: B-B, O"):
        task_named("tag").lessons(reader, examples, Head("tag", "tag", "token", ("B-B", "O")))


def test_an_answer_stands_without_the_blank_before_it(reader: TaskReader) -> None:
    context = "the London dog"
    (row,) = reader.contexts("the dog", context)
    first, last = (row.offsets[token] for token in _span(row, [(4, "London")], places(row)))
    assert first is not None
    assert last is not None
    assert context[first[0] : last[1]] == "London"


@pytest.mark.parametrize("answer", [" dog", "dog ", "cafe\u0301", "\u2600\ufe0f", "dog\u200b", "\u0643\u0650"])
def test_an_answer_that_tokens_do_not_cover_whole_is_one_all_the_same(answer: str, tmp_path: Path) -> None:
    reader = reading(train("WordPiece"), tmp_path, max_length=32, stride=8)
    context = f"the {answer} and the dog"
    (row,) = reader.contexts("what", context)
    first, last = _span(row, [(4, answer)], places(row))
    assert first > 0
    begin, end = row.offsets[first], row.offsets[last]
    assert begin is not None
    assert end is not None
    assert context[begin[0] : end[1]].strip() in answer
    assert _span(row, [(400, "elsewhere"), (4, answer)], places(row)) == (first, last)  # the first that is there


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_length", [16, 33])
def test_rows_are_those_of_the_tokenizers_own_truncation(kind: str, max_length: int, tmp_path: Path) -> None:
    theirs, rng = train(kind), random.Random(0)
    reader = reading(theirs, tmp_path, max_length=max_length, stride=4)
    words = ["the", "dog", "😀", "Zürich", "北京", "\u05e9\u05dc\u05d5\u05dd", "it's", "e-mail"]
    for _ in range(20):
        one, other = (" ".join(rng.choice(words) for _ in range(rng.choice((0, 1, 3, 10, 80)))) for _ in range(2))
        theirs.enable_truncation(max_length)
        wanted = theirs.encode(one, other)
        (row,), cut = reader.pairs([(one, other)])
        assert (list(row), row.types, bool(cut)) == (wanted.ids, wanted.type_ids, bool(wanted.overflowing))
        theirs.enable_truncation(max_length, stride=4)
        whole = theirs.encode(one)
        assert [list(row) for row in reader.windows(one)] == [part.ids for part in (whole, *whole.overflowing)]
        theirs.enable_truncation(max_length, stride=4, strategy="only_second")
        whole = theirs.encode("the", other)
        found = reader.contexts("the", other)
        assert [list(row) for row in found] == [part.ids for part in (whole, *whole.overflowing)]
        for row, part in zip(found, (whole, *whole.overflowing), strict=True):
            outside = [
                place is None for place, number in zip(row.offsets, part.sequence_ids, strict=True) if number != 1
            ]
            assert all(outside)


def test_two_long_texts_are_read_at_once(tmp_path: Path) -> None:
    reader = reading(train("WordPiece"), tmp_path, max_length=64, stride=8)
    (row,), cut = reader.pairs([("the dog " * 20_000, "a cat. " * 30_000)])  # all cuts of both would be millions
    assert (len(row), cut) == (64, 1)
    (row,), _ = reader.pairs([("a", " " * 50_000 + "the dog")])
    assert len(row) == len(reader.pairs([("a", "the dog")])[0][0])


def test_a_long_question_makes_no_window_of_a_token(tmp_path: Path) -> None:
    reader = reading(train("WordPiece"), tmp_path, max_length=64, stride=128)
    context = "the dog " * 1000
    question = "dog " * 40
    assert len(reader.contexts(question, context)) < 3 * 2000 / (64 - 43)
    with pytest.raises(DataError, match="has 60 tokens or more; at most 53 leave a context room in 64"):
        reader.contexts("dog " * 60, context)


def test_within_a_budget_a_long_text_is_refused(tmp_path: Path) -> None:
    reader = reading(train("WordPiece"), tmp_path, max_length=16, stride=4)
    reader._tokenizer.within_budget()
    reader.windows("the dog " * 300)
    with pytest.raises(BudgetError, match="a text of 8000 characters is read in windows, and more than 3072 would"):
        reader.windows("the dog " * 1000)
