"""What a task is: one object that says all that training, distilling, quantizing and running it need.

To add a task, write a file beside this one with its runtime object (a `Predictor`) and its `Task`, and name the file in
`edgebert.tasks.KINDS`. Reading files, heads, losses and scores are asked for here and nowhere else; torch and the
libraries of metrics are imported by what needs them, as a device has neither.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgebert.errors import DataError
from edgebert.manifest import Head, Level
from edgebert.tasks.columns import Names, require_read, rows_of
from edgebert.tasks.predictor import Predictor
from edgebert.tasks.reading import Row, TaskReader
from edgebert.tokenizer import SURROGATE

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # a target that no loss counts


@dataclass(frozen=True)
class Example:
    """One labelled input. pair: the second text, None where there is none. target: what the task makes of the label.

    where: file and row, for messages.
    """

    text: str
    pair: str | None
    target: Any
    where: str


@dataclass(frozen=True)
class Lesson:
    """What is trained on. Shape: target () or (labels,) for a text, (tokens,) for tokens, (2,) for a span.

    beside: what a teacher reads of it, None where that is the row itself. lost: how much of the example cannot be
    learnt, said by the first of its lessons; see `Task.unread`.
    """

    row: Row
    target: NDArray[Any]
    beside: Row | None = None
    lost: int = 0


class Task(ABC):
    """See the module. level: what a head answers for. metric: the main one of `scores`; columns: in words.

    answered: the columns that hold the answer, beside those that the runtime object reads.
    two_texts: whether it is asked about two. pipeline: what transformers and the Hub call it; call: an example of use.
    """

    name: ClassVar[str]
    level: ClassVar[Level]
    metric: ClassVar[str]
    columns: ClassVar[str]
    answered: ClassVar[tuple[str, ...]]
    runtime: ClassVar[type[Predictor]]
    pipeline: ClassVar[str]
    call: ClassVar[str]
    two_texts: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that examples are made of."""
        return (*self.runtime.reads, *self.answered)

    def read(self, paths: Sequence[str | Path], names: Names | None = None) -> list[Example]:
        """The examples of those files.

        names: the columns of `reads` that the files call otherwise, where they have columns.
        Raises: DataError naming file, row, value and what is allowed; for files without an example; RecipeError for a
        name that is not read.
        """
        require_read(names or {}, self.reads)
        found = [example for path in paths for example in self.read_file(path, names)]
        if not found:
            raise DataError(f"{', '.join(map(str, paths))}: no example; wanted are {self.columns}")
        return found

    def read_file(self, path: str | Path, names: Names | None = None) -> Iterator[Example]:
        """The examples of one file, which has columns; see `read`."""
        for where, row in rows_of(path, names, self.reads):
            yield self.example(row, where)

    def metric_of(self, head: Head) -> str:
        """The main metric for that head."""
        return self.metric

    def read_inputs(self, path: str | Path, names: Names | None = None) -> Iterator[Any]:
        """What the rows of one file ask about, whether they have labels or not. Raises: as `read`."""
        yield from self.runtime.items(path, self.asked_by(names))

    def asked_by(self, names: Names | None) -> Names:
        """Those of the names that are not of answers. Raises: RecipeError for one that is not read."""
        require_read(names or {}, self.reads)
        return {name: theirs for name, theirs in (names or {}).items() if name in self.runtime.reads}

    @abstractmethod
    def rows(self, reader: TaskReader, item: Any) -> list[Row]:
        """What the model reads of a text or a pair of texts. Raises: DataError for one that leaves no room."""

    @abstractmethod
    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """The example that a row of a file is. Raises: DataError."""

    @abstractmethod
    def head(self, examples: Sequence[Example]) -> Head:
        """The head that those examples, the training ones, ask for.

        Raises: DataError where they do not make sense together, such as all with one label.
        """

    @abstractmethod
    def lessons(self, reader: TaskReader, examples: Sequence[Example], head: Head) -> list[Lesson]:
        """What is trained on; an example may give several. Raises: DataError for a target that the head lacks."""

    def unread(self, lessons: Sequence[Lesson], examples: Sequence[Example], max_length: int) -> str:
        """What the lessons leave out of the examples, in words, "" where that is nothing."""
        lost = sum(lesson.lost for lesson in lessons)
        return f"{lost} of {len(examples)} texts are longer than {max_length} tokens and are cut" if lost else ""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor, head: Head, weights: Tensor | None) -> Tensor:
        """The mean over the batch, a scalar. weights: of the labels, None for all the same.

        Shape: logits as `edgebert.distill.heads.Head` gives them; targets those of `Lesson`, padded with `IGNORED`;
        mask (batch, seq_len).
        """

    @abstractmethod
    def imitation(self, student: Tensor, teacher: Tensor, mask: Tensor, head: Head, temperature: float) -> Tensor:
        """How far the student's logits are from a teacher's, a scalar. Shape: both as a head gives them; mask (batch,
        seq_len)."""

    def unlabelled(self, item: Any, where: str) -> Example:
        """What asks about a text or a pair of texts and has no target."""
        text, pair = (item, None) if isinstance(item, str) else item
        return Example(text, pair, None, where)

    @abstractmethod
    def check(self, examples: Sequence[Example], head: Head) -> None:
        """Raises DataError for a target of another kind than the head's, before a model reads."""

    @abstractmethod
    def answers(self, model: Predictor, examples: Sequence[Example]) -> list[Any]:
        """What the model says to each, as `scored` reads it, whatever their targets."""

    @abstractmethod
    def scored(self, answers: Sequence[Any], examples: Sequence[Example], head: Head) -> dict[str, float]:
        """Metrics by name, `metric` first, each within 0 to 1 or a correlation."""

    def weight(self, answer: Any) -> int:
        """How many answers the metric counts in it."""
        return 1

    def as_target(self, answer: Any) -> Any:
        """The target of an example of which that answer is right."""
        return answer

    def scores(self, model: Predictor, examples: Sequence[Example]) -> dict[str, float]:
        """Metrics of the model; see `scored`."""
        self.check(examples, model.head)
        return self.scored(self.answers(model, examples), examples, model.head)

    def agreement(
        self, answers: Sequence[Any], reference: Sequence[Any], examples: Sequence[Example], head: Head
    ) -> float:
        """The main metric with the reference's answers as the right ones; 1 where all are the same."""
        if list(answers) == list(reference):
            return 1.0
        if all(isinstance(one, float) for one in reference) and np.ptp(reference) == 0:
            return float(np.allclose(answers, reference))  # nothing correlates with numbers that are all the same
        told = [
            dataclasses.replace(one, target=self.as_target(answer))
            for one, answer in zip(examples, reference, strict=True)
        ]
        return self.scored(answers, told, head)[self.metric_of(head)]


def label_of(value: Any, where: str, *, column: str = "label") -> str:
    """A label in words, without blanks around it: text or a whole number. Raises: DataError where there is none."""
    label = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, str | int) or not label or SURROGATE.search(label):
        number = isinstance(value, float) and math.isfinite(value)
        told = "; for numbers, pairs and regress have the column 'score'" if number else ""
        raise DataError(
            f"{where}, column {column!r} holds {value!r:.80}; a label is needed, a word or a whole number{told}"
        )
    return label


def sorted_labels(labels: set[str]) -> tuple[str, ...]:
    """Whole numbers by their size, else by the alphabet."""
    try:
        return tuple(sorted(sorted(labels), key=int))
    except ValueError:
        return tuple(sorted(labels))


def require_several(labels: Sequence[str], examples: Sequence[Example]) -> None:
    """Raises: DataError for fewer than two labels."""
    if len(labels) < 2:
        raise DataError(
            f"all {len(examples)} examples have the label {labels[0]!r}: nothing is to be told apart; at least two "
            "labels are needed"
            if labels
            else f"none of the {len(examples)} examples has a label"
        )


def place_of(label: str, head: Head, where: str) -> int:
    """The label's place. Raises: DataError for one that the head lacks."""
    place = _places(head.labels).get(label)
    if place is None:
        shown = ", ".join(head.labels[:20]) + (" ..." if len(head.labels) > 20 else "")
        raise DataError(f"{where}: the label {label!r} is not among those of the training text: {shown}")
    return place


@lru_cache(maxsize=8)
def _places(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: place for place, label in enumerate(labels)}


def renamed(head: Head, name: str, folder: str) -> Head:
    """The head as one of several."""
    return dataclasses.replace(head, name=name, folder=folder)
