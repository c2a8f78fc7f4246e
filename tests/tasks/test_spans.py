"""From logits of several windows to answers, and from labels of tokens to stretches."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebert.tasks.spans import Window, best_answers
from edgebert.tasks.tagging import merged

CONTEXT = "aa bb cc dd"
PLACES = ((0, 2), (3, 5), (6, 8), (9, 11))


def window(first: int, last: int, best: tuple[int, int], height: float) -> Window:
    """Tokens `first` to `last` of the context behind the one for no answer; start and end of `best` are so high."""
    offsets = [None, *PLACES[first : last + 1]]
    logits = np.zeros((len(offsets), 2), np.float32)
    for side, token in enumerate(best):
        logits[0 if token < 0 else token - first + 1, side] = height
    return Window(offsets, logits)


def answers(*windows: Window, may_be_none: bool = False, top_k: int = 1) -> list[str]:
    found = best_answers(CONTEXT, windows, top_k=top_k, longest=30, may_be_none=may_be_none)
    return [one.text for one in found]


def test_the_window_that_is_surest_answers() -> None:
    unsure, sure = window(0, 1, (0, 1), 3.0), window(1, 3, (2, 3), 6.0)
    assert answers(unsure, sure, top_k=2) == ["cc dd", "aa bb"]
    assert answers(sure, unsure) == ["cc dd"]


def test_there_is_no_answer_where_no_window_has_one() -> None:
    nothing, something = window(0, 1, (-1, -1), 9.0), window(2, 3, (2, 2), 9.0)
    assert answers(nothing, nothing, may_be_none=True) == [""]
    assert answers(nothing, something, may_be_none=True) == ["cc"]
    assert answers(nothing, may_be_none=False) != [""]


def test_no_answer_has_the_probability_of_the_window_where_it_is_least_probable() -> None:
    sure, unsure = window(0, 3, (-1, -1), 9.0), window(0, 3, (-1, -1), 2.0)
    found = best_answers(CONTEXT, [sure, unsure], top_k=9, longest=30, may_be_none=True)
    share = float(np.exp(2) / (np.exp(2) + 4))
    assert next(one.score for one in found if not one.text) == pytest.approx(share**2)


def test_tokens_of_no_width_are_no_answer() -> None:
    offsets = [None, (0, 2), (3, 3), (3, 5)]
    logits = np.zeros((4, 2), np.float32)
    logits[2] = 9.0
    assert answers(Window(offsets, logits)) != [""]


def of(labels: str, names: list[str]) -> NDArray[np.float32]:
    """Probabilities in which each of the labels is the most probable one."""
    made = np.full((len(labels.split()), len(names)), 0.1, np.float32)
    for token, label in enumerate(labels.split()):
        made[token, names.index(label)] = 0.8
    return made


@pytest.mark.parametrize(
    ("labels", "stretches"),
    [
        ("B-A L-A U-A O", [("aa bb", "A"), ("cc", "A")]),
        ("B-A E-A S-A O", [("aa bb", "A"), ("cc", "A")]),
        ("B-A M-A M-A E-A", [("aa bb cc dd", "A")]),
        ("I-A I-A B-A I-A", [("aa bb", "A"), ("cc dd", "A")]),
        ("B-A I-B O I-A", [("aa", "A"), ("bb", "B"), ("dd", "A")]),
        ("B-A L-A L-A O", [("aa bb", "A"), ("cc", "A")]),
        ("A A B O", [("aa bb", "A"), ("cc", "B")]),
        ("E-mail E-mail S-Bahn O", [("aa bb", "E-mail"), ("cc", "S-Bahn")]),
    ],
)
def test_labels_of_every_scheme_are_stretches(labels: str, stretches: list[tuple[str, str]]) -> None:
    names = sorted({*labels.split(), "O"})
    found = merged(CONTEXT, PLACES, of(labels, names), names)
    assert [(tag.text, tag.label) for tag in found] == stretches
    assert all(tag.score == pytest.approx(0.8) for tag in found)
