"""Several heads over one pass of one encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

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
        """What every head says of each text; only the first window of a long text is read.

        Raises: DataError for what is no string; EngineError.
        """
        listed = as_texts(texts)
        rows = [self.reader.windows(text)[0] for text in listed]
        found: list[Mapping[str, Result]] = []
        for text, row, answers in zip(listed, rows, self.logits(rows), strict=True):
            said: dict[str, Result] = {}
            for head, logits in zip(self.heads, answers, strict=True):
                if head.level == "token":
                    offsets, own = joined([row], [logits])
                    said[head.name] = merged(text, offsets, probabilities(own, head), head.labels)
                else:
                    said[head.name] = _said(logits, head)
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
