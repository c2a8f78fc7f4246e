"""One model at a few fixed shapes, for devices that take no other: an `Engine` made of rungs over one weight file.

A rung is the graph at Shape: (1, width). NPU compilers reject dynamic shapes, and a text in a graph that is wider than
it pays for all the padding, so a text takes the narrowest rung that holds it. A rung is compiled when it is first
needed: it costs about as much memory as the weights.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from edgebert import forking
from edgebert.engines.base import Engine, Ids, Vectors
from edgebert.errors import EngineError

_FIRST = 16


def rungs(max_length: int) -> tuple[int, ...]:
    """The widths of a model of `max_length` tokens, ascending: 16, 32, 64 and so on, and `max_length` last."""
    widths, width = [], _FIRST
    while width < max_length:
        widths.append(width)
        width *= 2
    return (*widths, max_length)


class StaticLadder:
    """An `Engine` of rungs. `compiled`: the widths that are compiled now.

    compile: makes the engine of one width, which takes arrays of Shape: (1, width) alone. The narrowest rung is made
    at once, so that a device that refuses the model says so when it is opened.
    """

    def __init__(
        self, name: str, precision: str, compile: Callable[[int], Engine], *, max_length: int, pad_token_id: int
    ) -> None:
        self.name, self.precision, self.rungs = name, precision, rungs(max_length)
        self._compile, self._pad_token_id = compile, pad_token_id
        self._compiled: dict[int, Engine] | None = {}
        self._lock = threading.Lock()
        forking.renew(self)
        self._at(self.rungs[0])

    @property
    def compiled(self) -> tuple[int, ...]:
        """Ascending; none of a ladder that is closed."""
        return tuple(sorted(self._compiled or ()))

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`. Row by row, each at the narrowest rung that holds its last token.

        Raises: EngineError also for a row that is longer than the longest rung.
        """
        ends = [max(1, int(np.flatnonzero(row)[-1]) + 1 if row.any() else 1) for row in attention_mask]
        found = [
            self.embed_at(self._rung(end), input_ids[i : i + 1, :end], attention_mask[i : i + 1, :end])
            for i, end in enumerate(ends)
        ]
        return np.concatenate(found)

    def answer(self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None) -> tuple[Vectors, ...]:
        """See `Engine.answer`. Row by row, as `embed`; outputs for each token are cut to the width that was asked."""
        width = input_ids.shape[1]
        types = np.zeros_like(input_ids) if token_types is None else token_types
        found = []
        for row in range(len(input_ids)):
            end = max(1, int(np.flatnonzero(attention_mask[row])[-1]) + 1 if attention_mask[row].any() else 1)
            rung = self._rung(end)
            short = ((0, 0), (0, rung - end))
            one = slice(row, row + 1)
            answers = self._at(rung).answer(
                np.pad(input_ids[one, :end], short, constant_values=self._pad_token_id),
                np.pad(attention_mask[one, :end], short), np.pad(types[one, :end], short),
            )  # fmt: skip
            found.append([_cut(answer, rung, width) for answer in answers])
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def embed_at(self, width: int, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """The vector of one row at the rung `width`. Shape: (1, at most width), twice -> (1, dimension)."""
        short = ((0, 0), (0, width - input_ids.shape[1]))
        ids = np.pad(input_ids, short, constant_values=self._pad_token_id)
        return self._at(width).embed(ids, np.pad(attention_mask, short))

    def open_all(self) -> None:
        """Compiles every rung that is not compiled yet."""
        for width in self.rungs:
            self._at(width)

    def release(self) -> None:
        """Frees every rung; each is compiled again when it is needed."""
        with self._lock:
            for engine in (self._compiled or {}).values():
                engine.close()
            self._compiled = None if self._compiled is None else {}

    def close(self) -> None:
        """See `Engine.close`."""
        self.release()
        self._compiled = None

    def renew_after_fork(self) -> None:
        """See `forking.Renewable`: a thread that was making a rung did not come along, and holds the lock."""
        self._lock = threading.Lock()

    def _rung(self, length: int) -> int:
        if length > self.rungs[-1]:
            raise EngineError(f"a text of {length} tokens is longer than the longest rung, {self.rungs[-1]}")
        return next(width for width in self.rungs if width >= length)

    def _at(self, width: int) -> Engine:
        with self._lock:
            if self._compiled is None:
                raise EngineError("the model is closed: load it again")
            engine = self._compiled.get(width)
            if engine is None:
                engine = self._compiled[width] = self._compile(width)
            return engine


def _cut(answer: Vectors, rung: int, width: int) -> Vectors:
    """An answer for each of `rung` tokens as one for `width`; an answer for the whole text stays as it is."""
    if answer.ndim < 3:
        return answer
    if rung >= width:
        return answer[:, :width]
    return np.pad(answer, ((0, 0), (0, width - rung), (0, 0)))
