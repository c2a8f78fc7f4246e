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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import nn

from edgebert.bundle import Bundle
from edgebert.distill.course import Course, reader_of, run_folder
from edgebert.distill.encoder import SentenceEncoder, load_encoder, load_tokenizer
from edgebert.distill.finetuning import run_name, versions
from edgebert.distill.heads import Head as TorchHead
from edgebert.distill.heads import head_over
from edgebert.distill.job import told_data
from edgebert.distill.low_bits import keep_rounded, round_linears
from edgebert.distill.recipe import Recipe, Training
from edgebert.distill.stage import distill
from edgebert.distill.students import name_of, same_tokenizer
from edgebert.distill.task_answers import agreed, answers_of
from edgebert.distill.task_model import ImitationModel, Master, Shares
from edgebert.distill.teacher import fingerprint, reading_of
from edgebert.distill.tensorboard import require_tensorboard
from edgebert.errors import DataError, RecipeError
from edgebert.files import new_file, require_writable, sha256
from edgebert.manifest import Head, Quality
from edgebert.progress import Progress
from edgebert.schema import plain
from edgebert.tasks import does, task_named
from edgebert.tasks.reading import Row, TaskReader
from edgebert.tasks.task import IGNORED, Example, Lesson, Task, renamed

_HELD_OUT = 1000  # rows at most, and a tenth of all


@dataclass(frozen=True)
class Apprenticeship:
    """One head of the student: whose it imitates, on what, and what measures it.

    place: of the head in the teacher's manifest. corpus: files of the task's inputs, with labels or without. dev: files
    of labelled examples, or none. name: of the student's head where there are several.
    """

    teacher: Bundle
    place: int
    corpus: tuple[str, ...]
    dev: tuple[str, ...] = ()
    name: str = ""
    task_name: str = ""

    @property
    def head(self) -> Head:
        """The teacher's."""
        return self.teacher.manifest.heads[self.place]

    @property
    def task(self) -> Task:
        """What it does: by default what the head is called."""
        return task_named(self.task_name or self.head.task)


def apprenticeships(
    teacher: Bundle, corpus: Sequence[str], dev: Sequence[str], task: str | None = None
) -> tuple[Apprenticeship, ...]:
    """One for each head of `teacher`; task: another one that its only head can do, such as "pairs" of a classifier.

    Raises: RecipeError for a teacher without a head, a task that its head does not do, `dev` where there are several.
    """
    heads = teacher.manifest.heads
    if not heads:
        raise RecipeError(f"{teacher.source} gives vectors and has no head that does the task {task!r}: fine-tune it "
                          "first, edgebert finetune")  # fmt: skip
    own = teacher.manifest.task
    if task is not None and task != own and (len(heads) > 1 or not does(heads[0], task)):
        raise RecipeError(f"{teacher.source} is made for the task {own!r} and cannot teach {task!r}")
    if dev and len(heads) > 1:
        raise RecipeError(f"{teacher.source} has {len(heads)} heads; name the dev files of each in a file of tasks")
    one = "" if task in (None, "multi") else str(task)
    return tuple(
        Apprenticeship(teacher, place, tuple(corpus), tuple(dev), head.name, one) for place, head in enumerate(heads)
    )


def distill_task(
    chosen: Sequence[Apprenticeship], out: Path, recipe: Recipe, *, general: Sequence[str | Path] = (),
    column: str | None = None, work: Path | None = None, progress: Progress | None = None,
) -> Bundle:  # fmt: skip
    """A student of the chosen teachers' heads as a new bundle in `out`.

    general: text of the first stage, whose teacher is that of the first head; by default the tasks' own text. column:
    its column. work: see `edgebert.distill.stage.distill`; both stages go on after a break. Dev examples measure, stop
    early and fit the temperature of probabilities; without them, agreement with the teacher on inputs that are held
    out does the first two.
    Raises: DataError, RecipeError, BundleError; EdgeBertError when another process trains the same.
    """
    if recipe.training.qat:
        raise RecipeError(f"training.qat is {recipe.training.qat}; students of a task imitate no int8: set it to 0")
    if recipe.teachers:
        raise RecipeError("teachers: a student of a task has one teacher for each head; leave [[teachers]] out")
    if recipe.training.tensorboard is not None:
        require_tensorboard()
    began, state = time.monotonic(), PartialState(cpu=not torch.cuda.is_available())
    if progress is None or not state.is_main_process:
        progress = Progress()
    if state.is_main_process:
        require_writable(out)
    for path in [*general, *(path for one in chosen for path in (*one.corpus, *one.dev))]:
        if not Path(path).is_file():
            raise DataError(
                "standard input (-) cannot be read twice, as a task's corpus is: write it to a file first"
                if str(path) == "-" else f"no such file: {path}"
            )  # fmt: skip
    told = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, tensorboard=None))
    facts = {
        "tasks": [_told(one) for one in chosen],
        "recipe": plain(told) | {"data": told_data(told)},
        "general": [sha256(Path(path)) for path in general],
        "versions": versions(),
    }
    key = run_name(facts, [reading_of(one.teacher) for one in chosen], state.num_processes)
    with run_folder(key, work, state) as folder, contextlib.ExitStack() as held:
        texts = list(general)
        if not texts:
            own = folder / "general.txt"
            with state.main_process_first():
                if not own.exists():
                    _write_texts(chosen, own)
            texts = [own]
        first = folder / "general"
        if not first.exists():
            progress.say("first stage: the teacher's states and vectors on text")
            distill(chosen[0].teacher, texts, first, told, column=column, work=folder, progress=progress)
        progress.say("second stage: what the teacher's heads say")
        stage = _Second(Bundle.open(first), chosen, recipe)
        measure = stage.measure()
        before = measure()
        progress.say(f"before the second stage: {stage.metric} {before:.4f}{stage.beside()}")
        course, model = stage.course, stage.model
        trained = course.learn(model, stage.training, folder, measure, stage.metric, progress, state, began, held)
        if state.is_main_process:
            keep_rounded(model.encoder)
            after = measure()
            progress.say(f"after it: {stage.metric} {after:.4f}{stage.beside()}")
            heads = course.calibrated(model.encoder)
            quality = (*course.scores(model.encoder, heads), *stage.kept(after))
            lineage = facts | {"first_stage": dict(course.base.manifest.lineage), "before_second_stage": before}
            course.write(model.encoder, heads, quality, lineage, trained, out)
    return Bundle.open(out)


def _told(one: Apprenticeship) -> dict[str, object]:
    return {
        "name": one.name, "task": one.task.name, "teacher": name_of(one.teacher),
        "teacher_sha256": fingerprint(one.teacher), "teacher_head": one.head.name,
        "sha256": [[sha256(Path(path)) for path in files] for files in (one.corpus, one.dev)],
    }  # fmt: skip


def _write_texts(chosen: Sequence[Apprenticeship], path: Path) -> None:
    """All texts of the tasks' inputs, one a line; the corpus leaves repeats out."""
    with new_file(path) as partial, partial.open("w", encoding="utf-8") as sink:
        for one in chosen:
            for item in _items(one):
                for text in (item,) if isinstance(item, str) else item:
                    sink.write(f"{' '.join(text.split())}\n")


def _items(one: Apprenticeship) -> Iterator[Any]:
    for path in one.corpus:
        yield from one.task.read_inputs(path)


class _Second:
    """The second stage: what is learnt from whom, and how near the student is."""

    def __init__(self, student: Bundle, chosen: Sequence[Apprenticeship], recipe: Recipe) -> None:
        asked, seed = recipe.task, recipe.training.seed
        self.chosen, self.tasks = chosen, [one.task for one in chosen]
        self.training: Training = dataclasses.replace(
            recipe.training, epochs=asked.epochs, learning_rate=asked.learning_rate
        )
        encoders = {one.teacher.root: load_encoder(one.teacher, fused_attention=True) for one in chosen}
        self.heads = [self._fact(one) for one in chosen]
        torch.manual_seed(seed)
        encoder = load_encoder(student, fused_attention=True)
        encoder.heads = nn.ModuleList(
            _head(student, head, cast(TorchHead, encoders[one.teacher.root].heads[one.place]))
            for one, head in zip(chosen, self.heads, strict=True)
        )
        if recipe.student.linear_bits is not None:
            round_linears(encoder)
        if recipe.training.freeze_embeddings is not False:
            encoder.backbone.get_input_embeddings().weight.requires_grad_(False)
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # as in the first stage: the target is the teacher's answer to the whole input
        width = encoder.backbone.config.hidden_size
        masters, lessons, held = [], [], []
        reader = reader_of(student)
        for one, head in zip(chosen, self.heads, strict=True):
            theirs = encoders[one.teacher.root]
            beside = _Beside(one, student)
            found = _lessons(one, head, reader, beside, labelled=asked.labels > 0)
            comparable = beside.by_tokens and theirs.backbone.config.hidden_size == width
            if asked.hidden and not comparable:
                raise RecipeError(
                    f"task.hidden is {asked.hidden}; the states of {one.teacher.source} are "
                    f"{theirs.backbone.config.hidden_size} wide or of other tokens, the student's are {width} wide: "
                    "set it to 0"
                )
            masters.append(Master(theirs, one.place, comparable))
            kept, aside = _split(found, seed) if not one.dev else (found, [])
            lessons.append(kept)
            held.append(aside)
        dev: list[list[Example]] = [one.task.read(one.dev) if one.dev else [] for one in chosen]
        self.course = Course(student, self.tasks, self.heads, lessons, dev, [one.dev for one in chosen])
        one_encoder = len(encoders) == 1  # the states of several cannot be those of one student
        hidden = float(one_encoder) if asked.hidden is None else asked.hidden
        shares = Shares(asked.logits, hidden, asked.labels, asked.temperature)
        self.model = ImitationModel(encoder, self.tasks, self.heads, masters, shares)
        self._held = held
        self._wanted = [
            answers_of(master.encoder, master.place, [lesson.beside or lesson.row for lesson in aside])
            for master, aside in zip(masters, held, strict=True)
        ]
        self._teachers = [self._teacher_score(one, examples) for one, examples in zip(chosen, dev, strict=True)]

    def _fact(self, one: Apprenticeship) -> Head:
        head = dataclasses.replace(one.head, task=one.task.name, folder="")
        return head if len(self.chosen) == 1 else renamed(head, one.name, f"heads/{one.name}")

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

    def kept(self, after: float) -> tuple[Quality, ...]:
        """What the student keeps of the teachers, as the manifest tells it."""
        found = []
        scores = self._scores()
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
        encoder = self.model.encoder
        predictors = self.course.predictors(encoder, self.heads)
        found = []
        for place, (task, head, examples) in enumerate(zip(self.tasks, self.heads, self.course.dev, strict=True)):
            if examples:
                found.append(task.scores(predictors[place], examples)[task.metric_of(head)])
            else:
                ours = answers_of(encoder, place, [lesson.row for lesson in self._held[place]])
                found.append(agreed(ours, self._wanted[place], head))
        return found

    def _teacher_score(self, one: Apprenticeship, examples: Sequence[Example]) -> float | None:
        if not examples:
            return None
        encoder = next(m.encoder for m, other in zip(self.model.masters, self.chosen, strict=True) if other is one)
        course = Course(one.teacher, [one.task], [one.head], [[]], [[]], [[]])
        view = _view(encoder, one.place)
        return one.task.scores(course.predictors(view, [one.head])[0], examples)[one.task.metric_of(one.head)]


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


def _frame(backend: Any) -> tuple[list[str], list[str]]:
    """The tokens around a text, and around two."""
    return backend.encode("").tokens, backend.encode("", "").tokens


class _Beside:
    """What a teacher reads where it has another tokenizer than the student.

    A smaller vocabulary of the teacher's: the student's own pieces by the teacher's numbers. Another tokenizer: the
    same input in its own way, which says nothing of single tokens. Such is one that puts other tokens around a text,
    though it may have all of the student's: MPNet's vocabulary holds BERT's, [CLS] and [SEP] too, which it never saw.
    Raises: RecipeError where a task that answers for tokens would need the latter.
    """

    def __init__(self, one: Apprenticeship, student: Bundle) -> None:
        self.one, self.by_tokens = one, True
        self.same = same_tokenizer(student, one.teacher)
        self.ids: NDArray[np.int64] | None = None
        if self.same:
            return
        backends = [load_tokenizer(bundle).backend for bundle in (student, one.teacher)]
        ours, theirs = (backend.get_vocab(with_added_tokens=True) for backend in backends)
        framed, frame = (_frame(backend) for backend in backends)
        missing = next((token for token in ours if token not in theirs), None)
        if missing is None and framed == frame:
            self.ids = np.zeros(max(ours.values()) + 1, np.int64)
            for token, number in ours.items():
                self.ids[number] = theirs[token]
            return
        self.by_tokens = False
        if one.task.level != "text":
            why = f"puts {' '.join(frame[0])} around a text, not {' '.join(framed[0])}"
            why = why if missing is None else f"has no token {missing!r}"
            raise RecipeError(
                f"the task {one.task.name!r} answers token by token, and the student's tokenizer is not that of "
                f"{one.teacher.source}, which {why}: start from a model with its tokenizer"
            )
        self.reader = reader_of(one.teacher)

    def __call__(self, row: Row, item: Any) -> Row | None:
        """What the teacher reads instead of the student's `row` of `item`; None for the same."""
        if self.same:
            return None
        if self.ids is not None:
            return Row([int(self.ids[token]) for token in row], row.types, row.offsets)
        return self.one.task.rows(self.reader, item)[0]


def _lessons(one: Apprenticeship, head: Head, reader: TaskReader, beside: _Beside, *, labelled: bool) -> list[Lesson]:
    """Each input once; labels where they are learnt, too."""
    if labelled:
        examples = one.task.read(one.corpus)
        found = one.task.lessons(reader, examples, head)
        if beside.same:
            return found
        items = [one_ for one_ in examples for _ in one.task.rows(reader, _item(one_))]
        return [
            dataclasses.replace(lesson, beside=beside(lesson.row, _item(example)))
            for lesson, example in zip(found, items, strict=True)
        ]
    nothing = np.asarray(IGNORED)
    found = [
        Lesson(row, nothing, beside(row, item))
        for item in dict.fromkeys(_items(one)) for row in one.task.rows(reader, item)
    ]  # fmt: skip
    if not found:
        raise DataError(f"{', '.join(map(str, one.corpus))}: no input; wanted are {one.task.columns}, the label apart")
    return found


def _item(example: Example) -> Any:
    return example.text if example.pair is None else (example.text, example.pair)


def _split(lessons: Sequence[Lesson], seed: int) -> tuple[list[Lesson], list[Lesson]]:
    """Those to learn from, and those that are held out.

    Raises: DataError for fewer than 20.
    """
    if len(lessons) < 20:
        raise DataError(f"{len(lessons)} inputs are too few to hold some out; 20 are needed, or dev examples")
    count = min(_HELD_OUT, len(lessons) // 10)
    order = np.random.default_rng(seed).permutation(len(lessons))
    return [lessons[i] for i in np.sort(order[count:])], [lessons[i] for i in np.sort(order[:count])]
