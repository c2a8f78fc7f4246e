"""How much of what the engine is given is padding, as the encoder itself counts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import edgebert


def padded_shares(bundle: Path, sets: Mapping[str, Sequence[str]], *, threads: int) -> dict[str, float]:
    """The share of padded tokens of each set, in the runs that `edgebert.load`'s default makes of it."""
    found = {}
    with edgebert.load(bundle, threads=threads) as encoder:
        for name, texts in sets.items():
            before = encoder.tokens
            encoder.encode(list(texts))
            now = encoder.tokens
            found[name] = 1 - (now.real - before.real) / (now.padded - before.padded)
    return found
