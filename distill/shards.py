"""What a teacher answers, computed once: shards of rows on disk, named by what they hold.

A shard's name is a hash of its rows, in a folder named by a hash of all that the answers depend on. So a broken run
goes on where it stopped, rows that are asked about again share their shards, and nothing can be mixed up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray

from edgebert.files import new_file
from edgebert.progress import Progress

Told = Callable[[int], None]  # the number of rows that were answered now


class Shards(ABC):
    """Arrays of a teacher's answers to rows of tokens, `size` rows in a shard.

    lengths: tokens of each row. kinds: the names of a shard's arrays, each with a line for every row or, one row behind
    the other, for every token.
    """

    def __init__(self, lengths: NDArray[np.int64], kinds: Sequence[str], size: int) -> None:
        self.kinds, self.size = tuple(kinds), size
        self.offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        self.shards = -(-len(lengths) // size)
        self._names = [self.name(self.rows(shard)) for shard in range(self.shards)]
        self._open: dict[tuple[int, str], NDArray[Any]] = {}

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where shards of these answers lie."""

    @abstractmethod
    def name(self, rows: range) -> str:
        """A hash of the tokens of `rows`."""

    @abstractmethod
    def opened(self, shards: Sequence[int]) -> Callable[[range, Told], list[NDArray[Any]]]:
        """What answers rows, with an array of each kind, after a look at whether the disk holds what is made.

        Raises: BudgetError when it does not.
        """

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, shard: int) -> range:
        """The numbers of a shard's rows."""
        return range(shard * self.size, min((shard + 1) * self.size, len(self)))

    def missing(self) -> list[int]:
        """The numbers of the shards that are not on disk yet."""
        return [shard for shard in range(self.shards) if not all(map(is_array, self._paths(shard)))]

    def count(self, shards: Sequence[int]) -> int:
        """How many rows those shards have."""
        return sum(len(self.rows(shard)) for shard in shards)

    def tokens(self, shards: Sequence[int]) -> int:
        """How many tokens those shards have."""
        return sum(int(self.offsets[rows.stop] - self.offsets[rows.start]) for rows in map(self.rows, shards))

    def fill(self, shards: Sequence[int], told: Told = lambda rows: None) -> None:
        """Computes those shards; `told` hears the number of rows after each batch.

        Raises: BudgetError when the disk cannot hold them.
        """
        if not shards:
            return
        answer = self.opened(shards)
        for shard in shards:
            for path, array in zip(self._paths(shard), answer(self.rows(shard), told), strict=True):
                with new_file(path, replace=True) as partial, partial.open("wb") as stream:
                    np.save(stream, array)

    def line(self, kind: str, row: int) -> NDArray[Any]:
        """What an array with a line for every row says of one."""
        found: NDArray[Any] = self._array(kind, row // self.size)[row % self.size]
        return found

    def stretch(self, kind: str, row: int) -> NDArray[Any]:
        """What an array with a line for every token says of a row. Shape: (its tokens, ...)."""
        first = self.offsets[row // self.size * self.size]
        start, end = self.offsets[[row, row + 1]] - first
        return self._array(kind, row // self.size)[start:end]

    def _array(self, kind: str, shard: int) -> NDArray[Any]:
        if (shard, kind) not in self._open:
            path = self._paths(shard)[self.kinds.index(kind)]
            self._open[shard, kind] = np.load(path, mmap_mode="r")
        return self._open[shard, kind]

    def _paths(self, shard: int) -> list[Path]:
        return [self.folder / f"{self._names[shard]}.{kind}.npy" for kind in self.kinds]


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
