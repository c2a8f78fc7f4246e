"""How well a model does its tasks on labelled files, whatever runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgebert.engines.base import Engine, Ids, Vectors
from edgebert.errors import RecipeError
from edgebert.evaluate import Score
from edgebert.manifest import Head
from edgebert.model import Model
from edgebert.tasks import as_task, columns_of, task_named
from edgebert.tasks.columns import Names
from edgebert.tasks.predictor import Predictor
from edgebert.tasks.task import Example, Task


class OneHead:
    """An engine of several heads that answers with one of them."""

    def __init__(self, engine: Engine, place: int) -> None:
        self.engine, self.place = engine, place
        self.name, self.precision = engine.name, engine.precision

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        return self.engine.embed(input_ids, attention_mask)

    def answer(self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None) -> tuple[Vectors, ...]:
        """See `Engine.answer`."""
        return (self.engine.answer(input_ids, attention_mask, token_types)[self.place],)

    def close(self) -> None:
        """See `Engine.close`."""
        self.engine.close()


def files_of(heads: Sequence[Head], files: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The files of each head: plain names of the only one, NAME=FILE of several.

    Raises: RecipeError where a head has none, or a name is no head's.
    """
    if len(heads) == 1:
        named = [(heads[0].name, one) for one in files]
    else:
        named = [(name, path) for name, _, path in (one.partition("=") for one in files)]
    known = [head.name for head in heads]
    for name, path in named:
        if name not in known or not path:
            raise RecipeError(f"{name!r} is no head with a file; wanted is NAME=FILE of {', '.join(known)}")
    found = {name: tuple(path for other, path in named if other == name) for name in known}
    if missing := [name for name, its in found.items() if not its]:
        raise RecipeError(f"the head {missing[0]!r} has no file of labelled examples")
    return found


def examples_of(heads: Sequence[Head], files: Sequence[str], names: Names | None = None) -> list[list[Example]]:
    """The labelled examples of each head; see `files_of`.

    names: the columns that the files call otherwise; see `columns_of`.
    Raises: DataError for files that cannot be used; RecipeError, also for a name that no head reads.
    """
    its = files_of(heads, files)
    return [
        task_named(head.task).read(its[head.name], own)
        for head, own in zip(heads, columns_of(heads, names), strict=True)
    ]


def labelled_scores(
    model: Model, files: Sequence[str], task_name: str | None = None, names: Names | None = None
) -> list[Score]:
    """All metrics of each of the model's heads on its files of labelled examples, the main one first; see `files_of`.

    task_name: another task that the only head can do; see `as_task`. names: see `examples_of`.

    Raises: DataError for files that cannot be used; RecipeError for a model without heads.
    """
    if not model.bundle.manifest.heads:
        raise RecipeError(f"{model.bundle.source} gives vectors and has no task to be scored at")
    named = files_of(as_task(model.bundle, task_name).manifest.heads, files)
    return [
        Score(one.head.name, metric, value, ", ".join(named[one.head.name]), len(one.examples))
        for one in answered(model, files, task_name, names)
        for metric, value in one.scores().items()
    ]


@dataclass(frozen=True)
class Answered:
    """What a head said to examples, labelled or not."""

    head: Head
    task: Task
    examples: list[Example]
    answers: list[Any]

    def scores(self) -> dict[str, float]:
        """See `Task.scored`."""
        return self.task.scored(self.answers, self.examples, self.head)

    @property
    def score(self) -> float:
        """The head's main metric."""
        return self.scores()[self.task.metric_of(self.head)]

    def agreement(self, reference: Answered) -> float:
        """See `Task.agreement`."""
        return self.task.agreement(self.answers, reference.answers, self.examples, self.head)


def least_agreement(answers: Sequence[Answered], reference: Sequence[Answered]) -> float:
    """Over the heads; see `Task.agreement`."""
    return float(np.min([ours.agreement(theirs) for ours, theirs in zip(answers, reference, strict=True)]))


def answered(
    model: Model, files: Sequence[str], task_name: str | None = None, names: Names | None = None
) -> tuple[Answered, ...]:
    """What each of the model's heads says to its files of labelled examples; see `examples_of` and `labelled_scores`.

    Raises: DataError for files that cannot be used, RecipeError.
    """
    asked, found = examples_of(as_task(model.bundle, task_name).manifest.heads, files, names), list[Answered]()
    for (head, task, predictor), examples in zip(predictors(model, task_name), asked, strict=True):
        task.check(examples, head)
        found.append(Answered(head, task, examples, task.answers(predictor, examples)))
    return tuple(found)


def predictors(model: Model, task_name: str | None = None) -> Iterator[tuple[Head, Task, Predictor]]:
    """Each head, its task, and the runtime object for it over the engine that is open."""
    bundle = as_task(model.bundle, task_name)
    for place, head in enumerate(bundle.manifest.heads):
        task = task_named(head.task)
        facts = dataclasses.replace(bundle.manifest, heads=(head,), task=head.task)
        engine = OneHead(model.opened, place)
        yield (
            head,
            task,
            task.runtime(dataclasses.replace(bundle, manifest=facts), engine, tokenizer=model.tokenizer),
        )
