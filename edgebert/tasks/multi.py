"""Several heads over one pass of one encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from edgebert.errors import RecipeError
from edgebert.manifest import Head
from edgebert.schema import plain
from edgebert.tasks.labels import best_labels
from edgebert.tasks.predictor import Logits, Predictor, as_texts, probabilities
from edgebert.tasks.results import Classification, Tag
from edgebert.tasks.tag import joined
from edgebert.tasks.tagging import merged

# What a head says of a text: its best label, several where several may hold, a number, or tags.
Result = Classification | list[Classification] | float | list[Tag]
_HOLDS = 0.5  # probability from which one of several labels holds


class MultiTask(Predictor):
    """Texts to what every head says of them, by the heads' names."""

    what = "model of several tasks"

    @overload
    def predict(self, texts: str) -> Mapping[str, Result]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, texts: Sequence[str]) -> list[Mapping[str, Result]]: ...
    def predict(self, texts: str | Sequence[str]) -> Mapping[str, Result] | list[Mapping[str, Result]]:
        """What every head says of each text: tags of all of a long text, the rest by its first window.

        Raises: DataError for what is no string; RecipeError where a head is asked about two texts; EngineError.
        """
        listed = as_texts(texts)
        for head in self.heads:
            if head.task in ("pairs", "answer"):
                raise RecipeError(
                    f"the head {head.name!r} is asked about two texts, not one: load the model with task={head.task!r}"
                )
        first = None if any(head.level == "token" for head in self.heads) else 1
        windows = [self.reader.windows(text) for text in listed]
        if first is not None:
            self._note_cut(sum(len(rows) > first for rows in windows))
            windows = [rows[:first] for rows in windows]
        answers = iter(self.logits([row for rows in windows for row in rows]))
        found: list[Mapping[str, Result]] = []
        for text, rows in zip(listed, windows, strict=True):
            of_rows = [next(answers) for _ in rows]
            said: dict[str, Result] = {}
            for place, head in enumerate(self.heads):
                if head.level == "token":
                    offsets, own = joined(rows, [logits[place] for logits in of_rows])
                    said[head.name] = merged(text, offsets, probabilities(own, head), head.labels)
                else:
                    said[head.name] = _said(of_rows[0][place], head)
            found.append(said)
        return found[0] if isinstance(texts, str) else found

    def results(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """See `Predictor.results`."""
        return [plain(said) for said in self.predict(items)]


def _said(logits: Logits, head: Head) -> Result:
    if not head.labels:
        return float(logits[0])
    if head.multi_label:
        return best_labels(logits, head, threshold=_HOLDS)
    return best_labels(logits, head, top_k=1)[0]
