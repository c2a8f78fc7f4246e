"""Successive halving: who goes on, and with how much work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebert.distill.fit.halving import Rung, halve, schedule


@pytest.mark.parametrize(
    ("count", "rungs"),
    [
        (1, ((1, 3.0),)),
        (2, ((2, 1.5), (1, 3.0))),
        (4, ((4, 0.75), (2, 1.5), (1, 3.0))),
        (5, ((5, 0.375), (3, 0.75), (2, 1.5), (1, 3.0))),
    ],
)
def test_the_better_half_goes_on_with_twice_the_work(count: int, rungs: tuple[tuple[int, float], ...]) -> None:
    assert schedule(count, 3.0) == tuple(Rung(*rung) for rung in rungs)


def test_the_best_of_each_rung_go_on_in_their_order() -> None:
    asked: list[tuple[str, tuple[float, ...]]] = []
    scores = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.9}

    def train(unit: str, chain: tuple[float, ...]) -> float:
        asked.append((unit, chain))
        return scores[unit] - (0.5 if unit == "b" and len(chain) == 2 else 0)

    went = halve("abcd", schedule(4, 2.0), train)
    assert asked == [
        ("a", (0.5,)), ("b", (0.5,)), ("c", (0.5,)), ("d", (0.5,)),
        ("b", (0.5, 1.0)), ("d", (0.5, 1.0)), ("d", (0.5, 1.0, 2.0)),
    ]  # fmt: skip
    assert went == {"a": (0.5,), "b": (0.5, 1.0), "c": (0.5,), "d": (0.5, 1.0, 2.0)}


def test_of_equal_scores_the_earlier_goes_on() -> None:
    assert halve("abc", schedule(3, 1.0), lambda unit, chain: 0.5)["a"] == (0.25, 0.5, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_best_of_all_is_never_lost_where_scores_stay(scores: list[float]) -> None:
    rungs = schedule(len(scores), 1.0)
    went = halve(range(len(scores)), rungs, lambda unit, chain: scores[unit])
    (last,) = [unit for unit, chain in went.items() if len(chain) == len(rungs)]
    assert scores[last] == max(scores)
    assert all(went.values())
