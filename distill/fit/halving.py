"""Successive halving: all begin with little work, the better half goes on with twice as much, until one is left.

Source: Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization",
arXiv:1502.07943.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Rung:
    """count: how many candidates are trained in it. epochs: for how long each, going on from the rung before."""

    count: int
    epochs: float


def schedule(count: int, epochs: float) -> tuple[Rung, ...]:
    """The rungs for `count` candidates; the last one, with one candidate, takes `epochs`."""
    counts = [count]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // 2))
    return tuple(Rung(n, epochs / 2 ** (len(counts) - 1 - place)) for place, n in enumerate(counts))


def halve(
    units: Sequence[T], rungs: Sequence[Rung], train: Callable[[T, tuple[float, ...]], float]
) -> dict[T, tuple[float, ...]]:
    """Each unit with the epochs of the rungs it went through.

    train: trains a unit through rungs of those epochs, of which all but the last were asked for before, and gives its
    score; the higher ones go on, of equal ones the earlier.
    """
    went: dict[T, tuple[float, ...]] = dict.fromkeys(units, ())
    scores = dict.fromkeys(units, 0.0)
    going = list(went)
    for rung in rungs:
        best = set(sorted(going, key=lambda unit: -scores[unit])[: rung.count])
        going = [unit for unit in going if unit in best]
        for unit in going:
            went[unit] = (*went[unit], rung.epochs)
            scores[unit] = train(unit, went[unit])
    return went
