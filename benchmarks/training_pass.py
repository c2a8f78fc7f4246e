"""One pass of a student's training over a sample of text, set up as `edgebert distill` does, nothing measured in it.

What `training_speed.py` and `training_rates.py` time.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from common import data_file

from edgebert.bundle import Bundle
from edgebert.distill.batches import Collator, LengthSampler, Rows
from edgebert.distill.corpus import open_corpus
from edgebert.distill.model import build_model
from edgebert.distill.prepare import draw, prepare
from edgebert.distill.recipe import Recipe
from edgebert.distill.students import build_student
from edgebert.distill.teacher import TeacherCache
from edgebert.distill.training import TrainingRun, best_precision, count_steps, train
from edgebert.progress import Progress
from edgebert.texts import read_texts

_EVERY = 200


def sample_file(data: Path | None, folder: Path, count: int) -> Path:
    """A file in `folder` with every 200th text of sentences_en/permissive, `count` of them."""
    corpus = data_file(data, "sentences_en/permissive.tsv.gz")
    texts = itertools.islice(read_texts([corpus]), 0, _EVERY * count, _EVERY)
    file = folder / "text.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    return file


class Pass:
    """Teacher, recipe and text, read into token ids. folder: for those and for checkpoints."""

    def __init__(self, teacher: Bundle, file: Path, folder: Path, recipe: Recipe) -> None:
        self.teacher, self.folder, self.recipe = teacher, folder, recipe
        self.precision = best_precision(recipe.training.precision)
        self.corpus = open_corpus([file])
        self.untrained = build_student(teacher, recipe.student, seed=0)
        drawn = draw(self.corpus, teacher, recipe, Progress())
        self.prepared = prepare(self.corpus, drawn, teacher, self.untrained, folder / "ids", Progress())
        self._runs = 0

    def cache(self, *, hidden: bool) -> TeacherCache:
        """The teacher's answers, with last hidden states or without, as far as they are there."""
        return TeacherCache(self.teacher, self.prepared.teacher_ids, hidden=hidden, precision=self.precision)

    def rate(self) -> float:
        """Sentences a second of a student's pass, the teacher's answers computed before."""
        recipe, prepared = self.recipe, self.prepared
        plan, weights = build_student(self.teacher, recipe.student, seed=0), recipe.objectives.weights(aligned=True)
        hidden = bool(weights["hidden"])
        cache = self.cache(hidden=hidden)
        cache.fill(cache.missing())
        lengths = prepared.student_ids.lengths[prepared.rows]
        self._runs += 1
        run = TrainingRun(
            build_model(plan, recipe, weights, prepared, cache), Rows(prepared.rows),
            LengthSampler(lengths, batch_size=recipe.training.batch_size, seed=0),
            Collator(prepared.student_ids, cache, pad_token_id=plan.manifest.pad_token_id, hidden=hidden),
            recipe.training, self.precision, self.folder / f"run{self._runs}",
            lambda **_: 0.0, Progress(), count_steps(recipe.training, len(lengths), 1),
        )  # fmt: skip
        start = time.perf_counter()
        train(run)
        return len(prepared.rows) / (time.perf_counter() - start)
