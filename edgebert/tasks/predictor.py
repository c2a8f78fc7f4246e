"""What the runtime objects of tasks share: inputs to logits, by the heads of one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.devices import Placement
from edgebert.embedder import as_texts
from edgebert.engines.base import Engine, Hint, Ids
from edgebert.errors import DataError
from edgebert.manifest import Head
from edgebert.model import Model
from edgebert.plan import Plan
from edgebert.progress import Progress
from edgebert.runner import Reopen
from edgebert.tasks.columns import TEXT, column
from edgebert.tasks.reading import Row, TaskReader, types_of
from edgebert.texts import has_columns, read_rows, read_texts
from edgebert.tokenizer import Tokenizer

Logits = NDArray[np.float32]
STRIDE = 128  # tokens that two windows of a long text share


class Predictor(Model):
    """A model with heads; see `Model`. `heads`: what it answers, in the order of the logits."""

    what = "model"

    def __init__(
        self, bundle: Bundle, engine: Engine, *, tokenizer: Tokenizer | None = None, hint: Hint = "f32",
        plan: Plan | None = None, reopen: Reopen | None = None, unproven: str = "", placement: Placement | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            bundle, engine, tokenizer=tokenizer, hint=hint, plan=plan, reopen=reopen, unproven=unproven,
            placement=placement, ask=_answers,
        )  # fmt: skip
        self.reader = TaskReader(self.tokenizer, max_length=self.max_length, stride=STRIDE)

    @property
    def heads(self) -> tuple[Head, ...]:
        """What it answers."""
        return self.bundle.manifest.heads

    @property
    def head(self) -> Head:
        """The only thing that it answers."""
        return self.heads[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the head, in the order of its logits."""
        return self.head.labels

    @staticmethod
    def item(row: Mapping[str, Any], where: str) -> Any:
        """What a row of a file asks about. Raises: DataError naming `where` for a row without the columns."""
        return column(row, TEXT, where)

    @classmethod
    def items(cls, path: str | Path) -> Iterator[Any]:
        """What every row of a file asks about; a file without columns has a text in each line. Raises: DataError."""
        if has_columns(path):
            for number, row in enumerate(read_rows(path), start=1):
                yield cls.item(row, f"{path}: row {number}")
        else:
            for number, text in enumerate(read_texts([path], keep_blank=True), start=1):
                yield cls.item({"text": text}, f"{path}: line {number}")

    def results(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """What it says of each item, as `edgebert predict` writes it."""
        raise NotImplementedError

    def logits(self, items: Sequence[Any]) -> list[tuple[Logits, ...]]:
        """For each item, which is a text, a pair of texts or a `Row`, the logits of every head.

        Shape: (labels,) of a head over the text, (tokens, labels) of one over tokens.
        """
        found: list[tuple[Logits, ...]] = [()] * len(items)

        def put(places: Any, rows: Sequence[Sequence[int]], answers: tuple[Logits, ...]) -> None:
            for i, (place, row) in enumerate(zip(places, rows, strict=True)):
                found[int(place)] = tuple(one[i] if one.ndim == 2 else one[i, : len(row)] for one in answers)

        self._running().run(items, put, None, Progress())
        return found

    def _rows(self, texts: Sequence[Any]) -> list[Any]:
        if all(isinstance(one, Row) for one in texts):
            return list(texts)
        if all(isinstance(one, tuple) for one in texts):
            rows, cut = self.reader.pairs(texts)
            self._note_cut(cut)
            return list(rows)
        return super()._rows(texts)


def _answers(engine: Engine, input_ids: Ids, attention_mask: Ids, rows: Sequence[Sequence[int]]) -> tuple[Logits, ...]:
    return engine.answer(input_ids, attention_mask, types_of(rows, input_ids.shape))


def as_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Raises DataError naming the place and the value of what is no pair of strings."""
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Sequence):
        raise DataError(f"pairs are {pairs!r:.80} ({type(pairs).__name__}); a list of pairs of strings is needed")
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise DataError(f"pairs[{i}] is {pair!r:.80}; every one must be two strings")
    return [(str(one), str(other)) for one, other in pairs]


def probabilities(logits: Logits, head: Head) -> Logits:
    """Softmax over the labels at the head's temperature; where several may hold, the sigmoid of each."""
    scaled = logits / np.float32(head.temperature)
    if head.multi_label:
        each: Logits = 1 / (1 + np.exp(-scaled))
        return each
    shifted = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    made: Logits = shifted / shifted.sum(axis=-1, keepdims=True)
    return made


__all__ = ["STRIDE", "Logits", "Predictor", "as_pairs", "as_texts", "probabilities"]
