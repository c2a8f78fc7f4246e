"""Writing vectors as they come: .npy, .jsonl and .parquet, in constant memory, whole or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from edgebert.errors import MissingExtraError, RecipeError
from edgebert.files import new_file, refuse_existing
from edgebert.vectors import Vectors

Write = Callable[[Sequence[str], Vectors], None]


@contextlib.contextmanager
def vector_file(out: Path, dimension: int) -> Iterator[Write]:
    """A function that appends texts and their vectors to `out`, a new file whose format its suffix tells.

    .npy holds the vectors, float32, Shape: (texts, dimension); .jsonl an object {"text", "embedding"} a line; .parquet
    the columns text and embedding. `out` appears when the block ends well.
    Raises: RecipeError for another suffix; BundleError when `out` exists; MissingExtraError for Parquet.
    """
    known = {".npy": _npy, ".jsonl": _jsonl, ".parquet": _parquet}
    if out.suffix.lower() not in known:
        raise RecipeError(f"the output {out} has an unknown format; it must end in {', '.join(known)}")
    refuse_existing(out)
    with new_file(out) as partial, known[out.suffix.lower()](partial, dimension) as write:
        yield write


@contextlib.contextmanager
def _npy(path: Path, dimension: int) -> Iterator[Write]:
    rows = 0

    def write(texts: Sequence[str], vectors: Vectors) -> None:
        nonlocal rows
        rows += len(vectors)
        stream.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())

    with path.open("wb") as stream:
        _npy_header(stream, 0, dimension)
        start = stream.tell()
        yield write
        # numpy leaves room in the header for a first dimension that grows.
        stream.seek(0)
        _npy_header(stream, rows, dimension)
        assert stream.tell() == start


def _npy_header(stream: IO[bytes], rows: int, dimension: int) -> None:
    facts = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(stream, facts)


@contextlib.contextmanager
def _jsonl(path: Path, dimension: int) -> Iterator[Write]:
    def write(texts: Sequence[str], vectors: Vectors) -> None:
        for text, vector in zip(texts, vectors, strict=True):
            stream.write(json.dumps({"text": text, "embedding": numbers(vector)}) + "\n")

    with path.open("w", encoding="utf-8", newline="\n") as stream:
        yield write


@contextlib.contextmanager
def _parquet(path: Path, dimension: int) -> Iterator[Write]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "writing Parquet") from None
    kind = pyarrow.list_(pyarrow.float32(), dimension)
    schema = pyarrow.schema([("text", pyarrow.string()), ("embedding", kind)])

    def write(texts: Sequence[str], vectors: Vectors) -> None:
        # Lone surrogates, which UTF-8 cannot hold, become question marks.
        clean = pyarrow.array([text.encode("utf-8", "replace").decode("utf-8") for text in texts], pyarrow.string())
        flat = pyarrow.array(np.ascontiguousarray(vectors).ravel())
        column = pyarrow.FixedSizeListArray.from_arrays(flat, dimension)
        writer.write_table(pyarrow.Table.from_arrays([clean, column], schema=schema))

    with parquet.ParquetWriter(path, schema) as writer:
        yield write


def numbers(vector: Vectors) -> list[float]:
    """The vector as the shortest decimal numbers that read back as the same float32. Shape: (dimension,)."""
    return [float(str(value)) for value in vector]
