"""Who learns what from whom: a head of a teacher, the inputs that it is imitated on, and what measures it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.distill.course import reader_of
from edgebert.distill.encoder import load_tokenizer
from edgebert.distill.students import same_tokenizer
from edgebert.errors import DataError, RecipeError
from edgebert.manifest import Head
from edgebert.pretrained import hidden_size, position_limit
from edgebert.tasks import columns_of, does, task_named
from edgebert.tasks.reading import Row, TaskReader
from edgebert.tasks.task import IGNORED, Example, Lesson, Task

_HELD_OUT = 1000  # inputs at most, and a tenth of all
_LEAST = 20  # inputs of which some can be held out


@dataclass(frozen=True)
class Apprenticeship:
    """One head of the student: whose it imitates, on what, and what measures it.

    place: of the head in the teacher's manifest. corpus: files of the task's inputs, with labels or without. dev: files
    of labelled examples, or none. name: of the student's head where there are several. columns: of all those files, the
    ones that they call otherwise; see `Task.read`.
    """

    teacher: Bundle
    place: int
    corpus: tuple[str, ...]
    dev: tuple[str, ...] = ()
    name: str = ""
    task_name: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        """The teacher's."""
        return self.teacher.manifest.heads[self.place]

    @property
    def task(self) -> Task:
        """What it does: by default what the head is called."""
        return task_named(self.task_name or self.head.task)


def apprenticeships(
    teacher: Bundle,
    corpus: Sequence[str],
    dev: Sequence[str],
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[Apprenticeship, ...]:
    """One for each head of `teacher`; task: another one that its only head can do, such as "pairs" of a classifier.

    columns: those that the files call otherwise; see `columns_of`.
    Raises: RecipeError for a teacher without a head, a task that its head does not do, `dev` where there are several,
    and a column that no head reads.
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
    its = columns_of([replace(head, task=one or head.task) for head in heads], columns)
    return tuple(
        Apprenticeship(teacher, place, tuple(corpus), tuple(dev), head.name, one, its[place])
        for place, head in enumerate(heads)
    )


class Inputs:
    """What one head is imitated on, read and split before anything is trained.

    learnt, aside: those to learn from, and those that are held out, which no stage sees; none where dev examples
    measure. Labelled ones are examples, others what `Predictor.items` gives, each once. dev: labelled ones.
    Raises: DataError for files that cannot be used, labels that the head lacks, and too few inputs to hold some out.
    """

    def __init__(self, one: Apprenticeship, *, labelled: bool, seed: int) -> None:
        self.one = one
        self.dev: list[Example] = one.task.read(one.dev, one.columns) if one.dev else []
        reader = reader_of(one.teacher)
        one.task.lessons(reader, self.dev, one.head)
        found: list[Any] = one.task.read(one.corpus, one.columns) if labelled else list(dict.fromkeys(_items(one)))
        if labelled:
            one.task.lessons(reader, found, one.head)
        files = ", ".join(map(str, one.corpus))
        if not found:
            raise DataError(f"{files}: no input; wanted are {one.task.columns}, the label apart")
        self.learnt, self.aside = (found, []) if self.dev else _split(found, seed, files)

    def texts(self) -> Iterator[str]:
        """All texts of the inputs to learn from, each on one line."""
        for one in self.learnt:
            item = item_of(one)
            for text in (item,) if isinstance(item, str) else item:
                yield " ".join(text.split())

    def lessons(self, inputs: Sequence[Any], head: Head, reader: TaskReader, beside: Beside) -> list[Lesson]:
        """What the student reads of those inputs, and beside it what the teacher does."""
        found = []
        for one in inputs:
            item = item_of(one)
            if isinstance(one, Example):
                some = self.one.task.lessons(reader, [one], head)
            else:
                some = [Lesson(row.bare(), np.asarray(IGNORED)) for row in self.one.task.rows(reader, item)]
            found += [Lesson(lesson.row, lesson.target, beside(lesson.row, item)) for lesson in some]
        return found


def _items(one: Apprenticeship) -> Iterator[Any]:
    for path in one.corpus:
        yield from one.task.read_inputs(path, one.columns)


def item_of(one: Any) -> Any:
    """A text or a pair of texts: what an example, or an input without labels, asks about."""
    if not isinstance(one, Example):
        return one
    return one.text if one.pair is None else (one.text, one.pair)


def _split(inputs: Sequence[Any], seed: int, where: str) -> tuple[list[Any], list[Any]]:
    """Those to learn from, and those that are held out; inputs about one text, such as a context, stay together.

    Raises: DataError for fewer than 20 of them.
    """
    items = [item_of(one) for one in inputs]
    about = [item if isinstance(item, str) else item[-1] for item in items]
    kinds = list(dict.fromkeys(about))
    if len(kinds) < _LEAST:
        raise DataError(
            f"{where}: {len(kinds)} inputs are too few to hold some out; {_LEAST} of different texts are needed, or "
            "dev examples"
        )
    count = min(_HELD_OUT, len(kinds) // 10)
    chosen = {kinds[i] for i in np.random.default_rng(seed).permutation(len(kinds))[:count]}
    kept = [one for one, text in zip(inputs, about, strict=True) if text not in chosen]
    return kept, [one for one, text in zip(inputs, about, strict=True) if text in chosen]


def _frame(backend: Any) -> tuple[list[str], list[str]]:
    """The tokens around a text, and around two."""
    return backend.encode("").tokens, backend.encode("", "").tokens


class Beside:
    """What a teacher reads where it has another tokenizer than the student.

    A smaller vocabulary of the teacher's: the student's own pieces by the teacher's numbers. Another tokenizer: the
    same input in its own way, which says nothing of single tokens. Such is one that puts other tokens around a text,
    though it may have all of the student's: MPNet's vocabulary holds BERT's, [CLS] and [SEP] too, which it never saw.
    Raises: RecipeError where a task that answers for tokens would need the latter, or where the student reads more
    tokens than the teacher.
    """

    def __init__(self, one: Apprenticeship, student: Bundle) -> None:
        self.one, self.by_tokens = one, True
        self._compare(student)
        limit = position_limit(_config(one.teacher))
        if self.by_tokens and student.manifest.max_length > limit:
            raise RecipeError(
                f"student.max_length is {student.manifest.max_length}; {one.teacher.source}, which reads the same "
                f"tokens, has places for {limit}"
            )

    def comparable(self, width: int) -> bool:
        """Whether hidden states of a student so wide can be compared with the teacher's."""
        return self.by_tokens and hidden_size(_config(self.one.teacher)) == width

    def _compare(self, student: Bundle) -> None:
        one = self.one
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


def _config(model: Bundle) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model.root / "config.json").read_text(encoding="utf-8"))
    return found


def check_plan(chosen: Sequence[Apprenticeship], start: Bundle, width: int | None, hidden: float | None) -> None:
    """Raises RecipeError, before anything is trained, for what the second stage could not learn.

    start: whose tokenizer the student has, with the student's maximum length. width: the student's, None for start's.
    hidden: the weight of hidden states that was asked for.
    """
    width = width or hidden_size(_config(start))
    for one in chosen:
        if not Beside(one, start).comparable(width) and hidden:
            theirs = hidden_size(_config(one.teacher))
            raise RecipeError(
                f"task.hidden is {hidden}; the states of {one.teacher.source} are {theirs} wide or of other tokens, "
                f"the student's are {width} wide: set it to 0"
            )
