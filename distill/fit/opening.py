"""What a fit begins with: its options, checked, its texts, and its folder, locked."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.distill.corpus import Corpus, open_corpus
from edgebert.distill.fake_quant import schedule
from edgebert.distill.fit.costs import Costs
from edgebert.distill.fit.device import Device
from edgebert.distill.fit.halving import schedule as rungs
from edgebert.distill.fit.judge import Judge
from edgebert.distill.fit.rungs import Rungs
from edgebert.distill.fit.space import Candidate, Space
from edgebert.distill.hardest import count_hardest
from edgebert.distill.job import run_key
from edgebert.distill.lock import sole_user
from edgebert.distill.prepare import draw, prompted, prompts_of
from edgebert.distill.recipe import Recipe
from edgebert.distill.stage import mix_of
from edgebert.distill.training import count_steps
from edgebert.errors import DataError, RecipeError
from edgebert.files import disk_errors, sha256
from edgebert.progress import Progress

_CALIBRATION, _TIMED = 5000, 256
_LEAST = 40  # texts to train on: quantizing takes 16 and more to calibrate and to compare


@dataclass(frozen=True)
class Options:
    """space: of candidates. recipe: how they are trained; its student is the candidates' start, its epochs those of
    the last rung. column: the text's in JSONL, CSV, TSV and Parquet. dev: text pairs with scores to judge by. threads:
    of the timed models. work: where all is kept, by default the cache.
    """

    space: Space = dataclasses.field(default_factory=Space)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    column: str | None = None
    dev: Path | None = None
    threads: int | None = None
    work: Path | None = None


Found = tuple[Rungs, tuple[Candidate, ...]]


@contextlib.contextmanager
def opened(
    teacher: Bundle, corpus: Sequence[str | Path], device: Device, options: Options, progress: Progress
) -> Iterator[Found]:
    """All that a fit works with, in its folder, which is locked while it works."""
    recipe = options.recipe
    if recipe.student.start != "teacher":
        raise RecipeError(
            f"student.start is {recipe.student.start!r}; edgebert fit copies the teacher's layers: leave it out"
        )
    if recipe.student.table_codes is not None:
        raise RecipeError(
            f"student.table_codes is {recipe.student.table_codes}; a fit looks for tables of 8 and 4 bits "
            "(space.tables): leave it out"
        )
    if recipe.student.linear_bits is not None:
        raise RecipeError(
            f"student.linear_bits is {recipe.student.linear_bits}; a fit looks for layers of 8 bits: leave it out"
        )
    if recipe.student.projection == "rotate":
        raise RecipeError('student.projection is "rotate"; a fit trains its students: use "keep" or "drop"')
    if recipe.objectives.contrastive:
        raise RecipeError(
            f"objectives.contrastive is {recipe.objectives.contrastive} and learns from pairs, of which edgebert fit "
            "takes none: set it to 0"
        )
    if not recipe.training.epochs:
        raise RecipeError("training.epochs is 0; edgebert fit trains its candidates: give it more than 0")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("edgebert fit times models and runs in one process: start it without torchrun")
    if any(str(path) == "-" for path in corpus):
        raise DataError("standard input (-) can be read once, and a fit reads the text again and again: write the "
                        "text to a file first")  # fmt: skip
    candidates = options.space.candidates(teacher)
    if teacher.is_sealed:
        teacher.check()
    text = open_corpus(corpus, column=options.column, mix=mix_of(recipe))
    drawn = draw(text, teacher, recipe, progress)
    rows = drawn.chosen[drawn.rows]
    if len(rows) < _LEAST:
        raise DataError(f"{len(rows)} sentences to train on are too few to fit a budget: at least {_LEAST} are needed")
    _require_steps(recipe, len({candidate.unit for candidate in candidates}), len(rows))
    folder = (options.work or cache_folder("fits")) / _key(teacher, text.fingerprint, recipe, options.dev)
    with contextlib.ExitStack() as open_things:
        with disk_errors(folder):
            open_things.enter_context(sole_user(folder))
        open_things.callback(_leave, folder)
        costs = Costs(
            teacher, text, drawn.fitting, recipe, device, folder, _evenly(text, rows, _CALIBRATION),
            _evenly(text, rows, _TIMED), options.threads, progress,
        )  # fmt: skip
        _sweep(folder)
        held_out = [prompted(text, int(row), prompts_of(teacher)) for row in drawn.chosen[drawn.held_out]]
        yield Rungs(costs, Judge(teacher, held_out, options.dev, folder), corpus, options.column), candidates


def _require_steps(recipe: Recipe, units: int, rows: int) -> None:
    """Raises RecipeError when the shortest of the rungs is too short to imitate int8 in."""
    shortest = rungs(units, recipe.training.epochs)[0].epochs
    training = dataclasses.replace(recipe.training, epochs=shortest)
    schedule(training.qat, count_steps(training, count_hardest(rows, recipe.data.hardest), 1))


def _leave(folder: Path) -> None:
    """Removes what is empty after a fit that was not interrupted."""
    for name in ("runs", "scratch"):
        with contextlib.suppress(OSError):
            (folder / name).rmdir()


def _sweep(folder: Path) -> None:
    """Removes what a run that was killed left half written."""
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    for left in folder.rglob(".*.partial"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _evenly(text: Corpus, rows: NDArray[np.int64], count: int) -> list[str]:
    """At most `count` of those texts, evenly spread."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    return [text[int(rows[place])] for place in places]


def _key(teacher: Bundle, text: str, recipe: Recipe, dev: Path | None) -> str:
    """A name for all that is the same in fits that share what they measure and train: not their budgets, spaces and
    epochs, which name the parts of the folder."""
    if dev is not None and not dev.is_file():
        raise DataError(f"no such file: {dev}")
    training = dataclasses.replace(recipe.training, epochs=0.0, tensorboard=None)
    return run_key(teacher, text, dataclasses.replace(recipe, training=training), dev and sha256(dev))
