"""Rows of tagged texts: words and tags, or stretches by their places."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.errors import DataError
from edgebert.model import is_whole
from edgebert.tasks.columns import refuse_list
from edgebert.tasks.tagging import OUTSIDE
from edgebert.tasks.task import Example
from edgebert.tokenizer import SURROGATE


@dataclass(frozen=True)
class Tagged:
    """Where the words of a text stand, and a label for each, as the file has it."""

    words: tuple[tuple[int, int], ...]
    labels: tuple[str, ...]


class Joined(str):
    """A text that was made of words, and that so stands in no file."""

    __slots__ = ()


_PREFIX = re.compile("[BILUESM]-")


def words_of(row: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A list of words, or one text of them with blanks between. Raises: DataError, also for a list written as text."""
    words = row[name]
    if isinstance(words, str):
        refuse_list(words, name, where, "words have blanks between")
        words = words.split()
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{where}, column {name!r} holds {words!r:.80}; a list of words is needed")
    return words


def tagged_words(words: Sequence[str], tags: Sequence[str], where: str, *, text: str | None = None) -> Example:
    """The words with a tag each, in their text. text: where they stand; None joins them, see `joined_words`.

    Raises: DataError for another number of tags than of words, for blank ones, and for a word that the text has not.
    """
    if len(words) != len(tags):
        raise DataError(f"{where} has {len(words)} tokens and {len(tags)} tags; each token needs one")
    words, labels = stripped(words, where), tuple(tag.strip() for tag in tags)
    for word, label in zip(words, labels, strict=True):
        if fault := _fault(label):
            raise DataError(f"{where}: the tag of {word!r:.80} {fault}")
    if text is None:
        text = joined_words(words)
    places, behind = [], 0
    for number, word in enumerate(words):
        start = text.find(word, behind)
        if start < 0:
            raise DataError(
                f"{where}: tokens[{number}], {word!r:.80}, is not in the text behind {text[:behind][-40:]!r}; without "
                "the column 'text' the tokens are joined"
            )
        behind = start + len(word)
        places.append((start, behind))
    return Example(text, None, Tagged(tuple(places), labels), where)


def stripped(words: Sequence[str], where: str) -> list[str]:
    """The words without blanks around them. Raises: DataError for a blank one."""
    found = [word.strip() for word in words]
    if "" in found:
        number = found.index("")
        raise DataError(f"{where}: tokens[{number}] is {words[number]!r:.80}; a token that is not blank is needed")
    return found


def joined_words(words: Sequence[str]) -> str:
    """The words as one text, with a blank between two, but none beside a Chinese or Japanese character.

    Where all are single characters and one is of those, there is none at all, as the digits of 在2012年 are one number.
    """
    if all(len(word) == 1 for word in words) and any(map(_is_unspaced, words)):
        return "".join(words)
    text = ""
    for word in words:
        text += " " * bool(text and not _is_unspaced(text[-1]) and not _is_unspaced(word[0])) + word
    return text


# Scripts that are written without blanks, with their punctuation and fullwidth forms; Hangul has blanks.
_UNSPACED = (
    ("\u2e80", "\u312f"), ("\u3190", "\u9fff"), ("\uf900", "\ufaff"), ("\uff00", "\uff9f"), ("\uffe0", "\uffef"),
    ("\U00020000", "\U0003ffff"),
)  # fmt: skip


def _is_unspaced(character: str) -> bool:
    return any(first <= character <= last for first, last in _UNSPACED)


def _fault(label: str) -> str:
    """What is wrong with a label, "" where nothing is."""
    if not label:
        return f"is empty; {OUTSIDE!r} is outside of all"
    if SURROGATE.search(label):
        return f"is {label!r:.80}, with half a surrogate pair, which UTF-8 cannot hold"
    return f"is {label!r}, a prefix without a name" if _PREFIX.fullmatch(label) else ""


def stretches(text: str, entities: Any, where: str) -> Tagged:
    """Every character but blanks is a word, so that no boundary is lost."""
    if not isinstance(entities, list):
        raise DataError(f"{where}, column 'entities' holds {entities!r:.80}; a list of start, end and label is needed")
    labels = [OUTSIDE] * len(text)
    for entity in entities:
        start, end, label = (entity.get(key) for key in ("start", "end", "label")) if isinstance(entity, dict) else (
            entity if isinstance(entity, list) and len(entity) == 3 else (None, None, None)
        )  # fmt: skip
        if not (is_whole(start) and is_whole(end) and isinstance(label, str)):
            raise DataError(f"{where}: the entity {entity!r:.80} is no start, end and label")
        if label.strip() in ("", OUTSIDE):
            raise DataError(f"{where}: the entity {entity!r:.80} has the label {label!r}; a name is needed")
        if fault := _fault(label := label.strip()):
            raise DataError(f"{where}: the label of the entity {entity!r:.80} {fault}")
        if not 0 <= start < end <= len(text):
            raise DataError(f"{where}: the entity {entity!r:.80} is outside the text, which has {len(text)} characters")
        if not text[start:end].strip():
            raise DataError(f"{where}: the entity {entity!r:.80} is blank: there is no word in it")
        if any(one != OUTSIDE for one in labels[start:end]):
            raise DataError(f"{where}: the entity {entity!r:.80} overlaps another one")
        labels[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    places = [i for i, character in enumerate(text) if not character.isspace()]
    return Tagged(tuple((i, i + 1) for i in places), tuple(labels[i] for i in places))
