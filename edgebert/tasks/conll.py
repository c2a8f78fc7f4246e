"""CoNLL columns: a line for each token with its tag at the end, a blank line behind each text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebert.errors import DataError
from edgebert.tasks.tagged_files import tagged_words
from edgebert.tasks.tagging import OUTSIDE
from edgebert.tasks.task import Example
from edgebert.texts import read_texts

# CoNLL-U has a number before the token, and is none of them.
_NAMES = (".conll", ".bio", ".iob", ".iob2", ".bioes", ".bilou")
_AT_FIRST = 1000  # lines that tell how all are read
_DOCUMENT = "-DOCSTART-"
_TAG = re.compile(r"O|[BILUESM]-\S+")


def is_conll(path: str | Path) -> bool:
    """Whether a file's name says so, or its first lines can hardly be running text.

    Such lines have as many columns each, a token first and a tag last that is O or has a prefix; a text has two lines
    or more. Without tabs between the columns there must be O and B- or I-, too: "she takes the S-Bahn" is a text.
    """
    if Path(str(path).lower().removesuffix(".gz")).suffix in _NAMES:
        return True
    if not Path(path).is_file():  # what can be read once only, as text
        return False
    lines = [line.rstrip() for line in itertools.islice(read_texts([path], keep_blank=True), _AT_FIRST)]
    columns = _Columns.of(lines)
    kept = [line for line in lines if not columns.is_remark(line) and not line.startswith(_DOCUMENT)]
    rows = [_cells(line) for line in kept if line]
    tags = {cells[-1].strip() for cells in rows}
    return (
        columns.count > 1
        and any(one and other for one, other in itertools.pairwise(kept))
        and all(len(cells) == columns.count and len(cells[0].split()) == 1 for cells in rows)
        and all(map(_TAG.fullmatch, tags))
        and (all("\t" in line for line in kept if line) or (columns.prefixes and OUTSIDE in tags))
    )


def conll(path: str | Path) -> Iterator[Example]:
    """Texts of lines with a token, what there may be between, and a tag.

    Raises: DataError for lines that have not as many columns as the first one, as running text has not.
    """
    words: list[str] = []
    tags: list[str] = []
    lines = (line.rstrip() for line in read_texts([path], keep_blank=True))
    known = list(itertools.islice(lines, _AT_FIRST))
    columns = _Columns.of(known)
    first, number = 1, 0
    for number, line in enumerate(itertools.chain(known, lines), start=1):
        if columns.is_remark(line):
            continue
        if not line or line.startswith(_DOCUMENT):
            if words:
                yield tagged_words(words, tags, f"{path}: lines {first} to {number - 1}")
            words, tags, first = [], [], number + 1
            continue
        cells = _cells(line)
        if len(cells) < 2:
            raise DataError(f"{path}: line {number} is {line!r:.80}; a token and its tag are needed")
        if len(cells) != columns.count:
            raise DataError(
                f"{path}: line {number} is {line!r:.80}, {len(cells)} columns, and the lines before have "
                f"{columns.count}; CoNLL columns are a token and its tag, with as many between in every line"
            )
        words.append(cells[0])
        tags.append(cells[-1])
    if words:
        yield tagged_words(words, tags, f"{path}: lines {first} to {number}")


@dataclass(frozen=True)
class _Columns:
    """How many there are, and whether tags have prefixes."""

    count: int
    prefixes: bool

    @classmethod
    def of(cls, lines: Sequence[str]) -> _Columns:
        """By the lines that are certainly no remarks."""
        rows = [_cells(line) for line in lines if line and not line.startswith(("#", _DOCUMENT))]
        return cls(len(rows[0]) if rows else 0, any(cells[-1].startswith(("B-", "I-")) for cells in rows))

    def is_remark(self, line: str) -> bool:
        """Whether it is a line such as "# id 5f3 domain=train", and not the token "#" with its tag."""
        if not line.startswith("#"):
            return False
        cells = _cells(line)
        return len(cells) != self.count or (self.prefixes and not _TAG.fullmatch(cells[-1].strip()))


def _cells(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else line.split()
