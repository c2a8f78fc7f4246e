"""Where a row of a file has its texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.errors import DataError, RecipeError
from edgebert.texts import no_column, read_rows

Names = Mapping[str, str]  # a column as it is read here -> what a file calls it

TEXT = ("text", "sentence", "sentence1", "content")
# The second text of a pair, and what the first one beside it is called; any name of a text will do, too.
PAIRS = {"text_pair": "text", "sentence2": "sentence1", "sentence_b": "sentence_a", "hypothesis": "premise"}
# What a file may have in a column's stead: it goes where that column is named.
_INSTEAD = {
    "text": (*TEXT, *PAIRS.values()),
    "text_pair": tuple(PAIRS),
    "label": ("labels", "score"),
    "labels": ("label",),
    "score": ("label",),
    "tokens": ("text", "entities"),
    "entities": ("tokens", "tags"),
}
QUESTION, CONTEXT = ("question",), ("context",)
# Python's and JSON's lists and numpy's arrays, and no text in brackets, whose words have blanks around.
_LIST = re.compile(r"""\[(["']\S.*["'],?|[^\s,\[\]]+(,\s+[^\s,\[\]]+)+|)\]""", re.DOTALL)

LABELS_LIST = re.compile(r"""\[(.*[\s,'"].*)?\]""", re.DOTALL)  # also without blanks: no label looks like it


def require_read(names: Names, reads: Iterable[str]) -> None:
    """Raises: RecipeError for a name that is not among those that are read, and a column that is blank or has two."""
    known, columns = tuple(dict.fromkeys(reads)), list(names.values())
    for name, theirs in names.items():
        if name not in known:
            raise RecipeError(f"{name}={theirs} names a column that is not read; read are {', '.join(known)}")
        if not theirs or columns.count(theirs) > 1:
            raise RecipeError(f"{name}={theirs} names {'the same column as another' if theirs else 'no column'}")


def rows_of(path: str | Path, names: Names | None, reads: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file with columns, each after where it stands, in words.

    names: the columns that the file calls otherwise, which `require_read` has seen. What the file has in their stead is
    left out: its own column of that name, those that mean the same, and a second text beside one that is named where
    `reads` has no two.
    Raises: DataError, also for a row without a column that is named.
    """
    names = names or {}
    out = {*names.values(), *(other for name in names for other in _INSTEAD.get(name, ()))}
    if "text" in names and "text_pair" not in reads:
        out |= set(PAIRS)
    told = f" ({', '.join(f'{name}={theirs}' for name, theirs in names.items())})" if names else ""
    for number, row in enumerate(read_rows(path), start=1):
        for theirs in names.values():
            if theirs not in row:
                raise no_column(f"{path}: row {number}", repr(theirs), row)
        others = {key: value for key, value in row.items() if key not in out}
        yield f"{path}: row {number}{told}", others | {ours: row[theirs] for ours, theirs in names.items()}


def missing(where: str, names: Sequence[str], row: Mapping[str, Any]) -> DataError:
    """What is wrong with a row that has none of those columns, in words."""
    told = no_column(where, " or ".join(map(repr, names)), row)
    return DataError(f"{told}{called(names[0])}")


def called(name: str) -> str:
    """How a column is named that a file calls otherwise, in words."""
    name = "text_pair" if name in PAIRS else "text" if name in _INSTEAD["text"] else name
    return f": what is called otherwise is named with --column {name}=COLUMN, or in a file of tasks with columns"


def named(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of those names that is a column of the row; the first one where none is."""
    return next((name for name in names if name in row), names[0])


def pair_columns(row: Mapping[str, Any]) -> tuple[str, str]:
    """What the row calls the two texts of a pair."""
    second = named(row, tuple(PAIRS))
    return named(row, (PAIRS[second], *TEXT, *PAIRS.values())), second


def pair(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    """The two texts of a row. Raises: DataError."""
    first, second = pair_columns(row)
    return column(row, (first,), where), column(row, (second,), where)


def only_text(row: Mapping[str, Any], where: str) -> str:
    """The text of a row that has one. Raises: DataError; also for a row with a second text, which nobody would read."""
    second = next((name for name in PAIRS if isinstance(row.get(name), str) and row[name].strip()), None)
    if second is not None:
        first = named(row, (PAIRS[second], *TEXT))
        raise DataError(
            f"{where} has a second text, in the column {second!r}, and one is read: the task 'pairs' reads both, "
            f"--column text={first} that one alone"
        )
    return column(row, TEXT, where)


def column(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """The text in the first of those columns that the row has. Raises: DataError."""
    name = named(row, names)
    if name not in row:
        raise missing(where, names[:1], row)
    if not isinstance(row[name], str):
        raise DataError(f"{where}, column {name!r} holds {row[name]!r:.80}; a text is needed")
    return str(row[name])


def refuse_list(value: str, name: str, where: str, elsewhere: str, *, pattern: re.Pattern[str] = _LIST) -> None:
    """Raises DataError for a list that was written as text. name: of the column; elsewhere: how tables write it."""
    if pattern.fullmatch(value.strip()):
        raise DataError(
            f"{where}, column {name!r} holds {value!r:.80}, a list written as text; lists need .jsonl or .parquet, "
            f"elsewhere {elsewhere}"
        )
