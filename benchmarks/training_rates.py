"""How fast this machine distils: the rates that "Many machines and much text" in docs/distillation.md reckons with.

    python benchmarks/training_rates.py --data DATA --teacher MODEL [--teacher MODEL ...] [--sentences N] [--layers L]

For each teacher: sentences a second of its cached answers, vectors alone and with last hidden states, and their MB for
a million sentences; then the rate of a training pass of a student of the last teacher, of vectors alone and of the
default objectives. Text is a sample of sentences_en/permissive, its mean length in tokens stands beside it. Each is
done once, one after the other, so leave the machine to it. Nothing is scored.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch
from common import parser, write_json
from training_pass import Pass, sample_file

from edgebert.bundle import Bundle
from edgebert.distill.recipe import Data, Recipe, Student, Training
from edgebert.distill.registry import Objectives
from edgebert.table import show

_HEAD = ["what", "sentences/s", "hours a million", "MB a million", "tokens a sentence"]
_MILLION = 1e6


def main() -> None:
    options = parser(__doc__, figures=True, teacher=False)
    options.add_argument("--teacher", action="append", required=True, help="several times for several")
    options.add_argument("--sentences", type=int, default=2000)
    options.add_argument("--layers", type=int, default=3)
    given = options.parse_args()
    recipe = Recipe(Student(layers=given.layers), training=Training(epochs=1), data=Data(held_out=100))
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEBERT_CACHE"] = str(Path(folder) / "cache")
        file = sample_file(given.data, Path(folder), given.sentences)
        for number, name in enumerate(given.teacher):
            job = Pass(Bundle.from_pretrained(name), file, Path(folder) / str(number), recipe)
            for hidden in (False, True):
                rate, size = _answers(job, hidden=hidden)
                what = f"{Path(name).name}: vectors{' and last states' if hidden else ''}"
                rows.append(_row(what, rate, job, f"{size:.0f}"))
        for what, objectives in (
            ("vectors alone", Objectives(similarity=0.0, hidden=0.0)),
            ("the default objectives", Objectives()),
        ):
            job.recipe = dataclasses.replace(recipe, objectives=objectives)
            rows.append(_row(f"a pass of its {given.layers}-layer student, {what}", job.rate(), job))
    print(f"{torch.get_num_threads()} threads, {job.precision}")
    show(_HEAD, rows)
    write_json(given.json, [dict(zip(_HEAD, row, strict=True)) for row in rows])


def _row(what: str, rate: float, job: Pass, size: str = "") -> list[str]:
    """A line of the table, which is printed at once, too."""
    tokens = float(job.prepared.teacher_ids.lengths.mean())
    row = [what, f"{rate:.0f}", f"{_MILLION / rate / 3600:.1f}", size, f"{tokens:.1f}"]
    print(" | ".join(row), flush=True)
    return row


def _answers(job: Pass, *, hidden: bool) -> tuple[float, float]:
    """Sentences a second, and MB for a million, of the teacher's answers, which are computed anew."""
    cache = job.cache(hidden=hidden)
    shutil.rmtree(cache.folder, ignore_errors=True)  # the benchmark's own cache; its name asks for the engine first
    start = time.perf_counter()
    cache.fill(cache.missing())
    seconds, count = time.perf_counter() - start, len(job.prepared.teacher_ids)
    size = sum(path.stat().st_size for path in cache.folder.glob("*.npy"))
    return count / seconds, size / count


if __name__ == "__main__":
    main()
