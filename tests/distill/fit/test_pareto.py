"""The Pareto set: nothing kept is beaten, nothing left out is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgebert.distill.fit.pareto import dominates, pareto

COARSE = st.integers(0, 4).map(float)  # so that points are equal in some figures often
POINTS = st.lists(st.tuples(COARSE, COARSE, COARSE), max_size=12)


@given(POINTS)
def test_no_kept_point_is_dominated_and_every_other_is(points: list[tuple[float, float, float]]) -> None:
    kept = pareto(points)
    assert list(kept) == sorted(set(kept))
    for place, point in enumerate(points):
        beaten = any(
            other[0] <= point[0] and other[1] <= point[1] and other[2] >= point[2] and other != point
            for other in points
        )
        assert (place in kept) is not beaten
    assert bool(kept) is bool(points)


def test_smaller_and_faster_are_better_and_more_retention_is() -> None:
    assert dominates((1, 1, 0.9), (2, 1, 0.9))
    assert dominates((1, 1, 0.9), (1, 2, 0.9))
    assert dominates((1, 1, 0.9), (1, 1, 0.8))
    assert not dominates((1, 1, 0.8), (2, 1, 0.9))
    assert not dominates((1, 1, 0.9), (1, 1, 0.9))
    assert pareto([(2, 2, 0.9), (1, 2, 0.9), (1, 2, 0.9), (3, 3, 0.95)]) == (1, 2, 3)
