"""Reading text files as streams: lines, JSONL, CSV, TSV and Parquet, gzip or not, and standard input.

The format is told by the name: `.jsonl`, `.csv`, `.tsv`, `.parquet`, each also with `.gz` behind it; anything else is
one text a line. A file of any size is read in constant memory.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from edgebert.errors import DataError, MissingExtraError

DEFAULT_COLUMN = "text"
_PARQUET_ROWS = 8192
_CELL = 1 << 27  # the longest cell of a CSV table; the library allows 128 KiB by default
_GZIP_FAULTS = (EOFError, gzip.BadGzipFile, zlib.error)


def read_texts(paths: Sequence[str | Path], *, column: str | None = None, keep_blank: bool = False) -> Iterator[str]:
    """The texts of all files, in order.

    column: where the text stands in JSONL, CSV, TSV and Parquet; by default "text", or the only column there is.
    keep_blank: give blank texts too, so that texts and lines stay one to one.
    Raises: DataError for a file that is missing, is no text or lacks the column, naming file and line.
    """
    for path in paths:
        for text in _texts(str(path), column):
            if keep_blank or text.strip():
                yield text


def read_rows(path: str | Path, *, column: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL, CSV, TSV or Parquet file as dictionaries, column name to value.

    column: the only one that is needed; formats that can leave the others unread do.
    Raises: DataError, see `read_texts`; a file of plain lines has no columns.
    """
    name = str(path)
    kind = _format(name)
    if kind == "lines":
        if name != "-" and not Path(name).exists():
            raise DataError(f"no such file: {name}")
        raise DataError(f"{name}: a file with columns is needed: .jsonl, .csv, .tsv or .parquet, also with .gz")
    if kind == "parquet":
        yield from _parquet_rows(name, column)
        return
    with contextlib.closing(_lines(name, ends=kind == "csv")) as lines:
        yield from _json_rows(name, lines) if kind == "jsonl" else _table_rows(name, lines, kind)


def read_labelled(paths: Sequence[str | Path], *, column: str | None = None, label: str) -> Iterator[tuple[str, str]]:
    """The texts of all files with what stands in the column `label` beside each.

    Raises: DataError, see `read_texts` and `read_rows`, and for a file without that column.
    """
    for path in paths:
        key = column
        for number, row in enumerate(read_rows(path), start=1):
            if label not in row:
                raise no_column(str(path), repr(label), row)
            key = _column(str(path), list(row), key)
            yield _cell(str(path), number, row, key), str(row[label])


def has_columns(path: str | Path) -> bool:
    """Whether a file's name says that it has columns, which `read_rows` needs."""
    return _format(str(path)) != "lines"


def is_json(path: str | Path) -> bool:
    """Whether a file's name says that it is one JSON value, as SQuAD's are, and not one a line."""
    return str(path).lower().removesuffix(".gz").endswith(".json")


def refuse_json(path: str | Path) -> None:
    """Raises DataError for a file that is one JSON value where rows are wanted."""
    if is_json(path):
        raise DataError(f"{path}: rows are read from .jsonl, .csv, .tsv and .parquet, one JSON object a line")


def no_column(where: str, wanted: str, known: Iterable[str]) -> DataError:
    """What is wrong with a row without the columns `wanted`, in words. known: those that it has."""
    return DataError(f"{where} has no column {wanted}; it has {', '.join(map(repr, known))}")


def _texts(name: str, column: str | None) -> Iterator[str]:
    if _format(name) == "lines":
        lines = _lines(name)
        for line in itertools.islice(lines, 1):
            if name == "-" and _is_object(line):
                raise DataError(
                    f"-: standard input is read as plain text, and its first line is the JSON object {line:.80}: write "
                    "it to a .jsonl file, or to a .txt file if the text is JSON"
                )
            yield line
        yield from lines
        return
    key = column
    for number, row in enumerate(read_rows(name, column=column), start=1):
        key = _column(name, list(row), key)
        yield _cell(name, number, row, key)


def _is_object(line: str) -> bool:
    """Whether a line is a JSON object."""
    try:
        return line.lstrip().startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _cell(name: str, number: int, row: dict[str, Any], column: str) -> str:
    """Raises DataError when it holds no text."""
    if not isinstance(row[column], str):
        raise DataError(f"{name}: row {number}, column {column!r} holds {row[column]!r:.80} and must hold text")
    return str(row[column])


def _column(name: str, known: Sequence[str], column: str | None) -> str:
    """The column the text stands in: the one asked for, else "text", else the only one."""
    wanted = column or (DEFAULT_COLUMN if DEFAULT_COLUMN in known or len(known) != 1 else known[0])
    if wanted not in known:
        raise DataError(f"{name} has no column {wanted!r}; it has {', '.join(map(repr, known))}: choose with --column")
    return wanted


def _format(name: str) -> str:
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    return {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}.get(
        suffix, "lines"
    )


def _lines(name: str, *, ends: bool = False) -> Generator[str, None, None]:
    """The lines of a text file, with their ends if asked for; a byte order mark is dropped."""
    with _open(name) as stream:
        try:
            for number, data in enumerate(stream, start=1):
                if b"\0" in data:
                    raise DataError(f"{name}: line {number} holds NUL bytes: this is a binary file, not text")
                try:
                    line = data.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as problem:
                    raise DataError(f"{name}: line {number} is not UTF-8: {problem}") from None
                yield line if ends else line.rstrip("\r\n")
        except _GZIP_FAULTS as problem:
            raise DataError(f"{name} is not a whole gzip file: {problem}") from None


@contextlib.contextmanager
def _open(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    path = Path(name)
    if path.is_dir():
        raise DataError(f"{name} is a folder; a file is needed")
    try:
        with path.open("rb") as stream:
            if name.lower().endswith(".gz"):
                with gzip.open(stream) as unpacked:
                    yield io.BufferedReader(unpacked)
            else:
                yield stream
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"no such file: {name}") from None
    except PermissionError:
        raise DataError(f"{name} cannot be read: permission denied") from None
    except gzip.BadGzipFile:
        raise
    except OSError as problem:
        if problem.errno is None:  # a library's own, such as of damaged Parquet
            raise
        raise DataError(f"{name[:200]} cannot be read: {problem.strerror}") from None


def _json_rows(name: str, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{name}: line {number} is not JSON: {problem}") from None
        if not isinstance(row, dict):
            raise DataError(f"{name}: line {number} is not a JSON object but {line[:40]!r}")
        yield row


def _table_rows(name: str, lines: Iterable[str], kind: str) -> Iterator[dict[str, Any]]:
    """CSV with its quotes (RFC 4180) and line ends; TSV without, where a quote is a character like any other."""
    csv.field_size_limit(max(csv.field_size_limit(), _CELL))
    reader = csv.reader(lines) if kind == "csv" else (line.split("\t") for line in lines)
    header: list[str] | None = None
    number = 0  # of rows that were given, without the header, as readers count them
    try:
        for cells in reader:
            if header is None:
                header = cells
                if len(set(header)) != len(header):
                    raise DataError(f"{name}: the header names a column twice: {', '.join(map(repr, header))}")
                continue
            if len(header) == 1:
                cells = cells or [""]
            if len(cells) == len(header):
                number += 1
                yield dict(zip(header, cells, strict=True))
            elif cells not in ([], [""]):  # blank lines
                raise DataError(f"{name}: row {number + 1} has {len(cells)} cells and the header {len(header)}")
    except csv.Error as problem:
        raise DataError(f"{name} is not a {kind.upper()} table: {problem}") from None


def _parquet_rows(name: str, column: str | None) -> Iterator[dict[str, Any]]:
    """All columns, or only `column`, so that the others are not read."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", f"reading {name}") from None
    try:
        with _open(name) as stream, _seekable(stream, name) as whole, parquet.ParquetFile(whole) as table:
            if column is not None:
                _column(name, table.schema_arrow.names, column)
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS, columns=[column] if column else None):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, *_GZIP_FAULTS) as problem:
        # A damaged page is an OSError without number, damaged text no UTF-8; a message may have several lines.
        raise DataError(f"{name} is not a whole Parquet file: {' '.join(str(problem).split())}") from None


@contextlib.contextmanager
def _seekable(stream: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    """Parquet is read from its end, which gzip does not allow: a packed file is unpacked to a temporary one."""
    if not name.lower().endswith(".gz"):
        yield stream
        return
    with tempfile.TemporaryFile() as unpacked:
        shutil.copyfileobj(stream, unpacked)
        unpacked.seek(0)
        yield unpacked
