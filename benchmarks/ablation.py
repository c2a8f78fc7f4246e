"""What each choice about a student costs and keeps: one thing changed at a time, from the default recipe.

    python benchmarks/ablation.py --data DATA --teacher MODEL --work FOLDER [--only AXIS...] [--sentences N]

Every row is one call of `edgebert distill`; its options stand in the row. All have the same seed, threads and, but
where the row says otherwise, text and steps; less text is a sample of its own, seen more often. The teacher's cached
answers are made before, so that they are no part of the seconds, but what runs the teacher in each step has it in them.
Scores are Spearman x 100 on the STS-B English dev split. Students stay in the work folder and are not made again.
"""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import data_file, kept_at, parser, similarity, write_json
from safetensors.numpy import load_file

from edgebert.bundle import Bundle
from edgebert.distill.layer_map import shape_of
from edgebert.distill.named import shipped_recipes
from edgebert.pretrained import hidden_size, read_config
from edgebert.table import show

BASE = "three layers, the default recipe"
_LEAST = 2000
BATCH = 64  # the default recipe's
_HEAD = ["what", "options", "M parameters", "seconds", "STS-B dev", "% of the teacher"]
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
    "start": {
        "the first layers": Change("--take-layers 0,1,2"),
        "word vectors learn": Change("--train-embeddings"),
        "random weights": Change("--start fresh {shape}"),
    },
    "depth": {f"{n} layers": Change(f"--layers {n}") for n in (1, 2, 4)},
    "width": {"256 wide": Change("--width 256"), "768 neurons": Change("--feed-forward 768")},
    "vocabulary": {
        "16,000 tokens": Change("--vocabulary 16000"),
        "16,000 tokens that learn": Change("--vocabulary 16000 --train-embeddings"),
        "codes of 3 dimensions": Change("--table-codes 3"),
        "24,000 tokens in codes": Change("--vocabulary 24000 --table-codes 3"),
    },
    "bits": {"layers in 4 bits": Change("--linear-bits 4")},
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
    options.add_argument("--sentences", type=int, default=8000, help=f"at least {_LEAST}")
    options.add_argument("--epochs", type=float, default=1.0)
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    if given.sentences < _LEAST:
        options.error(f"--sentences is {given.sentences}; a sixteenth of it must fill a batch: give {_LEAST} or more")
    given.work.mkdir(parents=True, exist_ok=True)
    (given.work / "matryoshka.toml").write_text(_MATRYOSHKA, encoding="utf-8")
    pairs = data_file(given.data, "stsb_en/dev.jsonl.gz")
    whole = similarity(given.teacher, pairs)
    print(f"the teacher: {whole:.2f}", flush=True)
    rows = [_row(BASE, Change(), whole, pairs, given)]
    for axis in given.only:
        rows += [_row(what, change, whole, pairs, given) for what, change in AXES[axis].items()]
    show(_HEAD, rows, texts=["options"])
    write_json(given.json, {"teacher": whole, "rows": [dict(zip(_HEAD, row, strict=True)) for row in rows]})


def _row(what: str, change: Change, whole: float, pairs: Path, given: Any) -> list[str]:
    """The student with that change, trained where it is not there already, and its figures."""
    sentences = round(given.sentences * change.text)
    steps = given.epochs * change.steps * _batches(given.sentences)
    epochs = round(steps / _batches(sentences), 4)
    corpus = data_file(given.data, "sentences_en/permissive.tsv.gz")
    common = ["--corpus", corpus, "--max-sentences", sentences, "--threads", given.threads]
    _distil(given, [*common, "--epochs", 0.001])
    config = read_config(Bundle.from_pretrained(given.teacher).root)
    shape = f"--width {hidden_size(config)} --heads {shape_of(config).heads} --layers 3"
    options = change.options.format(shape=shape)
    settings = [given.work / word if word.endswith(".toml") else word for word in options.split()]
    out = _distil(given, [*common, "--epochs", epochs, *settings])
    manifest, score = Bundle.open(out).manifest, similarity(out, pairs)
    words = options
    if (change.text, change.steps) != (1, 1):
        words = f"--max-sentences {sentences} --epochs {epochs:g}"
    seconds = float(manifest.lineage["training_seconds"])
    figures = [f"{_parameters(out) / 1e6:.1f}", f"{seconds:.0f}", f"{score:.2f}", f"{100 * score / whole:.1f}"]
    print(" | ".join([what, words, *figures]), flush=True)
    return [what, words, *figures]


def _batches(sentences: int) -> int:
    """How many steps an epoch has: one in five texts is held out, at most 1,000."""
    return math.ceil((sentences - min(1000, sentences // 5)) / BATCH)


def _distil(given: Any, settings: list[object]) -> Path:
    """The student of those settings, in a folder named by them, the teacher and the version."""
    words = [str(word) for word in settings]
    out = kept_at(given.work, given.teacher, *words)
    if not out.exists():
        subprocess.run([sys.executable, "-m", "edgebert", "distill", given.teacher, "-o", str(out), *words], check=True)
    return out


def _parameters(folder: Path) -> int:
    return sum(array.size for path in folder.rglob("model.safetensors") for array in load_file(path).values())


if __name__ == "__main__":
    main()
