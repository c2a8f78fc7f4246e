"""The mix of a training text's domains: at most so many texts of each source, the others left out.

[data]
mix_column = "source"

[data.mix]
manuals = 20000
dialogues = 5000
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebert.errors import DataError
from edgebert.texts import has_columns, read_labelled

_LARGEST = 2**64


@dataclass(frozen=True)
class Mix:
    """most: texts by source. column: where the source stands. seed: which texts are drawn.

    Which ones is told by a hash of seed and text: the same ones, whatever the order of files and rows.
    """

    most: Mapping[str, int]
    column: str
    seed: int = 0

    def key(self, text: str) -> int:
        """Between 0 and 2**64, as good as random."""
        data = f"{self.seed} {text}".encode("utf-8", "replace")
        return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def mixed(paths: Sequence[str | Path], mix: Mix, *, column: str | None = None) -> Iterator[str]:
    """The texts of the files that the mix draws, in their order. Distinct texts are counted, each once.

    The files are read twice. Memory: 8 bytes for each text that is drawn.
    Raises: DataError for a file without columns, a stream, and a source that no row has.
    """
    for path in paths:
        if str(path) == "-" or not has_columns(path):
            raise DataError(
                f"{path} has no column {mix.column!r}: the mix in [data.mix] needs files with columns (JSONL, CSV, TSV "
                "or Parquet), not plain lines or standard input"
            )
    last = _last_keys(paths, mix, column)
    for text, source in read_labelled(paths, column=column, label=mix.column):
        if source in last and mix.key(text) <= last[source]:
            yield text


def _last_keys(paths: Sequence[str | Path], mix: Mix, column: str | None) -> dict[str, int]:
    """The greatest key that is still drawn, by source."""
    heaps: dict[str, list[int]] = {source: [] for source in mix.most}  # of negated keys: the greatest comes first
    drawn: dict[str, set[int]] = {source: set() for source in mix.most}
    found: set[str] = set()
    for text, source in read_labelled(paths, column=column, label=mix.column):
        if source not in heaps:
            continue
        found.add(source)
        key, heap, keys = mix.key(text), heaps[source], drawn[source]
        if key in keys or mix.most[source] == 0:
            continue
        if len(heap) < mix.most[source]:
            heapq.heappush(heap, -key)
        elif key < -heap[0]:
            keys.discard(-heapq.heapreplace(heap, -key))
        else:
            continue
        keys.add(key)
    if missing := sorted(set(mix.most) - found):
        raise DataError(f"no row of {', '.join(map(str, paths))} has {missing[0]!r} in the column {mix.column!r}")
    full = {source: len(heap) >= mix.most[source] for source, heap in heaps.items()}
    return {s: (-heap[0] if heap else -1) if full[s] else _LARGEST for s, heap in heaps.items()}
