"""What a narrow student gains by starting from the teacher's weights: beside a random start of the same shape.

    python benchmarks/narrow.py --data DATA --teacher MODEL --corpus FILE --work FOLDER [--seeds 0 1 2] [--epochs E]

Both students have the same layers, width, heads, text, seed and steps; the one copies the teacher's layers and makes
them narrow (`distill/narrow.py`), the other draws its weights. Agreement is with the teacher on held-out sentences of
the text, before and after training; scores are Spearman x 100 on the STS-B English dev split. Nothing is chosen by it.
Students stay in the work folder; what is there is not made again.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from common import data_file, kept_at, parser, similarity, write_json

from edgebert.bundle import Bundle
from edgebert.distill.layer_map import shape_of
from edgebert.distill.recipe import Data, Recipe, Student, Training
from edgebert.distill.stage import distill
from edgebert.pretrained import read_config
from edgebert.table import show

STARTS = ("copied", "random")


def main() -> None:
    options = parser(__doc__, figures=True)
    options.add_argument("--corpus", required=True, help="text, one sentence a line")
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--sentences", type=int, default=4000)
    options.add_argument("--epochs", type=float, default=1.0)
    options.add_argument("--layers", type=int, default=3)
    options.add_argument("--width", type=int, default=256)
    options.add_argument("--feed-forward", type=int, default=1024)
    given = options.parse_args()
    torch.set_num_threads(1)
    pairs = data_file(given.data, "stsb_en/dev.jsonl.gz")
    teacher, rows = Bundle.from_pretrained(given.teacher), []
    for seed in given.seeds:
        for start in STARTS:
            lineage, agreement, score = _student(teacher, start, seed, pairs, given)
            before, seconds = lineage["agreement_before_training"], lineage["training_seconds"]
            rows.append([start, seed, round(before, 4), round(agreement, 4), round(score, 2), seconds])
            print(*rows[-1], flush=True)
    for start in STARTS:
        of = [row for row in rows if row[0] == start]
        rows.append([start, "median", *(round(statistics.median(row[i] for row in of), 4) for i in (2, 3, 4, 5))])
    head = ["start", "seed", "agreement before", "agreement after", "STS-B dev", "seconds"]
    show(head, [[str(cell) for cell in row] for row in rows])
    write_json(given.json, [dict(zip(head, row, strict=True)) for row in rows])


def _student(teacher: Bundle, start: str, seed: int, pairs: Path, given: Any) -> tuple[dict[str, Any], float, float]:
    """Lineage, held-out agreement and dev score."""
    out = kept_at(
        given.work, given.teacher, start, seed, given.corpus, given.sentences, given.epochs, given.layers, given.width,
        given.feed_forward,
    )  # fmt: skip
    if not out.exists():
        wide = teacher.manifest.dimension
        heads = None if start == "copied" else given.width // (wide // shape_of(read_config(teacher.root)).heads)
        shape = Student(
            start="teacher" if start == "copied" else "fresh", layers=given.layers, width=given.width, heads=heads,
            feed_forward=given.feed_forward,
        )  # fmt: skip
        recipe = Recipe(
            student=shape, training=Training(epochs=given.epochs, seed=seed, freeze_embeddings=False),
            data=Data(max_sentences=given.sentences, held_out=300),
        )  # fmt: skip
        distill(teacher, [given.corpus], out, recipe)
    manifest = Bundle.open(out).manifest
    score = similarity(out, pairs)
    return dict(manifest.lineage), manifest.quality[0].value, score


if __name__ == "__main__":
    main()
