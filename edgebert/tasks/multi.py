"""Several heads over one pass of one encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from edgebert.errors import RecipeError
from edgebert.manifest import Head
from edgebert.probability import HOLDS, probabilities
from edgebert.schema import plain
from edgebert.tasks import reads_two
from edgebert.tasks.columns import TEXT, column
from edgebert.tasks.labels import best_labels
from edgebert.tasks.predictor import Logits, Predictor, as_texts
from edgebert.tasks.reading import Row
from edgebert.tasks.results import Classification, Tag
from edgebert.tasks.tag import joined
from edgebert.tasks.tagging import merged

# What a head says of a text: its best label, several where several may hold, a number, or tags.
Result = Classification | list[Classification] | float | list[Tag]


class MultiTask(Predictor):
    """Texts to what every head says of them, by the heads' names."""

    what = "model of several tasks"

    @overload
    def predict(self, texts: str) -> Mapping[str, Result]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, texts: Sequence[str]) -> list[Mapping[str, Result]]: ...
    def predict(self, texts: str | Sequence[str]) -> Mapping[str, Result] | list[Mapping[str, Result]]:
        """What every head that reads one text says of each: tags of all of a long text, the rest by its first window.

        Heads of two texts are asked alone: `edgebert.load(model, head="its name")`.
        Raises: DataError for what is no string; RecipeError where no head reads one text; EngineError.
        """
        asked = [(place, head) for place, head in enumerate(self.heads) if not reads_two([head])]
        if not asked:
            names = ", ".join(repr(head.name) for head in self.heads)
            raise RecipeError(f"the heads {names} are asked about two texts, not one: load the model with head=")
        levels, found = {head.level for _, head in asked}, list[Mapping[str, Result]]()
        for some in self._portions(as_texts(texts, name="texts"), len):
            windows = [self.reader.windows(text) for text in some]
            if "text" in levels:  # such a head is told of the first window alone
                self._note_cut(sum(len(rows) > 1 for rows in windows))
            if "token" not in levels:
                windows = [rows[:1] for rows in windows]
            answers = iter(self.logits([row for rows in windows for row in rows]))
            for text, rows in zip(some, windows, strict=True):
                of_rows = [next(answers) for _ in rows]
                found.append({head.name: _said(text, rows, [one[place] for one in of_rows], head)
                              for place, head in asked})  # fmt: skip
        return found[0] if isinstance(texts, str) else found

    @staticmethod
    def item(row: Mapping[str, Any], where: str) -> Any:
        """See `Predictor.item`: of two texts the first, as other heads may read both."""
        return column(row, TEXT, where)

    def results(
        self, items: Sequence[Any], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[dict[str, Any]]:
        """See `Predictor.results`."""
        self._refuse(top_k=top_k, threshold=threshold)
        return [plain(said) for said in self.predict(items)]


def _said(text: str, rows: Sequence[Row], logits: Sequence[Logits], head: Head) -> Result:
    """What the head says of a text in those windows."""
    if head.level == "token":
        offsets, own = joined(rows, logits)
        return merged(text, offsets, probabilities(own, head), head.labels)
    if not head.labels:
        return float(logits[0][0])
    if head.multi_label:
        return best_labels(logits[0], head, threshold=HOLDS)
    return best_labels(logits[0], head, top_k=1)[0]
