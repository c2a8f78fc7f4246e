"""Distilling a task: a teacher with heads and text in, labelled or not, a student that does the task out.

Two stages. In the first the student learns the teacher's hidden states and vectors on text, as any student does
(`edgebert.distill.stage`); in the second what the teacher's heads say of the task's own inputs.
Source: Jiao et al. 2020, TinyBERT, arXiv:1909.10351, for the stages; Hinton et al. 2015, arXiv:1503.02531, for logits;
Clark et al. 2019, arXiv:1907.04829, for one student of several tasks' teachers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from edgebert.bundle import Bundle
from edgebert.distill.apprenticeship import Apprenticeship, Inputs, check_plan
from edgebert.distill.course import require_files, run_folder
from edgebert.distill.finetuning import run_name, versions
from edgebert.distill.history import require_figures
from edgebert.distill.job import told_data
from edgebert.distill.low_bits import keep_rounded
from edgebert.distill.recipe import Data, Recipe
from edgebert.distill.second_stage import SecondStage
from edgebert.distill.stage import distill
from edgebert.distill.students import name_of
from edgebert.distill.teacher import fingerprint, reading_of
from edgebert.distill.tensorboard import require_tensorboard
from edgebert.errors import RecipeError
from edgebert.files import new_file, require_writable, sha256
from edgebert.progress import Progress
from edgebert.schema import plain
from edgebert.tokenizer import SURROGATE

_FRESH_WIDTH = 384


def distill_task(
    chosen: Sequence[Apprenticeship], out: Path, recipe: Recipe, *, first: Bundle | None = None,
    general: Sequence[str | Path] = (), column: str | None = None, work: Path | None = None,
    progress: Progress | None = None,
) -> Bundle:  # fmt: skip
    """A student of the chosen teachers' heads as a new bundle in `out`.

    first: the teacher of the first stage, by default that of the first head. general: text of that stage, by default
    the tasks' own; `recipe.data` and `column` are about it. work: see `edgebert.distill.stage.distill`; both stages
    go on after a break. Dev examples measure, stop early and fit the temperature of probabilities; without them,
    agreement with the teacher on inputs that neither stage sees does the first two.
    Raises: DataError, RecipeError, BundleError; EdgeBertError when another process trains the same.
    """
    _check(chosen, recipe, general, column)
    first = first or chosen[0].teacher
    state = PartialState(cpu=not torch.cuda.is_available())
    if progress is None or not state.is_main_process:
        progress = Progress()
    if state.is_main_process:
        require_writable(out)
        require_figures(out)
    start = first if recipe.student.start in ("teacher", "fresh") else Bundle.from_pretrained(recipe.student.start)
    width = recipe.student.width or (_FRESH_WIDTH if recipe.student.start == "fresh" else None)
    longest = recipe.student.max_length or start.manifest.max_length
    planned = dataclasses.replace(start, manifest=dataclasses.replace(start.manifest, max_length=longest))
    check_plan(chosen, planned, width, recipe.task.hidden)
    inputs = [Inputs(one, labelled=recipe.task.labels > 0, seed=recipe.training.seed) for one in chosen]
    told = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, tensorboard=None))
    facts = {
        "tasks": [_told(one) for one in chosen],
        "recipe": plain(told) | {"data": told_data(told)},
        "general": [sha256(Path(path)) for path in general],
        "versions": versions(),
    }
    models = [first, start, *(one.teacher for one in chosen)]
    key = run_name(facts, column, [(fingerprint(one), reading_of(one)) for one in models], state.num_processes)
    with run_folder(key, work, state) as folder, contextlib.ExitStack() as held:
        texts = list(general)
        if not texts:
            own = folder / "general.txt"
            with state.main_process_first():
                if not own.exists():
                    _write_texts(inputs, own)
            texts = [own]
        begun = folder / "general"
        if not begun.exists():
            progress.say("first stage: the teacher's states and vectors on text")
            distill(first, texts, begun, told, column=column, work=folder, progress=progress)
        student = Bundle.open(begun)
        progress.say("second stage: what the teacher's heads say")
        began = time.monotonic()
        stage = SecondStage(student, chosen, inputs, recipe)
        measure = stage.measure()
        before = measure()
        progress.say(f"before the second stage: {stage.metric} {before:.4f}{stage.beside()}")
        course, model = stage.course, stage.model
        trained = course.learn(
            model, stage.training, folder, measure, stage.metric, progress, state, began, held,
            stage.answer(state, progress),
        )  # fmt: skip
        if state.is_main_process:
            keep_rounded(model.encoder)
            heads = course.calibrated(model.encoder)
            quality = course.scores(model.encoder, heads)
            scores = stage.reached(quality)
            progress.say(f"after it: {stage.metric} {np.mean(scores):.4f}{stage.beside()}")
            quality = (*quality, *stage.kept(scores))
            lineage = facts | {"first_stage": dict(student.manifest.lineage), "before_second_stage": before}
            seconds = float(student.manifest.lineage.get("training_seconds", 0))
            course.write(model.encoder, heads, quality, lineage, trained, out, seconds_before=seconds)
    return Bundle.open(out)


def _check(chosen: Sequence[Apprenticeship], recipe: Recipe, general: Sequence[str | Path], column: str | None) -> None:
    """Raises RecipeError for what a student of a task does not do, DataError for files that are not there."""
    if recipe.training.qat:
        raise RecipeError(f"training.qat is {recipe.training.qat}; students of a task imitate no int8: set it to 0")
    if recipe.teachers:
        raise RecipeError("teachers: a student of a task has one teacher for each head; leave [[teachers]] out")
    if recipe.data.exclude:
        raise RecipeError("data.exclude is for text without labels: leave those texts out of the task's files yourself")
    plain_data = dataclasses.replace(Data(), held_out=recipe.data.held_out)
    if not general and (recipe.data != plain_data or column is not None):
        chooses = "what chooses text ([data], or an option such as --max-sentences)"
        what = chooses if column is None else f"--column {column}"
        raise RecipeError(
            f"{what} is about the text of --general, which is not given: a task's files are read as they are"
        )
    if recipe.training.tensorboard is not None:
        require_tensorboard()
    require_files([*general, *(path for one in chosen for path in (*one.corpus, *one.dev))])


def _told(one: Apprenticeship) -> dict[str, object]:
    return {
        "name": one.name, "task": one.task.name, "teacher": name_of(one.teacher),
        "teacher_sha256": fingerprint(one.teacher), "teacher_head": one.head.name,
        "sha256": [[sha256(Path(path)) for path in files] for files in (one.corpus, one.dev)],
        **({"columns": dict(one.columns)} if one.columns else {}),
    }  # fmt: skip


def _write_texts(inputs: Sequence[Inputs], path: Path) -> None:
    """All texts that are learnt from, one a line; the corpus leaves repeats out."""
    with new_file(path) as partial, partial.open("w", encoding="utf-8") as sink:
        for one in inputs:
            sink.writelines(SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text) + "\n" for text in one.texts())
