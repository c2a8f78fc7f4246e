"""What each choice about a student costs and keeps: one thing changed at a time, from the default recipe.

    python benchmarks/ablation.py --data DATA --teacher MODEL --work FOLDER [--only AXIS...] [--sentences N]

Every row is one call of `edgebert distill`; its options stand in the row. All have the same text, seed, thread and
steps; the teacher's cached answers are made before, so that they are no part of the seconds, but what runs the teacher
in each step has it in them. Scores are Spearman x 100 on the STS-B English dev split. Students stay in the work folder
and are not made again.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import data_file, parser, write_json
from safetensors.numpy import load_file

from edgebert.bundle import Bundle
from edgebert.distill.named import shipped_recipes
from edgebert.evaluate import similarity_scores
from edgebert.models import open_model
from edgebert.table import show

BASE = "three layers, the default recipe"
_HEAD = ["what", "options", "M parameters", "seconds", "agreement", "STS-B dev", "% of the teacher"]
_MATRYOSHKA = "[student]\nlayers = 3\n\n[objectives]\nmatryoshka = [64, 128]\n"


@dataclass(frozen=True)
class Change:
    """options: of `edgebert distill`. text, steps: shares of the text and of the steps of the others."""

    options: str = ""
    text: float = 1.0
    steps: float = 1.0


AXES: dict[str, dict[str, Change]] = {
    "objective": {f"recipe {name}": Change(f"--recipe {name}") for name in shipped_recipes() if name != "edgebert"}
    | {
        "vector alone": Change("--similarity 0 --hidden 0"),
        "similarity alone": Change("--vector 0 --hidden 0"),
        "hidden alone": Change("--vector 0 --similarity 0"),
        "vector and similarity": Change("--hidden 0"),
        "64 and 128 dimensions too": Change("--recipe matryoshka.toml"),
    },
    "start": {"random weights": Change("--start fresh"), "the first layers": Change("--take-layers 0,1,2")},
    "depth": {f"{n} layers": Change(f"--layers {n}") for n in (1, 2, 4)},
    "width": {"256 wide": Change("--width 256"), "768 neurons": Change("--feed-forward 768")},
    "vocabulary": {
        "16,000 tokens": Change("--vocabulary 16000"),
        "16,000 tokens that learn": Change("--vocabulary 16000 --train-embeddings"),
        "codes of 3 dimensions": Change("--table-codes 3"),
        "24,000 tokens in codes": Change("--vocabulary 24000 --table-codes 3"),
    },
    "data": {
        "1/16 of the text, as many steps": Change(text=1 / 16),
        "1/4 of the text, as many steps": Change(text=1 / 4),
        "4 times as many steps": Change(steps=4),
        "4 times as much text and steps": Change(text=4, steps=4),
    },
}


def main() -> None:
    options = parser(__doc__, figures=True)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--only", nargs="+", choices=list(AXES), default=list(AXES))
    options.add_argument("--sentences", type=int, default=8000)
    options.add_argument("--epochs", type=float, default=1.0)
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    (given.work / "matryoshka.toml").write_text(_MATRYOSHKA, encoding="utf-8")
    pairs = data_file(given.data, "stsb_en/dev.jsonl.gz")
    whole = _score(given.teacher, pairs)
    print(f"the teacher: {whole:.2f}", flush=True)
    rows = [_row(BASE, Change(), whole, pairs, given)]
    for axis in given.only:
        rows += [_row(what, change, whole, pairs, given) for what, change in AXES[axis].items()]
    show(_HEAD, rows)
    write_json(given.json, {"teacher": whole, "rows": [dict(zip(_HEAD, row, strict=True)) for row in rows]})


def _row(what: str, change: Change, whole: float, pairs: Path, given: Any) -> list[str]:
    """The student with that change, trained where it is not there already, and its figures."""
    sentences, epochs = round(given.sentences * change.text), given.epochs * change.steps / change.text
    common: list[object] = [
        "--corpus",
        data_file(given.data, "sentences_en/permissive.tsv.gz"),
        "--max-sentences",
        sentences,
    ]
    common += ["--threads", given.threads]
    _distil(given, f"answers-{sentences}", [*common, "--epochs", 0.001])
    settings = [given.work / word if word.endswith(".toml") else word for word in change.options.split()]
    name = hashlib.sha256(f"{change.options} {sentences} {epochs}".encode()).hexdigest()[:12]
    out = _distil(given, name, [*common, "--epochs", epochs, *settings])
    manifest, score = Bundle.open(out).manifest, _score(out, pairs)
    words = change.options
    if (change.text, change.steps) != (1, 1):
        words = f"--max-sentences {sentences} --epochs {epochs:g}"
    figures = [
        f"{_parameters(out) / 1e6:.1f}", f"{float(manifest.lineage['training_seconds']):.0f}",
        f"{manifest.quality[0].value:.4f}", f"{score:.2f}", f"{100 * score / whole:.1f}",
    ]  # fmt: skip
    print(" | ".join([what, words, *figures]), flush=True)
    return [what, words, *figures]


def _distil(given: Any, name: str, settings: list[object]) -> Path:
    out: Path = given.work / name
    if not out.exists():
        command = [sys.executable, "-m", "edgebert", "distill", given.teacher, "-o", out, *settings]
        subprocess.run([str(word) for word in command], check=True)
    return out


def _parameters(folder: Path) -> int:
    weights = load_file(folder / "model.safetensors")
    return sum(array.size for array in weights.values())


def _score(model: str | Path, pairs: Path) -> float:
    with open_model(model, engine="torch", precision="fp32") as encoder:
        return 100 * similarity_scores(encoder, pairs)[0].value


if __name__ == "__main__":
    main()
