"""What an engine is to the rest of EdgeBERT."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgebert.errors import EngineError

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

OUTPUT = "sentence_embedding"


class Engine(Protocol):
    """One artifact of a bundle, ready to run. Calls may come from several threads."""

    name: str
    precision: str

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """Shape: both inputs (batch, seq_len) -> (batch, dimension), float32, an array of the caller's own.

        Raises: EngineError when the engine fails.
        """

    def close(self) -> None:
        """Frees the model; the engine cannot be used afterwards."""


def feed(names: tuple[str, ...], input_ids: Ids, attention_mask: Ids) -> dict[str, Any]:
    """The graph's inputs by name. A graph that asks for token types gets zeros: one text is one segment."""
    known = {"input_ids": input_ids, "attention_mask": attention_mask}
    return {name: known[name] if name in known else np.zeros_like(input_ids) for name in names}


@contextlib.contextmanager
def engine_errors(faults: tuple[type[Exception], ...], doing: str) -> Iterator[None]:
    """Turns an engine's own exceptions into one EngineError; `doing` says what failed."""
    try:
        yield
    except faults as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise EngineError(f"{doing}: {reason[:500]}") from None
