"""What a teacher answers, computed once: shards of rows on disk, named by what they hold.

A shard's name is a hash of its rows, in a folder named by a hash of all that the answers depend on. So a broken run
goes on where it stopped, rows that are asked about again share their shards, and nothing can be mixed up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from numpy.typing import DTypeLike, NDArray

from edgebert.batching import length_batches
from edgebert.files import new_file
from edgebert.progress import Progress

# Row numbers of a batch to an array of each kind. Shape: (batch, width), or (batch, seq_len, width) of their tokens.
Answer = Callable[[Sequence[int]], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Kind:
    """An array of a shard: a line for every row or, `over_tokens`, for every token, one row behind the other."""

    name: str
    over_tokens: bool
    dtype: DTypeLike = np.float16


class Shards(ABC):
    """Arrays of a teacher's answers to rows of tokens, `size` rows in a shard, `batch` of them answered at once.

    lengths: tokens of each row. kinds: the arrays of a shard.
    """

    def __init__(self, lengths: NDArray[np.int64], kinds: Sequence[Kind], *, size: int, batch: int) -> None:
        self.kinds, self.size, self.batch = {kind.name: kind for kind in kinds}, size, batch
        self.offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        self.shards = -(-len(lengths) // size)
        self._names = [self.name(self.rows(shard)) for shard in range(self.shards)]
        self._open: dict[tuple[str, int], NDArray[Any]] = {}

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where shards of these answers lie."""

    @abstractmethod
    def name(self, rows: range) -> str:
        """A hash of the tokens of `rows`."""

    @abstractmethod
    def opened(self, shards: Sequence[int]) -> Answer:
        """What answers, after a look at whether the disk holds what is made of those shards.

        Raises: BudgetError when it does not.
        """

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, shard: int) -> range:
        """The numbers of a shard's rows."""
        return range(shard * self.size, min((shard + 1) * self.size, len(self)))

    def missing(self) -> list[int]:
        """The numbers of the shards that are not on disk yet."""
        return [
            shard for shard in range(self.shards) if not all(is_array(self._path(kind, shard)) for kind in self.kinds)
        ]

    def count(self, shards: Sequence[int]) -> int:
        """How many rows those shards have."""
        return sum(len(self.rows(shard)) for shard in shards)

    def tokens(self, shards: Sequence[int]) -> int:
        """How many tokens those shards have."""
        return sum(int(self.offsets[rows.stop] - self.offsets[rows.start]) for rows in map(self.rows, shards))

    def fill(self, shards: Sequence[int], told: Callable[[int], None] = lambda rows: None) -> None:
        """Computes those shards; `told` hears the number of rows after each batch.

        Raises: BudgetError when the disk cannot hold them.
        """
        if not shards:
            return
        answer = self.opened(shards)
        for shard in shards:
            for kind, array in self._computed(answer, self.rows(shard), told).items():
                with new_file(self._path(kind, shard), replace=True) as partial, partial.open("wb") as stream:
                    np.save(stream, array)

    def of(self, kind: str, row: int) -> NDArray[Any]:
        """What the array of that kind says of a row. Shape: (width,), or (its tokens, width)."""
        shard, place = divmod(row, self.size)
        if (kind, shard) not in self._open:
            self._open[kind, shard] = np.load(self._path(kind, shard), mmap_mode="r")
        found: NDArray[Any] = self._open[kind, shard][self._place(kind, shard * self.size, place)]
        return found

    def _computed(self, answer: Answer, rows: range, told: Callable[[int], None]) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        tokens = int(self.offsets[rows.stop] - self.offsets[rows.start])
        for batch in length_batches(np.diff(self.offsets[rows.start : rows.stop + 1]).tolist(), self.batch):
            for kind, said in zip(self.kinds.values(), answer([rows[place] for place in batch.tolist()]), strict=True):
                if kind.name not in found:
                    lines = tokens if kind.over_tokens else len(rows)
                    found[kind.name] = np.empty((lines, said.shape[-1]), kind.dtype)
                for line, place in zip(said, batch.tolist(), strict=True):
                    target = found[kind.name][self._place(kind.name, rows.start, place)]
                    target[:] = line[: len(target)]
            told(len(batch))
        return found

    def _place(self, kind: str, first: int, place: int) -> int | slice:
        """Where an array of the shard that begins with the row `first` has its row at `place`."""
        if not self.kinds[kind].over_tokens:
            return place
        start, end = self.offsets[[first + place, first + place + 1]] - self.offsets[first]
        return slice(int(start), int(end))

    def _path(self, kind: str, shard: int) -> Path:
        return self.folder / f"{self._names[shard]}.{kind}.npy"


def is_array(path: Path) -> bool:
    """Whether `path` is an array of its full length, as it is not after a power cut."""
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return False
    return True


def fill_together(kept: Shards, what: str, state: PartialState, progress: Progress) -> None:
    """Each process computes its share of the missing shards, then all wait. what: is computed, in words."""
    missing = kept.missing()
    state.wait_for_everyone()
    known = len(kept) - kept.count(missing)
    progress.start(what, len(kept))
    progress.advance(known, note="from the cache" if known else "")
    kept.fill(missing[state.process_index :: state.num_processes], lambda n: progress.advance(n * state.num_processes))
    state.wait_for_everyone()
