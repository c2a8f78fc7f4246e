"""Where a row of a file has its texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgebert.errors import DataError
from edgebert.texts import no_column

TEXT = ("text", "sentence", "sentence1", "content")
FIRST, SECOND = (*TEXT, "premise"), ("text_pair", "sentence2", "hypothesis")  # of a pair
QUESTION, CONTEXT = ("question",), ("context",)
# Python's and JSON's lists and numpy's arrays, and no text in brackets, whose words have blanks around.
_LIST = re.compile(r"""\[(["']\S.*["'],?|[^\s,\[\]]+(,\s+[^\s,\[\]]+)+|)\]""", re.DOTALL)

LABELS_LIST = re.compile(r"""\[(.*[\s,'"].*)?\]""", re.DOTALL)  # also without blanks: no label looks like it


def column(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """The text in the first of those columns that the row has. Raises: DataError."""
    name = next((name for name in names if name in row), None)
    if name is None:
        raise no_column(where, repr(names[0]), row)
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
