"""How much of `encode`'s time the bare int8 matrix products of the same shapes take in the same engine.

    python benchmarks/roofline.py --data DATA --bundle BUNDLE [--engine openvino] [--rounds 15] [--json FILE]

32 texts of 128 tokens, tokenization included, in turns with the products alone (see `bare_products`): those with int8
weights make the share that is asked for; attention's, which are float in the files, are told beside it. It is checked
that the engine runs the bare products in int8 kernels. Exit 1 when a share is below 0.70.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bare_products import BARE, Products, Run
from common import Pairs, data_file, parser, write_json
from drawn import long_texts
from paired import Ratio, paired_ratio

import edgebert
from edgebert.table import show

BATCH, LENGTH = 32, 128
SHARE = 0.70


@dataclass(frozen=True)
class Roofline:
    """Milliseconds, one a round: `encode`, the bare int8 products, attention's float products; and the first share."""

    engine: str
    runs: str
    encode_ms: list[float]
    int8_ms: list[float]
    float_ms: list[float]
    share: Ratio
    with_attention: Ratio
    int8_gops: float


def main() -> None:
    options = parser(__doc__, teacher=False, bundle=True, figures=True)
    options.add_argument("--engine", choices=list(BARE), action="append", help="default: each")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=15)
    given = options.parse_args()
    if given.rounds < 1:
        options.error(f"--rounds is {given.rounds}; it must be 1 or more")
    texts = Pairs.read(data_file(given.data, "stsb_en/test.jsonl.gz")).texts
    found = [roofline(given.bundle, engine, texts, given.threads, given.rounds) for engine in given.engine or BARE]
    show(
        ["engine", "encode ms", "int8 products ms", "share", "attention's ms", "share with it", "int8 Gop/s"],
        [
            [r.runs, _median(r.encode_ms), _median(r.int8_ms), str(r.share), _median(r.float_ms),
             str(r.with_attention), f"{r.int8_gops:.0f}"]
            for r in found
        ],
    )  # fmt: skip
    write_json(given.json, [asdict(r) for r in found])
    for r in found:
        met = r.share.value >= SHARE
        print("met   " if met else "MISSED", f"{r.runs}: the products are {r.share.value:.2f} of encode, {SHARE} asked")
    sys.exit(0 if all(r.share.value >= SHARE for r in found) else "a target is missed")


def roofline(bundle: Path, engine: str, texts: list[str], threads: int, rounds: int) -> Roofline:
    """The three in turns, each run twice before."""
    with edgebert.load(bundle, engine=engine, precision="int8", threads=threads) as encoder:
        batch = long_texts(texts, encoder.tokenizer, BATCH, length=LENGTH)
        products = Products.read(encoder.bundle.path("config.json"), batch=BATCH, length=LENGTH)
        runs: list[Run] = [lambda: encoder.encode(batch, batch_size=BATCH), *BARE[engine](products, threads)]
        found: list[list[float]] = [[], [], []]
        for turn in range(rounds + 2):
            for place in range(len(runs)):
                i = (turn + place) % len(runs)
                took = timed(runs[i])
                if turn >= 2:
                    found[i].append(took)
        both = [a + b for a, b in zip(found[1], found[2], strict=True)]
        speed = products.operations / statistics.median(found[1]) / 1e6
        return Roofline(
            engine, encoder.runs, *found, paired_ratio(found[1], found[0]), paired_ratio(both, found[0]), speed
        )


def timed(run: Run) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}"


if __name__ == "__main__":
    main()
