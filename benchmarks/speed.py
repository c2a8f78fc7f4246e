"""Speed of a quantized student against its teacher in torch fp32: same text, same threads, one run, in turns.

    python benchmarks/speed.py --data DATA --teacher MODEL --bundle BUNDLE

The text is STS-B's English test sentences. Exit 1 when the bundle's best engine is below 6 times the teacher.
"""

from __future__ import annotations

import sys

from common import data_file, parser

from edgebert.bench import Subject, bench
from edgebert.table import show
from edgebert.texts import read_rows

TARGET = 6.0


def main() -> None:
    options = parser(__doc__, bundle=True)
    options.add_argument("--threads", type=int)
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()
    pairs = list(read_rows(data_file(given.data, "stsb_en/test.jsonl.gz")))
    texts = [row[key] for row in pairs for key in ("text", "text_pair")][:1024]
    subjects = [
        Subject(given.teacher, "torch"),
        Subject(str(given.bundle), "torch"),
        *(Subject(str(given.bundle), e, p) for e in ("onnxruntime", "openvino") for p in ("fp32", "int8")),
    ]
    measured = bench(subjects, texts, threads=given.threads, rounds=given.rounds)
    base = measured[0]
    rows = [
        [
            "teacher" if m is base else "student",
            f"{m.engine} {m.precision}",
            f"{m.timing.p50_ms:.2f}",
            f"{m.timing.p99_ms:.2f}",
            f"{m.timing.sentences_s:.0f}",
            f"{m.timing.sentences_s / base.timing.sentences_s:.1f}x",
            f"{m.load_s:.2f}",
            f"{m.memory_mb:.0f}",
        ]
        for m in measured
    ]
    head = ["model", "engine", "p50 ms", "p99 ms", "sentences/s", "to teacher", "load s", "memory MB"]
    show(head, rows, texts=["engine"])
    best = max(m.timing.sentences_s for m in measured if m.precision == "int8") / base.timing.sentences_s
    print(f"{base.threads} threads, {len(texts)} sentences; best int8: {best:.1f} times the teacher")
    sys.exit(0 if best >= TARGET else f"below {TARGET} times")


if __name__ == "__main__":
    main()
