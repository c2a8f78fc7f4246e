"""Texts to numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from edgebert.manifest import Head
from edgebert.tasks.columns import only_text
from edgebert.tasks.labels import correlations, number_of, numbers_loss, require_different, same_kind
from edgebert.tasks.predictor import Predictor, as_texts
from edgebert.tasks.reading import Row, TaskReader
from edgebert.tasks.task import Example, Lesson, Task

if TYPE_CHECKING:
    from torch import Tensor


class Regressor(Predictor):
    """Texts to numbers."""

    what = "regressor"

    @overload
    def predict(self, texts: str) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, texts: Sequence[str]) -> list[float]: ...
    def predict(self, texts: str | Sequence[str]) -> float | list[float]:
        """The number of each text.

        Raises: DataError for what is no string; EngineError.
        """
        found = [float(logits[0][0]) for logits in self.logits(as_texts(texts, name="texts"))]
        return found[0] if isinstance(texts, str) else found

    def results(
        self, items: Sequence[Any], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[dict[str, Any]]:
        """See `Predictor.results`."""
        self._refuse(top_k=top_k, threshold=threshold)
        return [{"score": number} for number in self.predict(items)]


class Regress(Task):
    """See `Regressor`. A target is a number."""

    name, level, metric, runtime = "regress", "text", "spearman", Regressor
    columns, answered = "a text (text) and its number (score)", ("score",)
    pipeline, call = "text-classification", 'model.predict("some text")'

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """See `Task.example`."""
        return Example(only_text(row, where), None, number_of(row, where), where)

    def head(self, examples: Sequence[Example]) -> Head:
        """See `Task.head`."""
        require_different(examples)
        return Head(self.name, self.name, self.level)

    def rows(self, reader: TaskReader, item: Any) -> list[Row]:
        """See `Task.rows`: the first window of a text."""
        return reader.windows(item)[:1]

    def lessons(self, reader: TaskReader, examples: Sequence[Example], head: Head) -> list[Lesson]:
        """See `Task.lessons`."""
        found = []
        for one in examples:
            row, *more = reader.windows(one.text)
            found.append(Lesson(row.bare(), np.asarray(one.target, np.float32), lost=bool(more)))
        return found

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor, head: Head, weights: Tensor | None) -> Tensor:
        """See `Task.loss`."""
        return numbers_loss(logits, targets)

    def imitation(self, student: Tensor, teacher: Tensor, mask: Tensor, head: Head, temperature: float) -> Tensor:
        """See `Task.imitation`."""
        return numbers_loss(student, teacher[:, 0])

    def check(self, examples: Sequence[Example], head: Head) -> None:
        """See `Task.check`."""
        same_kind(examples, head)

    def answers(self, model: Predictor, examples: Sequence[Example]) -> list[Any]:
        """See `Task.answers`: a number."""
        assert isinstance(model, Regressor)
        return [float(number) for number in model.predict([one.text for one in examples])]

    def scored(self, answers: Sequence[Any], examples: Sequence[Example], head: Head) -> dict[str, float]:
        """See `Task.scored`."""
        return correlations([one.target for one in examples], answers)


TASK = Regress()
