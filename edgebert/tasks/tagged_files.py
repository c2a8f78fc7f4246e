"""Files of tagged texts: words and tags, stretches by their places, CoNLL columns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.errors import DataError
from edgebert.tasks.tagging import OUTSIDE
from edgebert.tasks.task import Example
from edgebert.texts import read_texts


@dataclass(frozen=True)
class Tagged:
    """Where the words of a text stand, and a label for each: as the file has it, of BIO once all are read."""

    words: tuple[tuple[int, int], ...]
    labels: tuple[str, ...]


def words_of(row: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A list of words, or one text of them with blanks between."""
    if name not in row:
        raise DataError(f"{where} has no column {name!r}; it has {', '.join(map(repr, row))}")
    words = row[name].split() if isinstance(row[name], str) else row[name]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{where}, column {name!r} holds {row[name]!r:.80}; a list of words is needed")
    return words


def joined_words(words: Sequence[str], tags: Sequence[str], where: str) -> Example:
    """The words as one text, with a blank between two unless both are Chinese characters there."""
    if len(words) != len(tags):
        raise DataError(f"{where} has {len(words)} tokens and {len(tags)} tags; each token needs one")
    if "" in tags:
        raise DataError(f"{where}: the tag of {words[tags.index('')]!r:.80} is empty; {OUTSIDE!r} is outside of all")
    text, places = "", []
    for word in words:
        if text and not (_is_han(text[-1]) and word and _is_han(word[0])):
            text += " "
        places.append((len(text), len(text) + len(word)))
        text += word
    return Example(text, None, Tagged(tuple(places), tuple(tags)), where)


# Scripts that are written without blanks, with their punctuation and fullwidth forms.
_HAN = (("\u2e80", "\u9fff"), ("\uf900", "\ufaff"), ("\uff00", "\uffef"), ("\U00020000", "\U0003ffff"))


def _is_han(character: str) -> bool:
    return any(first <= character <= last for first, last in _HAN)


def stretches(text: str, entities: Any, where: str) -> Tagged:
    """Every character but blanks is a word, so that no boundary is lost."""
    if not isinstance(entities, list):
        raise DataError(f"{where}, column 'entities' holds {entities!r:.80}; a list of start, end and label is needed")
    labels = [OUTSIDE] * len(text)
    for entity in entities:
        start, end, label = (entity.get(key) for key in ("start", "end", "label")) if isinstance(entity, dict) else (
            entity if isinstance(entity, list) and len(entity) == 3 else (None, None, None)
        )  # fmt: skip
        if not (isinstance(start, int) and isinstance(end, int) and isinstance(label, str)):
            raise DataError(f"{where}: the entity {entity!r:.80} is no start, end and label")
        if label in ("", OUTSIDE):
            raise DataError(f"{where}: the entity {entity!r:.80} has the label {label!r}; a name is needed")
        if not 0 <= start < end <= len(text):
            raise DataError(f"{where}: the entity {entity!r:.80} is outside the text, which has {len(text)} characters")
        if not text[start:end].strip():
            raise DataError(f"{where}: the entity {entity!r:.80} is blank: there is no word in it")
        if any(one != OUTSIDE for one in labels[start:end]):
            raise DataError(f"{where}: the entity {entity!r:.80} overlaps another one")
        labels[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    places = [i for i, character in enumerate(text) if not character.isspace()]
    return Tagged(tuple((i, i + 1) for i in places), tuple(labels[i] for i in places))


_TAG = re.compile(r"O|[BILUESM]-\S+")


def is_conll(path: str | Path) -> bool:
    """Whether the first lines that are not blank are a token and its tag each, and no running text."""
    if not Path(path).is_file():  # what can be read once only, as text
        return False
    lines = [line.split() for line in itertools.islice(read_texts([path]), 50) if not _is_remark(line.rstrip())]
    tagged = [bool(_TAG.fullmatch(cells[-1])) for cells in lines if len(cells) > 1]
    return len(tagged) > 0 and all(tagged) and all(len(cells) > 1 or cells[0] == "-DOCSTART-" for cells in lines)


def _is_remark(line: str) -> bool:
    """Whether it is a line such as "# id 5f3 domain=train", and not the token "#" with its tag."""
    return line == "#" or (line.startswith("# ") and "\t" not in line and not _TAG.fullmatch(line.split()[-1]))


def conll(path: str | Path) -> Iterator[Example]:
    """Texts of lines with a token, what there may be between, and a tag.

    Raises: DataError for lines that have not as many columns as those before, as running text has not.
    """
    words: list[str] = []
    tags: list[str] = []
    first, number, columns = 1, 0, 0
    for number, line in enumerate(read_texts([path], keep_blank=True), start=1):
        line = line.rstrip()
        cells = line.split("\t") if "\t" in line else line.split()
        if _is_remark(line):
            continue
        if not line or cells[0] == "-DOCSTART-":
            if words:
                yield joined_words(words, tags, f"{path}: lines {first} to {number - 1}")
            words, tags, first = [], [], number + 1
            continue
        if len(cells) < 2:
            raise DataError(f"{path}: line {number} is {line!r:.80}; a token and its tag are needed")
        if columns and len(cells) != columns:
            raise DataError(
                f"{path}: line {number} is {line!r:.80}, {len(cells)} columns, and the lines before have {columns}; "
                "CoNLL columns are a token and its tag, with as many between in every line"
            )
        columns = len(cells)
        words.append(cells[0])
        tags.append(cells[-1].strip())
    if words:
        yield joined_words(words, tags, f"{path}: lines {first} to {number}")
