"""The candidates that no other one beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

Figures = tuple[float, float, float]  # MB, p99 in ms, retention


def dominates(one: Figures, other: Figures) -> bool:
    """Whether `one` is no larger, no slower and keeps no less than `other`, and is better in one of the three."""
    as_good = one[0] <= other[0] and one[1] <= other[1] and one[2] >= other[2]
    return as_good and one != other


def pareto(points: Sequence[Figures]) -> tuple[int, ...]:
    """The places of the points that no point dominates, ascending; equal points stay together."""
    return tuple(place for place, point in enumerate(points) if not any(dominates(other, point) for other in points))
