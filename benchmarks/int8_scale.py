"""How far cosines of int8 codes are from those of the float vectors, for scales of several reaches.

    python benchmarks/int8_scale.py --data DATA --bundle BUNDLE [--text sentences_zh/FILE.tsv.gz]

A scale reaches to R / sqrt(dim): components beyond are clipped. `edgebert.compact` takes R = 6 for every model;
"golden" reaches to the largest component of the bundle's golden vectors, "each vector" has a scale for each. Errors are
of the cosines of pairs drawn at random, and of the vectors' cosines to themselves.
"""

from __future__ import annotations

import itertools

import numpy as np
from common import data_file, parser
from numpy.typing import NDArray

import edgebert
from edgebert.golden import read_golden
from edgebert.table import show
from edgebert.texts import read_texts
from edgebert.vectors import unit_rows

REACHES = (4.0, 5.0, 6.0, 8.0)
TEXTS = 4000
Floats = NDArray[np.float64]


def main() -> None:
    options = parser(__doc__, teacher=False, bundle=True)
    options.add_argument("--text", default="sentences_en/permissive.tsv.gz", help="a file of the data folder")
    options.add_argument("--dims", type=int, nargs="*", default=[128], help="truncated dimensions besides")
    options.add_argument("--threads", type=int)
    given = options.parse_args()
    path = data_file(given.data, given.text)
    texts = list(itertools.islice(read_texts((str(path),), column="text"), TEXTS))
    with edgebert.load(given.bundle, threads=given.threads) as encoder:
        vectors = encoder.encode(texts)
        golden = read_golden(encoder.bundle).vectors
    rows = []
    for dim in [vectors.shape[1], *given.dims]:
        unit, proof = unit_rows(vectors[:, :dim]), unit_rows(golden[:, :dim])
        scales: dict[str, Floats | float] = {f"{r:g} / sqrt(dim)": r / np.sqrt(dim) / 127 for r in REACHES}
        scales["golden"] = float(np.abs(proof).max()) / 127
        scales["each vector"] = np.abs(unit).max(axis=1, keepdims=True) / 127
        rows += [[name, str(dim), *errors(unit, scale)] for name, scale in scales.items()]
    show(["scale", "dim", "rms x 1e4", "max x 1e4", "max to itself x 1e4", "% clipped"], rows)
    print(f"{len(texts)} texts of {given.text}, {given.bundle.name}")


def errors(unit: Floats, scale: Floats | float) -> list[str]:
    """What coding by `scale` does to cosines, and the share of vectors that it clips. Shape: unit (n, dim)."""
    steps = np.rint(unit / scale)
    coded = np.clip(steps, -127, 127) * scale
    other = np.random.default_rng(0).permutation(len(unit))
    wrong = (coded * coded[other]).sum(axis=1) - (unit * unit[other]).sum(axis=1)
    own = np.abs((coded * coded).sum(axis=1) - 1)
    clipped = (np.abs(steps) > 127).any(axis=1).mean()
    shown = (np.sqrt((wrong**2).mean()) * 1e4, np.abs(wrong).max() * 1e4, own.max() * 1e4, 100 * clipped)
    return [f"{value:.2f}" for value in shown]


if __name__ == "__main__":
    main()
