"""How fast this machine distils: the rates that "Many machines and much text" in docs/distillation.md reckons with.

    python benchmarks/training_rates.py --data DATA --teacher MODEL [--teacher MODEL ...] [--sentences N] [--layers L]

For each teacher: sentences a second of its cached answers, vectors alone and with last hidden states, and their MB for
a million sentences; then the rate of a training pass of a student of the last teacher, of vectors alone and of the
default objectives. Text is a sample of sentences_en/permissive, its mean length in tokens stands beside it. Each is
done once, one after the other, so leave the machine to it. Nothing is scored.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import data_file, parser, write_json

from edgebert.bundle import Bundle
from edgebert.distill.agreement import Agreement
from edgebert.distill.batches import Collator, LengthSampler, Rows
from edgebert.distill.corpus import open_corpus
from edgebert.distill.model import build_model
from edgebert.distill.prepare import Prepared, draw, prepare
from edgebert.distill.recipe import Data, Objectives, Recipe, Student, Training
from edgebert.distill.students import build_student
from edgebert.distill.teacher import TeacherCache
from edgebert.distill.training import TrainingRun, best_precision, count_steps, train
from edgebert.progress import Progress
from edgebert.table import show
from edgebert.texts import read_texts

_HEAD = ["what", "sentences/s", "hours a million", "MB a million", "tokens a sentence"]
_MILLION = 1e6


def main() -> None:
    options = parser(__doc__, figures=True, teacher=False)
    options.add_argument("--teacher", action="append", required=True, help="several times for several")
    options.add_argument("--sentences", type=int, default=2000)
    options.add_argument("--layers", type=int, default=3)
    given = options.parse_args()
    corpus = data_file(given.data, "sentences_en/permissive.tsv.gz")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEBERT_CACHE"] = str(Path(folder) / "cache")
        texts = list(itertools.islice(read_texts([corpus]), 0, 200 * given.sentences, 200))
        file = Path(folder) / "text.txt"
        file.write_text("\n".join(texts), encoding="utf-8")
        for name in given.teacher:
            teacher = Bundle.from_pretrained(name)
            recipe = Recipe(Student(layers=given.layers), training=Training(epochs=1), data=Data(held_out=100))
            prepared = _prepared(file, teacher, recipe, Path(folder) / f"ids{len(rows)}")
            tokens = float(prepared.teacher_ids.lengths.mean())
            for hidden in (False, True):
                rate, size = _answers(teacher, prepared, hidden=hidden)
                what = f"{Path(name).name}: vectors{' and last states' if hidden else ''}"
                rows.append([what, f"{rate:.0f}", f"{_MILLION / rate / 3600:.1f}", f"{size:.0f}", f"{tokens:.1f}"])
                print(" | ".join(rows[-1]), flush=True)
        for what, objectives in (
            ("vectors alone", Objectives(similarity=0.0, hidden=0.0)),
            ("the default objectives", Objectives()),
        ):
            rate = _pass(teacher, prepared, recipe, objectives, Path(folder) / what)
            told = f"a pass of its {given.layers}-layer student, {what}"
            rows.append([told, f"{rate:.0f}", f"{_MILLION / rate / 3600:.1f}", "", f"{tokens:.1f}"])
            print(" | ".join(rows[-1]), flush=True)
    print(f"{torch.get_num_threads()} threads, {best_precision('auto')}")
    show(_HEAD, rows)
    write_json(given.json, [dict(zip(_HEAD, row, strict=True)) for row in rows])


def _prepared(file: Path, teacher: Bundle, recipe: Recipe, folder: Path) -> Prepared:
    text = open_corpus([file])
    plan = build_student(teacher, recipe.student, seed=0)
    return prepare(text, draw(text, teacher, recipe, Progress()), teacher, plan, folder, Progress())


def _cache(teacher: Bundle, prepared: Prepared, *, hidden: bool) -> TeacherCache:
    return TeacherCache(teacher, prepared.teacher_ids, hidden=hidden, precision=best_precision("auto"))


def _answers(teacher: Bundle, prepared: Prepared, *, hidden: bool) -> tuple[float, float]:
    """Sentences a second, and MB for a million, of the teacher's answers, which are computed anew."""
    cache = _cache(teacher, prepared, hidden=hidden)
    shutil.rmtree(cache.folder, ignore_errors=True)  # the benchmark's own cache
    _ = cache.choice  # finds out which engine is right: once for a machine, not for a sentence
    start = time.perf_counter()
    cache.fill(cache.missing())
    seconds, count = time.perf_counter() - start, len(prepared.teacher_ids)
    size = sum(path.stat().st_size for path in cache.folder.glob("*.npy"))
    return count / seconds, size / count


def _pass(teacher: Bundle, prepared: Prepared, recipe: Recipe, objectives: Objectives, folder: Path) -> float:
    """Sentences a second of one pass."""
    plan, weights = build_student(teacher, recipe.student, seed=0), objectives.weights(aligned=True)
    cache = _cache(teacher, prepared, hidden=True)
    cache.fill(cache.missing())
    model: Any = build_model(plan, recipe, weights, prepared, cache)
    lengths = prepared.student_ids.lengths[prepared.rows]
    run = TrainingRun(
        model, Rows(prepared.rows), LengthSampler(lengths, batch_size=recipe.training.batch_size, seed=0),
        Collator(
            prepared.student_ids, cache, pad_token_id=plan.manifest.pad_token_id, hidden=bool(weights["hidden"])
        ),
        recipe.training, best_precision("auto"), folder, lambda **_: Agreement(0.0, None, 0), Progress(),
        count_steps(recipe.training, len(lengths), 1),
    )  # fmt: skip
    start = time.perf_counter()
    train(run)
    return len(prepared.rows) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
