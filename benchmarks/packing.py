"""Whether short texts packed into one row, without padding, could run faster than rows of one width each.

    python benchmarks/packing.py --bundle BUNDLE

Packing saves the padding and costs attention: every token of a row is multiplied with every other, those of other texts
too, before a mask takes them out. Here the same tokens run as n rows of w tokens and as one row of n * w, with the
bundle's own graph; the packed row does all that packing must do except the mask, so its speed is the most that packing
can give. Beside it stands what padding costs the runtime at most: the share of padded tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from edgebert.bundle import Bundle
from edgebert.engines import Engine, is_installed, open_engine
from edgebert.golden import read_golden
from edgebert.probes import probe_ids
from edgebert.table import show

SHAPES = ((32, 4), (16, 8), (8, 8), (16, 16), (8, 32))  # rows, tokens of each


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=15)
    given = options.parse_args()
    bundle = Bundle.open(given.bundle)
    rows = []
    for name, artifact in bundle.manifest.artifacts.items():
        if artifact.precision == "int8" and is_installed(artifact.engine):
            engine = open_engine(bundle, name, threads=given.threads)
            for number, width in (s for s in SHAPES if s[0] * s[1] <= bundle.manifest.max_length):
                apart, packed = times(engine, bundle, number, width, given.rounds)
                told = [f"{1e3 * statistics.median(spent):.2f}" for spent in (apart, packed)]
                ratio = statistics.median(a / p for a, p in zip(apart, packed, strict=True))
                rows.append([name, f"{number} x {width}", *told, f"{ratio:.2f}x"])
            engine.close()
    show(["artifact", "texts x tokens", "rows ms", "packed ms", "packed is"], rows)


def times(
    engine: Engine, bundle: Bundle, number: int, width: int, rounds: int
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Seconds of each round for rows of their own and for one packed row, in turns, after two rounds of warming up."""
    ids = np.array([probe_ids(read_golden(bundle).cases, "ordinary", width)] * number, np.int64)
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 2):
        for kept, batch in zip(spent, (ids, ids.reshape(1, -1)), strict=True):
            start = time.perf_counter()
            engine.embed(batch, np.ones_like(batch))
            kept.append(time.perf_counter() - start)
    return spent[0][2:], spent[1][2:]


if __name__ == "__main__":
    main()
