"""Answers that cannot be learnt are told, and not learnt as none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizer_kinds import train

import edgebert.tokenizer
from edgebert.errors import DataError
from edgebert.manifest import Head
from edgebert.tasks import task_named
from edgebert.tasks.reading import TaskReader
from edgebert.tasks.task import Example

ANSWER, HEAD = task_named("answer"), Head("answer", "answer", "span")


def asked(context: str, *answers: str) -> Example:
    listed: list[dict[str, Any]] = [{"text": text, "answer_start": context.index(text)} for text in answers]
    return ANSWER.example({"question": "who?", "context": context, "answers": listed}, "row 7")


@pytest.fixture
def reader(tmp_path: Path) -> TaskReader:
    train("WordPiece").save(str(tmp_path / "tokenizer.json"))
    return TaskReader(edgebert.tokenizer.Tokenizer(tmp_path / "tokenizer.json", max_length=32), max_length=32, stride=8)


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_a_blank_answer_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="row 7: an answer is .*; a question without an answer has the list \\[\\]"):
        asked(f"the dog{text}", text)


def test_an_answer_without_a_token_is_refused(reader: TaskReader) -> None:
    with pytest.raises(DataError, match=r"row 7: the tokenizer leaves no token of the answer '\\u200b'"):
        ANSWER.lessons(reader, [asked("the dog \u200b and " + "a cat " * 40, "\u200b")], HEAD)


def test_one_of_several_answers_is_enough(reader: TaskReader) -> None:
    (lesson,) = ANSWER.lessons(reader, [asked("the dog \u200b", "\u200b", "dog")], HEAD)
    assert lesson.target[0] > 0
