"""What a model of a task answers to text without labels: in int8 the same as in torch's float32, which is right here.

Vectors say little of answers: a tagger's may agree where its names change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.embedder import Embedder
from edgebert.errors import DataError
from edgebert.progress import Progress
from edgebert.tasks.asked import Item
from edgebert.tasks.reading import TaskReader
from edgebert.tasks.scoring import Answered, least_agreement, predictors
from edgebert.tasks.task import Example, Task

ENOUGH = 100  # answers, of which the default gate lets two change


@dataclass(frozen=True)
class OwnAnswers:
    """What each head of a model is asked, nothing of those that are not compared; told: the answers in torch."""

    examples: tuple[tuple[Example, ...], ...]
    told: tuple[Answered, ...]

    def agreement(self, model: Embedder) -> float:
        """The least over the heads; see `Task.agreement`."""
        return least_agreement(self.answers(model), self.told)

    def answers(self, model: Embedder) -> tuple[Answered, ...]:
        """What the heads that are asked say."""
        return tuple(
            Answered(head, task, list(examples), task.answers(predictor, examples))
            for (head, task, predictor), examples in zip(predictors(model), self.examples, strict=True)
            if examples
        )


def own_answers(model: Embedder, items: Sequence[Item], progress: Progress) -> OwnAnswers | None:
    """What of `items` the heads of `model` are asked and what they answer, None where none is.

    A head that cannot be asked about them, or that says too little of them, is not: `progress` is told.
    """
    asked, found = list[tuple[Example, ...]](), list[Answered]()
    for head, task, predictor in predictors(model):
        examples = tuple(_fitting(items, task, predictor.reader))
        answers = task.answers(predictor, examples)
        count = _told(task, answers)
        if count < ENOUGH:
            progress.say(
                f"the answers of {head.name!r} are not compared with torch's: there are {count} to text that "
                f"calibration does not see, and {ENOUGH} are needed; give more text"
                + (", two texts in each row" if task.two_texts else "")
                + ", or labelled examples (--eval)"
            )
            examples = ()
        else:
            found.append(Answered(head, task, [], answers))  # workers have the examples
        asked.append(examples)
    return OwnAnswers(tuple(asked), tuple(found)) if found else None


def _fitting(items: Sequence[Item], task: Task, reader: TaskReader) -> Iterator[Example]:
    """An example of each item that the task can be asked about."""
    for number, item in enumerate(items, start=1):
        texts = (item,) if isinstance(item, str) else item
        if len(texts) != 1 + task.two_texts or not all(text.strip() for text in texts):
            continue
        try:
            task.rows(reader, item)
        except DataError:  # a question that leaves no room for its context
            continue
        yield task.unlabelled(item, f"calibration text {number}")


def _told(task: Task, answers: Sequence[Any]) -> int:
    """How many answers those are; of numbers, that many different ones."""
    if all(isinstance(one, float) for one in answers):
        return len(set(answers))
    return sum(map(task.weight, answers))
