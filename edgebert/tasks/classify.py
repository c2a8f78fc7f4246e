"""Texts to labels: one of several, or several at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from edgebert.errors import DataError
from edgebert.manifest import Head
from edgebert.probability import HOLDS
from edgebert.schema import plain
from edgebert.tasks.columns import LABELS_LIST, missing, only_text, refuse_list
from edgebert.tasks.labels import best_labels, check, classes_loss, imitated_classes, label_scores, same_kind
from edgebert.tasks.predictor import Predictor, as_texts
from edgebert.tasks.reading import Row, TaskReader
from edgebert.tasks.results import Classification
from edgebert.tasks.task import Example, Lesson, Task, label_of, place_of, require_several, sorted_labels

if TYPE_CHECKING:
    from torch import Tensor


class Classifier(Predictor):
    """Texts to labels."""

    what = "classifier"

    @overload
    def classify(self, texts: str) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    def classify(self, texts: Sequence[str]) -> list[Classification]: ...
    def classify(self, texts: str | Sequence[str]) -> Classification | list[Classification]:
        """The most probable label of each text.

        Raises: DataError for what is no string; EngineError.
        """
        found = [best_labels(logits[0], self.head, top_k=1)[0] for logits in self.logits(as_texts(texts, name="texts"))]
        return found[0] if isinstance(texts, str) else found

    @overload
    def classify_all(  # type: ignore[overload-overlap]
        self, texts: str, *, top_k: int | None = None, threshold: float | None = None
    ) -> list[Classification]: ...
    @overload
    def classify_all(
        self, texts: Sequence[str], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[list[Classification]]: ...
    def classify_all(
        self, texts: str | Sequence[str], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[Classification] | list[list[Classification]]:
        """All labels of each text, the most probable first: at most `top_k`, and none less probable than `threshold`.

        Raises: DataError for what is no string; RecipeError for an option out of range; EngineError.
        """
        check(top_k, threshold)
        found = [
            best_labels(logits[0], self.head, top_k=top_k, threshold=threshold)
            for logits in self.logits(as_texts(texts, name="texts"))
        ]
        return found[0] if isinstance(texts, str) else found

    def results(
        self, items: Sequence[Any], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[dict[str, Any]]:
        """See `Predictor.results`."""
        if top_k is None and threshold is None:
            if not self.head.multi_label:
                return [plain(one) for one in self.classify(items)]
            threshold = HOLDS
        every = self.classify_all(items, top_k=top_k, threshold=threshold)
        return [{"labels": [plain(one) for one in found]} for found in every]


class Classify(Task):
    """See `Classifier`. A target is a tuple of labels, of one where only one holds."""

    name, level, metric, runtime = "classify", "text", "accuracy", Classifier
    columns, answered = "a text (text) and its label (label), or several as a list (labels)", ("label", "labels")
    pipeline, call = "text-classification", 'model.classify("some text")'

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """See `Task.example`."""
        held = [name for name in ("label", "labels") if row.get(name) not in (None, "")]
        if len(held) > 1:
            raise DataError(f"{where} has a label in the columns 'label' and 'labels'; use one of them")
        if held == ["labels"] or (not held and "labels" in row):
            labels = row["labels"]
            if isinstance(labels, str):
                refuse_list(labels, "labels", where, "labels have | between", pattern=LABELS_LIST)
                labels = labels.split("|")
            if not isinstance(labels, list):
                raise DataError(f"{where}, column 'labels' holds {labels!r:.80}; a list of labels, or a|b, is needed")
            target: Any = frozenset(label_of(label, where, column="labels") for label in labels if str(label).strip())
        elif "label" in row:
            target = label_of(row["label"], where)
        else:
            raise missing(where, ["label"], row)
        return Example(only_text(row, where), None, target, where)

    def head(self, examples: Sequence[Example]) -> Head:
        """See `Task.head`."""
        many = [isinstance(example.target, frozenset) for example in examples]
        if any(many) and not all(many):
            wrong = next(one for one, multi in zip(examples, many, strict=True) if multi != many[0])
            raise DataError(f"{wrong.where}: some rows have the column 'label' and others 'labels'; use one")
        found = {label for one in examples for label in (one.target if many[0] else (one.target,))}
        labels = sorted_labels(found)
        if not many[0]:
            require_several(labels, examples)
        elif len({one.target for one in examples}) < 2:
            require_several(labels if len(labels) < 2 else [", ".join(labels)], examples)
        return Head(self.name, self.name, self.level, labels, multi_label=many[0])

    def metric_of(self, head: Head) -> str:
        """See `Task.metric_of`."""
        return "f1" if head.multi_label else self.metric

    def rows(self, reader: TaskReader, item: Any) -> list[Row]:
        """See `Task.rows`: the first window of a text."""
        return reader.windows(item)[:1]

    def lessons(self, reader: TaskReader, examples: Sequence[Example], head: Head) -> list[Lesson]:
        """See `Task.lessons`."""
        same_kind(examples, head)
        found = []
        for one in examples:
            if head.multi_label:
                target: Any = np.zeros(len(head.labels), np.float32)
                target[[place_of(label, head, one.where) for label in one.target]] = 1
            else:
                target = np.int64(place_of(one.target, head, one.where))
            row, *more = reader.windows(one.text)
            found.append(Lesson(row.bare(), np.asarray(target), lost=bool(more)))
        return found

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor, head: Head, weights: Tensor | None) -> Tensor:
        """See `Task.loss`."""
        return classes_loss(logits, targets, head, weights)

    def imitation(self, student: Tensor, teacher: Tensor, mask: Tensor, head: Head, temperature: float) -> Tensor:
        """See `Task.imitation`."""
        return imitated_classes(student, teacher, head, temperature)

    def weight(self, answer: Any) -> int:
        """See `Task.weight`: labels that hold."""
        return len(answer) if isinstance(answer, frozenset) else 1

    def check(self, examples: Sequence[Example], head: Head) -> None:
        """See `Task.check`."""
        same_kind(examples, head)

    def answers(self, model: Predictor, examples: Sequence[Example]) -> list[Any]:
        """See `Task.answers`: a label, or the set of those that hold."""
        assert isinstance(model, Classifier)
        texts = [one.text for one in examples]
        if model.head.multi_label:
            return [frozenset(c.label for c in found) for found in model.classify_all(texts, threshold=HOLDS)]
        return [c.label for c in model.classify(texts)]

    def scored(self, answers: Sequence[Any], examples: Sequence[Example], head: Head) -> dict[str, float]:
        """See `Task.scored`: accuracy and macro F1; of several labels at once the micro F1 and exact matches."""
        return label_scores(examples, answers, head)


TASK = Classify()
