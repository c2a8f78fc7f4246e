"""What each shipped recipe costs and keeps: seconds of the work and its student's score, one after the other.

    python benchmarks/objectives.py --data DATA --teacher MODEL --work FOLDER [--sentences N] [--epochs E]

The same text, shape, seed and thread for every recipe. The teacher's cached answers are made before, by a run that is
thrown away, so that they are no part of the seconds; what runs the teacher in each step has it in them. Scores are
Spearman x 100 on the STS-B English dev split: nothing is chosen by them. Each recipe's work folder must be new.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common import data_file, parser, write_json

from edgebert.bundle import Bundle
from edgebert.distill.named import shipped_recipes
from edgebert.evaluate import similarity_scores
from edgebert.models import open_model
from edgebert.table import show


def main() -> None:
    options = parser(__doc__, figures=True)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--sentences", type=int, default=3000)
    options.add_argument("--epochs", type=float, default=1.0)
    given = options.parse_args()
    corpus = data_file(given.data, "sentences_en/permissive.tsv.gz")
    pairs = data_file(given.data, "stsb_en/dev.jsonl.gz")
    given.work.mkdir(parents=True, exist_ok=True)
    settings = ["--corpus", corpus, "--max-sentences", given.sentences, "--threads", 1]
    _distil(given.teacher, given.work / "warm", [*settings, "--epochs", 0, "--recipe", "edgebert"])
    whole, rows = _score(given.teacher, pairs), []
    for name in shipped_recipes():
        out = given.work / name
        _distil(given.teacher, out, [*settings, "--epochs", given.epochs, "--recipe", name])
        manifest, score = Bundle.open(out).manifest, _score(out, pairs)
        seconds = float(manifest.lineage["training_seconds"])
        agreement = manifest.quality[0].value
        rows.append([name, f"{seconds:.0f}", f"{agreement:.4f}", f"{score:.2f}", f"{100 * score / whole:.1f}"])
    head = ["recipe", "seconds", "agreement", "STS-B dev", "% of the teacher"]
    show(head, rows)
    write_json(given.json, {"teacher": whole, "rows": [dict(zip(head, row, strict=True)) for row in rows]})


def _distil(teacher: str, out: Path, settings: list[object]) -> None:
    arguments = [sys.executable, "-m", "edgebert", "distill", teacher, "-o", out, *settings]
    subprocess.run([str(argument) for argument in arguments], check=True)


def _score(model: str | Path, pairs: Path) -> float:
    with open_model(model, engine="torch", precision="fp32") as encoder:
        return 100 * similarity_scores(encoder, pairs)[0].value


if __name__ == "__main__":
    main()
