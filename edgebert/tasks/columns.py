"""Where a row of a file has its texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgebert.errors import DataError, RecipeError
from edgebert.texts import Names, no_column

TEXT = ("text", "sentence", "sentence1", "content")
# The second text of a pair, and what the first one beside it is called; any name of a text will do, too.
PAIRS = {"text_pair": "text", "sentence2": "sentence1", "sentence_b": "sentence_a", "hypothesis": "premise"}
QUESTION, CONTEXT = ("question",), ("context",)
# Python's and JSON's lists and numpy's arrays, and no text in brackets, whose words have blanks around.
_LIST = re.compile(r"""\[(["']\S.*["'],?|[^\s,\[\]]+(,\s+[^\s,\[\]]+)+|)\]""", re.DOTALL)

LABELS_LIST = re.compile(r"""\[(.*[\s,'"].*)?\]""", re.DOTALL)  # also without blanks: no label looks like it


def require_read(names: Names, reads: Iterable[str]) -> None:
    """Raises: RecipeError for a name of a column that is not among those that are read."""
    known = tuple(dict.fromkeys(reads))
    for name in names:
        if name not in known:
            raise RecipeError(f"{name}={names[name]} names a column that is not read; read are {', '.join(known)}")


def missing(where: str, names: Sequence[str], row: Mapping[str, Any]) -> DataError:
    """What is wrong with a row that has none of those columns, in words."""
    told = no_column(where, " or ".join(map(repr, names)), row)
    return DataError(f"{told}: what is called otherwise is named with --column {names[0]}=COLUMN")


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
    second = named(row, tuple(PAIRS))
    if row.get(second) not in (None, ""):
        raise DataError(
            f"{where} has a second text, in the column {second!r}, and one is read: the task 'pairs' reads both; or "
            "leave the column out"
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
