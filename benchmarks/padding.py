"""How much of what the engine is given is padding, seen from the embedder's own batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import edgebert
from edgebert.engines.base import Ids, Vectors
from edgebert.errors import EngineError


class _Counting:
    """An engine that counts tokens and padding and passes everything on."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.cells, self.tokens = engine, 0, 0

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        self.cells += attention_mask.size
        self.tokens += int(attention_mask.sum())
        vectors: Vectors = self._engine.embed(input_ids, attention_mask)
        return vectors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def padded_shares(bundle: Path, sets: Mapping[str, Sequence[str]], *, threads: int) -> dict[str, float]:
    """The share of padded tokens of each set, from what `edgebert.load`'s default gives its engine.

    Raises: EngineError when an encoder gives its engine nothing that could be counted.
    """
    found = {}
    with edgebert.load(bundle, threads=threads) as encoder:
        engine = encoder._engine
        for name, texts in sets.items():
            counting: Any = _Counting(engine)
            encoder._engine = counting
            encoder.encode(list(texts))
            if not counting.cells:
                raise EngineError("the embedder does not call `Engine.embed`: its padding cannot be counted")
            found[name] = 1 - counting.tokens / counting.cells
        encoder._engine = engine
    return found
