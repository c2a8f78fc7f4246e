"""Summaries are sentences of the text, the central ones, none twice."""

from __future__ import annotations

import numpy as np
import pytest

import edgebert
from edgebert.errors import DataError, RecipeError

TEXT = (
    "The ferry to the island was cancelled because of the storm. Dr. Hill's boat could not leave the harbour either. "
    "All ships stay in the harbour until the storm is over.\n\nA bakery in the town sells rye bread! "
    "The storm is expected to end on Friday, when the ferry sails again."
)
CHINESE = (
    "台风来了，所有的渡轮都停航。船都留在港口，等台风过去。"
    "“周五台风才会过去。”面包店今天卖黑麦面包！渡轮要等台风过去才开。"
)


class Vectors:
    """A model whose vectors count words or characters."""

    def encode(self, texts: list[str]) -> np.ndarray:
        parts = [text.lower().split() if " " in text else list(text) for text in texts]
        known = sorted({word.strip(".!,") for part in parts for word in part})
        found = np.array([[sum(w.strip(".!,") == k for w in part) for k in known] for part in parts], np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("text", [TEXT, CHINESE])
def test_sentences_of_the_text_in_its_order(text: str) -> None:
    found = edgebert.summarize(text, sentences=2, model=Vectors())  # type: ignore[arg-type]
    assert len(found) == 2
    assert found[0].end <= found[1].start
    assert all(text[one.start : one.end] == one.text for one in found)
    assert not any("bakery" in one.text or "面包" in one.text for one in found)


def test_no_sentence_is_cut_at_a_title_or_chosen_twice() -> None:
    doubled = TEXT + " " + TEXT.split(". ")[0] + "."
    every = edgebert.summarize(doubled, sentences=99, model=Vectors())  # type: ignore[arg-type]
    assert "Dr. Hill's boat could not leave the harbour either." in [one.text for one in every]
    assert len(every) == 6
    assert sum(one.score for one in every) == pytest.approx(1)
    two = edgebert.summarize(doubled, sentences=2, model=Vectors())  # type: ignore[arg-type]
    assert two[0].text != two[1].text


def test_a_plain_quote_closes_the_chinese_sentence_that_it_opened() -> None:
    text = '他问："在吗？"没人答。"不在。"他说："走吧！""好。"'
    every = edgebert.summarize(text, sentences=99, model=Vectors())  # type: ignore[arg-type]
    assert [one.text for one in every] == ['他问："在吗？"', "没人答。", '"不在。"', '他说："走吧！"', '"好。"']


def test_a_named_model_is_opened() -> None:
    (one,) = edgebert.summarize(TEXT, sentences=1)
    assert "storm" in one.text


@pytest.mark.parametrize(
    ("text", "count", "told"),
    [("", 3, "a string that is not blank"), ("x", 0, "sentences is 0"), ("a. " * 2100, 1, "2100 sentences")],
)
def test_what_cannot_be_summarized_is_one_error(text: str, count: int, told: str) -> None:
    with pytest.raises((DataError, RecipeError), match=told):
        edgebert.summarize(text, sentences=count, model=Vectors())  # type: ignore[arg-type]
