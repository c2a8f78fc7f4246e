"""From logits of several windows to answers, and from labels of tokens to stretches."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebert.tasks.spans import Window, _softmax, best_answers
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


def every_span(window: Window, longest: int) -> list[tuple[int, int, float]]:
    """All spans of a window with their probability, by the whole matrix, the best first and of equal ones the first."""
    inside = np.array([place is not None and place[0] < place[1] for place in window.offsets])
    inside[0] = True
    start, end = (_softmax(np.where(inside, window.logits[:, side], -np.inf)) for side in (0, 1))
    scores = np.tril(np.triu(np.outer(start, end)), longest - 1)
    scores[0], scores[:, 0] = 0, 0
    order = np.argsort(-scores.ravel(), kind="stable")
    found = [(*divmod(int(place), len(inside)), float(scores.flat[place])) for place in order]
    return [one for one in found if one[2] > 0]


@pytest.mark.parametrize("longest", [1, 3, 12, 400])
@pytest.mark.parametrize("heights", [2, 1000])  # few make ties
def test_the_best_spans_are_those_of_the_whole_matrix(longest: int, heights: int) -> None:
    rng, context = np.random.default_rng(longest + heights), "ab" * 12
    for top_k in (1, 7, 1000):
        places: list[tuple[int, int] | None] = [(2 * i, 2 * i + 2) for i in range(12)]
        places[5] = (10, 10)
        logits = (rng.integers(0, heights, (14, 2)) / heights).astype(np.float32)
        one = Window([None, *places, None], logits)
        found = best_answers(context, [one], top_k=top_k, longest=longest, may_be_none=False)
        wanted = every_span(one, longest)[:top_k]
        assert [(a.start, a.end) for a in found] == [(2 * first - 2, 2 * last) for first, last, _ in wanted]
        assert [a.score for a in found] == pytest.approx([score for _, _, score in wanted])


def test_a_long_window_needs_no_square_of_its_tokens() -> None:
    tokens, rng = 8192, np.random.default_rng(0)
    one = Window([None, *((i, i + 1) for i in range(tokens - 1))], rng.random((tokens, 2)).astype(np.float32))
    tracemalloc.start()
    try:
        best_answers("a" * tokens, [one], top_k=5, longest=30, may_be_none=True)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


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
