"""Rows of differing length in one memory-mapped file, so that a corpus of any size stays on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Ragged:
    """Read access to what a `RaggedWriter` wrote: `ragged[i]` is row i, Shape: (its length,).

    `lengths`: Shape: (rows,), int64.
    """

    def __init__(self, path: Path) -> None:
        offsets = np.fromfile(path.with_suffix(".offsets"), dtype=np.int64)
        self.dtype = np.dtype(path.with_suffix(".dtype").read_text(encoding="ascii"))
        self.values = np.memmap(path.with_suffix(".values"), dtype=self.dtype, mode="r")
        self.offsets = np.concatenate([np.zeros(1, np.int64), offsets])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


class RaggedWriter:
    """Appends rows to `path`.values and their ends to `path`.offsets; a context manager."""

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.rows = 0
        self._end = 0
        path.with_suffix(".dtype").write_text(self.dtype.str, encoding="ascii")
        self._values = path.with_suffix(".values").open("wb")
        self._offsets = path.with_suffix(".offsets").open("wb")

    def append(self, row: Any) -> None:
        """Adds one row, an array or list. Shape: (any length,)."""
        values = np.asarray(row, dtype=self.dtype)
        self._values.write(values.tobytes())
        self._end += values.size
        self._offsets.write(np.int64(self._end).tobytes())
        self.rows += 1

    def __enter__(self) -> RaggedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._values.close()
        self._offsets.close()
