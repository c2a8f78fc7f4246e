"""What the runtime objects of tasks share: inputs to logits, by the heads of one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.devices import Placement
from edgebert.embedder import as_texts
from edgebert.engines.base import Engine, Hint, Ids
from edgebert.errors import DataError, RecipeError
from edgebert.manifest import Head
from edgebert.model import Model
from edgebert.plan import Plan
from edgebert.progress import Progress
from edgebert.runner import Reopen
from edgebert.tasks.columns import Names, only_text, require_read, rows_of
from edgebert.tasks.reading import Row, TaskReader, types_of
from edgebert.texts import has_columns, read_texts, refuse_json
from edgebert.tokenizer import Tokenizer

T = TypeVar("T")
Logits = NDArray[np.float32]
STRIDE = 128  # tokens that two windows of a long text share, where a window has twice as many
_AT_ONCE = 300_000  # characters that are held as tokens and logits; a character takes about 200 bytes


class Predictor(Model):
    """A model with heads; see `Model`. `heads`: what it answers, in the order of the logits.

    reads: the columns of files that it is asked by.
    """

    what = "model"
    reads: ClassVar[tuple[str, ...]] = ("text",)

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
        """The only thing that it answers. Raises: RecipeError for a model of several tasks."""
        if len(self.heads) != 1:
            names = ", ".join(repr(head.name) for head in self.heads)
            raise RecipeError(f"{self.bundle.source} has the heads {names}: see `heads`, or load it with head=")
        return self.heads[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the head, in the order of its logits."""
        return self.head.labels

    @staticmethod
    def item(row: Mapping[str, Any], where: str) -> Any:
        """What a row of a file asks about. Raises: DataError naming `where` for a row without the columns."""
        return only_text(row, where)

    @classmethod
    def items(cls, path: str | Path, names: Names | None = None) -> Iterator[Any]:
        """What every row of a file asks about; a file without columns has a text in each line.

        names: the columns of `reads` that the file calls otherwise.
        Raises: DataError; RecipeError for a name that is not read.
        """
        require_read(names or {}, cls.reads)
        refuse_json(path)
        if has_columns(path):
            for where, row in rows_of(path, names, cls.reads):
                yield cls.item(row, where)
        else:
            for number, text in enumerate(read_texts([path], keep_blank=True), start=1):
                yield cls.item({"text": text}, f"{path}: line {number}")

    def results(
        self, items: Sequence[Any], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[dict[str, Any]]:
        """What it says of each item, as `edgebert predict` writes it: the best of it, or with an option a list.

        top_k: so many at most. threshold: none less probable.
        Raises: RecipeError for an option out of range or of another task; as the methods of its own.
        """
        raise NotImplementedError

    def _refuse(self, **options: object) -> None:
        """Raises RecipeError for an option that is given: the task has no such choice."""
        for name, value in options.items():
            if value is not None:
                raise RecipeError(f"{name} is {value!r}; a {self.what} has nothing to choose by it: leave it out")

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

    @staticmethod
    def _portions(items: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
        """The items in stretches of so many characters that their windows can be held. size: an item's."""
        first, held = 0, 0
        for place, item in enumerate(items):
            held += size(item)
            if held > _AT_ONCE and place > first:
                yield items[first:place]
                first, held = place, size(item)
        if items:
            yield items[first:]

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


def as_string(text: str, name: str) -> str:
    """Raises DataError naming the value of what is no string."""
    if not isinstance(text, str):
        raise DataError(f"{name} is {text!r:.80} ({type(text).__name__}); a string is needed")
    return str(text)


def as_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Raises DataError naming the place and the value of what is no pair of strings."""
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Sequence):
        raise DataError(f"pairs are {pairs!r:.80} ({type(pairs).__name__}); a list of pairs of strings is needed")
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise DataError(f"pairs[{i}] is {pair!r:.80}; every one must be two strings")
    return [(str(one), str(other)) for one, other in pairs]


__all__ = ["STRIDE", "Logits", "Predictor", "as_pairs", "as_string", "as_texts"]
