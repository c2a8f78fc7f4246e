"""Tokens of every kind of tokenizer stand where their words stand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from edgebert.tasks import task_named
from edgebert.tasks.answer import _span
from edgebert.tasks.reading import TaskReader
from edgebert.tasks.tag import joined
from edgebert.tasks.tagging import merged

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


@pytest.fixture(params=TOKENIZERS)
def reader(request: pytest.FixtureRequest) -> TaskReader:
    made: Any = SimpleNamespace(backend=TOKENIZERS[request.param]())
    return TaskReader(made, max_length=32, stride=8)


def test_what_learnt_all_finds_the_words(reader: TaskReader) -> None:
    task = task_named("tag")
    row = {"tokens": ["the", "London", "今天", "dog", "😀"], "tags": ["O", "B-A", "B-B", "I-B", "B-A"]}
    example = task.example(row, "row 1")
    head = task.head([example])
    (lesson,) = task.lessons(reader, [example], head)
    logits = np.where(np.arange(len(head.labels)) == lesson.target[:, None], 9.0, -9.0).astype(np.float32)
    places, answers = joined([lesson.row], [logits])
    found = merged(example.text, places, answers, head.labels)
    assert [(tag.text, tag.label) for tag in found] == [("London", "A"), ("今天 dog", "B"), ("😀", "A")]


def test_an_answer_stands_without_the_blank_before_it(reader: TaskReader) -> None:
    context = "the London dog"
    (row,) = reader.contexts("the dog", context)
    first, last = (row.offsets[token] for token in _span(row, [(4, "London")]))
    assert first is not None
    assert last is not None
    assert context[first[0] : last[1]] == "London"
