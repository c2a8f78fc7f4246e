"""From start and end logits to the best answers in a context that may need several windows.

Source: Devlin et al. 2019, arXiv:1810.04805, for the score of a span and of no answer; Rajpurkar et al. 2018,
arXiv:1806.03822.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebert.tasks.results import Answer


@dataclass(frozen=True)
class Window:
    """A stretch of the context as the model read it.

    offsets: places in the context of each token, None for tokens that are none of the context's (the question, special
    ones). logits: start and end. Shape: (tokens, 2), tokens[0] is the one that stands for no answer.
    """

    offsets: Sequence[tuple[int, int] | None]
    logits: NDArray[np.float32]


def best_answers(
    context: str, windows: Sequence[Window], *, top_k: int, longest: int, may_be_none: bool
) -> list[Answer]:
    """The `top_k` most probable answers, each place once, the best first.

    A span's probability is that of its start times that of its end among the tokens of its window's context; no answer
    has that of the window where it is least probable. So the sum over windows may be above 1. longest: tokens of an
    answer at most. may_be_none: whether no answer is one.
    """
    found: dict[tuple[int, int], float] = {}
    none = 1.0
    for window in windows:
        inside = np.array([offset is not None and offset[0] < offset[1] for offset in window.offsets])
        inside[0] = True  # it takes part in the softmax, and stands for no answer
        start, end = (_softmax(np.where(inside, window.logits[:, i], -np.inf)) for i in (0, 1))
        none = min(none, float(start[0] * end[0]))
        scores = _spans(start, end, min(longest, len(inside)))
        scores[0] = 0
        order = _best(scores.ravel(), top_k)
        for first, more in zip(*np.unravel_index(order, scores.shape), strict=True):
            if scores[first, more] <= 0:
                continue
            here, there = window.offsets[first], window.offsets[first + more]
            if here is not None and there is not None:
                place = here[0], there[1]
                found[place] = max(found.get(place, 0.0), float(scores[first, more]))
    answers = [Answer(start, end, context[start:end], score) for (start, end), score in found.items()]
    if may_be_none:
        answers.append(Answer(0, 0, "", none))
    return sorted(answers, key=lambda answer: -answer.score)[:top_k]


def _spans(start: NDArray[np.float64], end: NDArray[np.float64], longest: int) -> NDArray[np.float64]:
    """Of the span from each token to the one so many places behind it, and 0 behind the last token.

    Shape: (tokens,) twice -> (tokens, longest).
    """
    behind = np.lib.stride_tricks.sliding_window_view(np.append(end, np.zeros(longest - 1)), longest)
    scores: NDArray[np.float64] = start[:, None] * behind
    return scores


def _best(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Where the `count` greatest stand, the greatest first, of equal ones the first."""
    if count < len(scores):
        least = np.partition(scores, -count)[-count]
        candidates = np.flatnonzero(scores >= least)
    else:
        candidates = np.arange(len(scores))
    found: NDArray[np.int64] = candidates[np.argsort(-scores[candidates], kind="stable")[:count]]
    return found


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted: NDArray[np.float64] = np.exp((logits - logits.max()).astype(np.float64))
    shifted /= shifted.sum()
    return shifted
