"""The second stage of a task's student: what the teachers' heads say of the task's own inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from torch import nn

from edgebert.bundle import Bundle
from edgebert.distill.apprenticeship import Apprenticeship, Beside, Inputs
from edgebert.distill.course import Course, reader_of
from edgebert.distill.encoder import SentenceEncoder, load_encoder
from edgebert.distill.heads import Head as TorchHead
from edgebert.distill.heads import head_over
from edgebert.distill.kept_answers import ImitationCollator, KeptAnswers
from edgebert.distill.low_bits import round_linears
from edgebert.distill.recipe import Recipe, Training
from edgebert.distill.shards import fill_together
from edgebert.distill.task_answers import agreed, answers_of
from edgebert.distill.task_model import ImitationModel, Master, Shares
from edgebert.distill.teacher import fingerprint
from edgebert.distill.training import best_precision
from edgebert.manifest import Head, Quality
from edgebert.progress import Progress
from edgebert.tasks.reading import Row
from edgebert.tasks.task import Example, Lesson, renamed


class SecondStage:
    """What is learnt from whom, and how near the student is.

    student: as the first stage left it. inputs: of each apprenticeship.
    """

    def __init__(
        self, student: Bundle, chosen: Sequence[Apprenticeship], inputs: Sequence[Inputs], recipe: Recipe
    ) -> None:
        asked = recipe.task
        self.chosen, self.tasks = chosen, [one.task for one in chosen]
        self.training: Training = dataclasses.replace(
            recipe.training, epochs=asked.epochs, learning_rate=asked.learning_rate
        )
        encoders = {one.teacher.root: load_encoder(one.teacher, fused_attention=True) for one in chosen}
        self.heads = [self._fact(one) for one in chosen]
        torch.manual_seed(recipe.training.seed)
        encoder = load_encoder(student, fused_attention=True)
        encoder.heads = nn.ModuleList(
            _head(student, head, cast(TorchHead, encoders[one.teacher.root].heads[one.place]))
            for one, head in zip(chosen, self.heads, strict=True)
        )
        _set_up(encoder, recipe)
        reader, besides = reader_of(student), [Beside(one, student) for one in chosen]
        facts = list(zip(inputs, self.heads, besides, strict=True))
        lessons = [one.lessons(one.learnt, head, reader, beside) for one, head, beside in facts]
        self._held = [one.lessons(one.aside, head, reader, beside) for one, head, beside in facts]
        width = encoder.backbone.config.hidden_size
        one_encoder = len(encoders) == 1  # the states of several cannot be those of one student
        hidden = float(one_encoder) if asked.hidden is None else asked.hidden
        self.masters = [
            Master(encoders[one.teacher.root], one.place, head.level != "text", hidden > 0 and beside.comparable(width))
            for one, head, beside in zip(chosen, self.heads, besides, strict=True)
        ]
        dev = [one.dev for one in inputs]
        precision = best_precision(recipe.training.precision)
        self.answers = [
            KeptAnswers(
                master, [_theirs(lesson) for lesson in own], weights=fingerprint(one.teacher), precision=precision
            )
            for one, master, own in zip(chosen, self.masters, lessons, strict=True)
        ]
        self.course = Course(student, self.tasks, self.heads, lessons, dev, [one.dev for one in chosen])
        shares = Shares(asked.logits, hidden, asked.labels, asked.temperature)
        self.model = ImitationModel(encoder, self.tasks, self.heads, shares)
        self._wanted = [
            answers_of(master.encoder, master.place, [_theirs(lesson) for lesson in aside])
            for master, aside in zip(self.masters, self._held, strict=True)
        ]
        self._teachers = [self._teacher_score(one, examples) for one, examples in zip(chosen, dev, strict=True)]

    def _fact(self, one: Apprenticeship) -> Head:
        head = dataclasses.replace(one.head, task=one.task.name, folder="")
        return head if len(self.chosen) == 1 else renamed(head, one.name, f"heads/{one.name}")

    def answer(self, state: PartialState, progress: Progress) -> ImitationCollator:
        """Has the teachers answer what is not kept yet, each process a share of it; what training reads then.

        Raises: BudgetError where the disk cannot hold it.
        """
        for kept in self.answers:
            fill_together(kept, "the teacher's answers", state, progress)
        course = self.course
        pad_token_id = course.base.manifest.pad_token_id
        return ImitationCollator(course.lessons, course.firsts, self.answers, pad_token_id=pad_token_id)

    @property
    def metric(self) -> str:
        """What is measured: the metric of the only task, or the mean of several."""
        if len(self.chosen) > 1:
            return "score"
        return self.course.metric if self.chosen[0].dev else "agreement"

    def measure(self) -> Any:
        """The mean over the heads of the metric on dev examples, or of the agreement on held-out inputs."""

        def score(*, int8: bool = False) -> float:
            return float(np.mean(self._scores()))

        return score

    def beside(self) -> str:
        """The teacher's own score, in words."""
        known = [score for score in self._teachers if score is not None]
        return f", the teacher's is {float(np.mean(known)):.4f}" if len(known) == len(self.chosen) else ""

    def reached(self, quality: Sequence[Quality]) -> list[float]:
        """What `measure` is the mean of, of the student as it is. quality: its metrics, see `Course.scores`."""
        known = {one.metric: one.value for one in quality}
        found = []
        for place, (task, head, examples) in enumerate(zip(self.tasks, self.heads, self.course.dev, strict=True)):
            prefix = f"{head.name}_" if head.folder else ""
            found.append(known[f"{prefix}{task.metric_of(head)}"] if examples else self._agreement(place))
        return found

    def kept(self, scores: Sequence[float]) -> tuple[Quality, ...]:
        """What the student keeps of the teachers, as the manifest tells it. scores: see `reached`."""
        found = []
        for one, head, score, whole, aside in zip(
            self.chosen, self.heads, scores, self._teachers, self._held, strict=True
        ):
            prefix = f"{head.name}_" if head.folder else ""
            if whole is None:
                found.append(Quality(f"{prefix}agreement", round(score, 6), f"{len(aside)} held-out inputs"))
            elif whole > 0:
                data = f"the share of the teacher's {one.task.metric_of(head)}, {whole:.6f}"
                found.append(Quality(f"{prefix}kept", round(score / whole, 6), data))
        return tuple(found)

    def _scores(self) -> list[float]:
        predictors = self.course.predictors(self.model.encoder, self.heads)
        found = []
        for place, (task, head, examples) in enumerate(zip(self.tasks, self.heads, self.course.dev, strict=True)):
            if examples:
                found.append(task.scores(predictors[place], examples)[task.metric_of(head)])
            else:
                found.append(self._agreement(place))
        return found

    def _agreement(self, place: int) -> float:
        """On held-out inputs, of the head at `place`."""
        ours = answers_of(self.model.encoder, place, [lesson.row for lesson in self._held[place]])
        return agreed(ours, self._wanted[place], self.heads[place])

    def _teacher_score(self, one: Apprenticeship, examples: Sequence[Example]) -> float | None:
        if not examples:
            return None
        encoder = next(m.encoder for m, other in zip(self.masters, self.chosen, strict=True) if other is one)
        course = Course(one.teacher, [one.task], [one.head], [[]], [[]], [[]])
        view = _view(encoder, one.place)
        return one.task.scores(course.predictors(view, [one.head])[0], examples)[one.task.metric_of(one.head)]


def _theirs(lesson: Lesson) -> Row:
    """What the teacher reads."""
    return lesson.row if lesson.beside is None else lesson.beside


def _view(encoder: SentenceEncoder, place: int) -> SentenceEncoder:
    """The same encoder with that head alone."""
    return SentenceEncoder(
        encoder.backbone, pooling=encoder.pooling, dense=list(encoder.dense), normalize=encoder.normalize,
        heads=[cast(TorchHead, encoder.heads[place])],
    ).eval()  # fmt: skip


def _head(student: Bundle, head: Head, theirs: TorchHead) -> TorchHead:
    """A head over the student: with the teacher's weights where they fit, else a new one."""
    made = head_over(student, head)
    ours, given = made.state_dict(), theirs.state_dict()
    if {name: weight.shape for name, weight in ours.items()} == {name: weight.shape for name, weight in given.items()}:
        made.load_state_dict(given)
    return made


def _set_up(encoder: SentenceEncoder, recipe: Recipe) -> None:
    """Layers in few bits, frozen word vectors and no dropout, as in the first stage."""
    student, freeze = recipe.student, recipe.training.freeze_embeddings
    if student.linear_bits is not None:
        round_linears(encoder)
    if student.table_codes is not None or (student.start == "teacher" if freeze is None else freeze):
        encoder.backbone.get_input_embeddings().weight.requires_grad_(False)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the target is the teacher's answer to the whole input
