"""What the comparison with the peers asks for, and whether it is met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cold import Cold
from paired import Ratio, paired_ratio, percentile_ratio, ratio_of_medians

MIXED = "mixed"
FASTER, NOT_SLOWER = 1.3, 0.97  # times the best peer on mixed lengths; the interval's lower end elsewhere
ALONE = {"8 to 64 tokens": 0.8, "128 tokens": 0.95}  # times the best peer's milliseconds, at most
COLD, MEMORY, IMPORT, PADDING = 0.5, 0.7, 1.3, 0.05


Alone = Mapping[str, list[list[float]]]  # encoder -> the milliseconds of each round


@dataclass(frozen=True)
class Target:
    """One target in words with its numbers."""

    text: str
    met: bool


def best(values: Mapping[str, float], peers: Sequence[str], *, most: bool) -> str:
    """Which peer has the most, or the least."""
    return (max if most else min)(peers, key=lambda name: values[name])


def speed_targets(speeds: Mapping[str, Mapping[str, list[float]]], ours: str, peers: Sequence[str]) -> list[Target]:
    """Of sentences a second: set -> encoder -> one a round."""
    found = []
    for name, of in speeds.items():
        peer = best({n: float(np.median(s)) for n, s in of.items()}, peers, most=True)
        ratio = paired_ratio(of[ours], of[peer])
        asked = f"at least {FASTER}" if name == MIXED else f"interval above {NOT_SLOWER}"
        met = ratio.value >= FASTER if name == MIXED else ratio.low > NOT_SLOWER
        found.append(Target(f"{name}: {ratio} times the sentences/s of {peer}, {asked}", met))
    return found


def alone_targets(
    alone: Mapping[str, Mapping[str, list[list[float]]]], ours: str, peers: Sequence[str]
) -> list[Target]:
    """Of milliseconds of one text: set -> encoder -> samples of each round."""
    found = []
    for name, of in alone.items():
        for percent in (50, 99):
            peer = best({n: float(np.percentile(s, percent)) for n, s in of.items()}, peers, most=False)
            ratio = percentile_ratio(of[ours], of[peer], percent)
            text = f"one text of {name}: p{percent} {ratio} times that of {peer}, at most {ALONE[name]}"
            found.append(Target(text, ratio.value <= ALONE[name]))
    return found


def cold_targets(cold: Mapping[str, Cold], ours: str, peers: Sequence[str]) -> list[Target]:
    """Of cold starts: what each adds to the bare imports of its engine."""
    found = []
    for what, limit, of in (
        ("time to the first vector", COLD, {n: c.seconds for n, c in cold.items()}),
        ("memory at the first vector", MEMORY, {n: c.memory_mb for n, c in cold.items()}),
    ):
        peer = best({n: float(np.median(v)) for n, v in of.items()}, peers, most=False)
        ratio = ratio_of_medians(of[ours], of[peer])
        text = f"{ours}, {what}: {ratio} times that of {peer}, at most {limit}"
        found.append(Target(text, ratio.value <= limit))
    return found


def import_targets(seconds: Mapping[str, list[float]]) -> list[Target]:
    """Of imports, see `cold.imports`."""
    found = []
    for name in ("edgebert", "loaded"):
        ratio: Ratio = ratio_of_medians(seconds[name], seconds["bare"])
        what = "import edgebert" if name == "edgebert" else "importing all that the first vector needs"
        found.append(Target(f"{what}: {ratio} times the bare imports, at most {IMPORT}", ratio.value <= IMPORT))
    return found


def padding_targets(shares: Mapping[str, float]) -> list[Target]:
    """Of the share of padded tokens: set -> share."""
    return [
        Target(f"{n}: {s:.1%} of the tokens are padding, below {PADDING:.0%}", s < PADDING) for n, s in shares.items()
    ]
