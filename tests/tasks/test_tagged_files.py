"""Tokens, tags and stretches as rows have them: how they are joined, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tasks.made import write_rows

from edgebert.errors import DataError
from edgebert.tasks import task_named
from edgebert.tasks.tagged_files import Joined, joined_words

TAG = task_named("tag")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("the dog runs", "the dog runs"),
        ("在 2012 年 iPhone 5 发布 。", "在2012年iPhone 5发布。"),
        (" ".join("在2012年iPhone5发布"), "在2012年iPhone5发布"),
        (" ".join("a1b2"), "a 1 b 2"),
        ("東京 タワー に Ada が", "東京タワーにAdaが"),
        ("서울 시 는 크다", "서울 시 는 크다"),
        ("ㅋㅋ 서울", "ㅋㅋ 서울"),
        ("年", "年"),
    ],
)
def test_words_are_joined_as_their_script_is_written(words: str, text: str) -> None:
    assert joined_words(words.split()) == text
    one = TAG.example({"tokens": words.split(), "tags": ["O"] * len(words.split())}, "row 1")
    assert [one.text[start:end] for start, end in one.target.words] == words.split()


def test_places_are_those_of_the_rows_own_text(tmp_path: Path) -> None:
    row = {"text": "Ada's  dog, the dog", "tokens": ["Ada", "'s", "dog", "dog"], "tags": ["B-P", "O", "O", "B-A"]}
    path = write_rows(tmp_path / "x.jsonl", [row, row | {"text": None}])
    own, joined = TAG.read([path])
    assert own.text == row["text"]
    assert own.target.words == ((0, 3), (3, 5), (7, 10), (16, 19))
    assert joined.text == "Ada 's dog dog"
    asked = list(TAG.read_inputs(path))
    assert asked == [own.text, joined.text]
    assert [isinstance(one, Joined) for one in asked] == [False, True]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"text": "a dog", "tokens": ["a", "cat"], "tags": ["O", "B-A"]},
            r"row 1: tokens\[1\], 'cat', is not in the text behind 'a'; without the column 'text'",
        ),
        (
            {"text": "dog cat", "tokens": ["cat", "dog"], "tags": ["O", "B-A"]},
            r"row 1: tokens\[1\], 'dog', is not in the text behind 'dog cat'",
        ),
        ({"text": 1, "tokens": ["a"], "tags": ["O"]}, "row 1, column 'text' holds 1; a text is needed"),
        ({"tokens": ["", "dog"], "tags": ["O", "B-A"]}, r"row 1: tokens\[0\] is ''; a token that is not blank"),
        ({"tokens": ["dog", " \t"], "tags": ["B-A", "O"]}, r"row 1: tokens\[1\] is ' \\t'; a token that is not"),
        ({"tokens": ["a"], "tags": [" "]}, "row 1: the tag of 'a' is empty; 'O' is outside of all"),
        ({"tokens": ["a"], "tags": ["B-\ud800"]}, r"the tag of 'a' is 'B-\\ud800', with half a surrogate pair"),
        ({"tokens": ["a"], "tags": ["B-"]}, "the tag of 'a' is 'B-', a prefix without a name"),
        ({"tokens": "['Ada', 'is']", "tags": "B-P O"}, r"column 'tokens' holds .*, a list written as text; lists need"),
        ({"tokens": "Ada is", "tags": '["B-PER", "O"]'}, "column 'tags' holds .*, a list written as text; lists need"),
        ({"tokens": "['Ada'\n 'is']", "tags": "B-P O"}, "a list written as text"),
        ({"tokens": "[Ada, is]", "tags": "[B-P, O]"}, "a list written as text"),
        ({"tokens": "[]", "tags": "[]"}, "a list written as text"),
        (
            {"text": "a dog", "label": "x"},
            "row 1 needs the columns 'tokens' and 'tags', or 'text' and 'entities'; it has 'text', 'label'",
        ),
        ({"tokens": ["a"]}, "row 1 needs the columns 'tokens' and 'tags', .*; it has 'tokens'"),
        ({"text": "a", "entities": None}, "column 'entities' holds None; a list of start, end and label is needed"),
        ({"text": "a", "entities": [[0, 1, " "]]}, "has the label ' '; a name is needed"),
        ({"text": "a", "entities": [[0, 1, "O "]]}, "has the label 'O '; a name is needed"),
        ({"text": "a", "entities": [[0, 1, "\udfff"]]}, "the label of the entity .* with half a surrogate pair"),
    ],
)
def test_what_is_refused(row: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        TAG.example(row, "row 1")


@pytest.mark.parametrize("words", ["[ Ada , is ]", "[1] see [2]", '[ " yes " ]', "[", "[a,b]"])
def test_brackets_are_tokens(words: str) -> None:
    one = TAG.example({"tokens": words, "tags": "O " * len(words.split())}, "row 1")
    assert one.text == words


def test_blanks_around_tokens_and_tags_are_no_part_of_them() -> None:
    one = TAG.example({"tokens": [" dog", "runs\n"], "tags": ["B-A ", " O"]}, "row 1")
    assert (one.text, one.target.words, one.target.labels) == ("dog runs", ((0, 3), (4, 8)), ("B-A", "O"))
    one = TAG.example({"text": "dog", "entities": [[0, 3, " A "]]}, "row 1")
    assert one.target.labels == ("B-A", "I-A", "I-A")


def test_blank_tokens_are_refused_where_nothing_is_tagged(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", [{"tokens": ["a"]}, {"tokens": ["a", ""]}])
    with pytest.raises(DataError, match=r"x.jsonl: row 2: tokens\[1\] is ''; a token that is not blank is needed"):
        list(TAG.read_inputs(path))
