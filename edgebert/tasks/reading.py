"""Text and pairs of texts to token ids, with the segments and places that tasks need.

Source: Devlin et al. 2019, arXiv:1810.04805, for segments, and for long contexts in windows that overlap.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.engines.base import Ids
from edgebert.errors import BudgetError, DataError
from edgebert.once import once
from edgebert.tokenizer import SURROGATE, Tokenizer

Place = tuple[int, int] | None


class Row(list[int]):
    """Token ids of one input, and for each token its segment (0 or 1) and where it stands in the text.

    offsets: None for what is not of the text: special tokens, blanks, and the question where the text is a context.
    """

    def __init__(self, ids: Sequence[int], types: Sequence[int], offsets: Sequence[Place] = ()) -> None:
        super().__init__(ids)
        self.types, self.offsets = list(types), list(offsets)

    def bare(self) -> Row:
        """The same without offsets, which take more memory than all the rest."""
        return Row(self, self.types)


def types_of(rows: Sequence[Sequence[int]], shape: tuple[int, ...]) -> Ids | None:
    """The rows' segments, padded with 0 to `shape`; None where all is one segment."""
    if not any(isinstance(row, Row) and any(row.types) for row in rows):
        return None
    types = np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        if isinstance(row, Row):
            types[place, : len(row)] = row.types
    return types


class TaskReader:
    """Reads for tasks with a model's tokenizer.

    max_length: tokens of one row. stride: tokens that two windows share, at most half of a window.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, stride: int) -> None:
        self._tokenizer, self.max_length, self._stride = tokenizer, max_length, stride

    def pairs(self, texts: Sequence[tuple[str, str]]) -> tuple[list[Row], int]:
        """A row for each pair, the longer one of which is cut first, and how many were cut."""
        frame = self._frames[1]
        room, rows, cut = self.max_length - frame.special, list[Row](), 0
        for one, other in texts:
            first, second = (self._beginning(text, room) for text in (one, other))
            sizes = _longest_first(len(first), len(second), room)
            cut += sizes != (len(first), len(second))
            rows.append(frame.row(first[: sizes[0]], second[: sizes[1]]))
        return rows, cut

    def windows(self, text: str) -> list[Row]:
        """The text in as many rows as it takes."""
        frame = self._frames[0]
        ids, places = self._all(text)
        parts = _parts(len(ids), self.max_length - frame.special, self._stride)
        return [frame.row(ids[part], places=places[part]) for part in parts]

    def contexts(self, question: str, context: str) -> list[Row]:
        """Question and context in as many rows as the context takes; offsets are the context's.

        Raises: DataError for a question that leaves the context less than an eighth of a row.
        """
        frame, least = self._frames[1], max(1, self.max_length // 8)
        most = self.max_length - frame.special - least
        asked = self._beginning(question, most + 1)
        if len(asked) > most:
            raise DataError(
                f"the question {question[:40]!r} has {len(asked)} tokens or more; at most {most} leave a context room "
                f"in {self.max_length}"
            )
        ids, places = self._all(context)
        parts = _parts(len(ids), most + least - len(asked), self._stride)
        return [frame.row(asked, ids[part], places=places[part]) for part in parts]

    @once
    def _frames(self) -> tuple[_Frame, _Frame]:
        """Of one text, and of two."""
        whole = self._tokenizer.whole
        return _Frame(whole.encode("a")), _Frame(whole.encode("a", "a"))

    def _all(self, text: str) -> tuple[list[int], list[Place]]:
        """All tokens of a text, and where each stands. Raises: BudgetError, `Tokenizer.within_budget`."""
        most = self._tokenizer.most_characters
        if most is not None and len(text) > most:
            raise BudgetError(
                f"a text of {len(text)} characters is read in windows, and more than {most} would break memory_mb: "
                "give its parts, or load the model without memory_mb"
            )
        encoded = self._tokenizer.whole.encode(_clean(text), add_special_tokens=False)
        return encoded.ids, [_without_blanks(text, *offset) for offset in encoded.offsets]

    def _beginning(self, text: str, enough: int) -> list[int]:
        """The tokens of a text; of a long one the first ones, `enough` of them or more."""
        text = _clean(text)
        head = self._tokenizer.cut(text)
        ids: list[int] = self._tokenizer.whole.encode(head, add_special_tokens=False).ids
        if len(head) < len(text) and len(ids) <= enough:  # few tokens in many characters
            ids = self._tokenizer.whole.encode(text, add_special_tokens=False).ids
        return ids


class _Frame:
    """What a tokenizer puts around one text or two. probe: an encoding of them, with special tokens."""

    def __init__(self, probe: Any) -> None:
        inside = [number for number in probe.sequence_ids if number is not None]
        first = probe.sequence_ids.index(0)
        behind = len(probe.ids) - probe.sequence_ids[::-1].index(inside[-1])
        ends = first + inside.count(0)
        second = probe.sequence_ids.index(1) if 1 in inside else behind
        self.parts = [(probe.ids[part], probe.type_ids[part]) for part in (
            slice(0, first), slice(ends, second), slice(behind, None)
        )]  # fmt: skip
        self.types = probe.type_ids[first], probe.type_ids[second] if 1 in inside else 0
        self.special = sum(len(ids) for ids, _ in self.parts)

    def row(self, first: list[int], second: list[int] | None = None, *, places: Sequence[Place] | None = None) -> Row:
        """The row of those tokens. places: of the last text's, None where nobody asks for them."""
        (before, types), (between, their), (behind, last) = self.parts
        ids = [*before, *first, *between, *(second or ()), *behind]
        kinds = [*types, *[self.types[0]] * len(first), *their, *[self.types[1]] * len(second or ()), *last]
        if places is None:
            return Row(ids, kinds)
        start = len(ids) - len(behind) - len(places)
        return Row(ids, kinds, [*[None] * start, *places, *[None] * len(behind)])


def _parts(count: int, size: int, stride: int) -> list[slice]:
    """Stretches of at most `size` of `count` tokens, which share `stride`, at most half of them; one at least."""
    step = size - min(stride, size // 2)
    starts = range(0, max(1, count - size + step), step)
    return [slice(start, min(start + size, count)) for start in starts]


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each of two texts are kept; where `room` is too little for both, the longer is cut first."""
    if first + second <= room:
        return first, second
    short = min(first, second, room // 2)
    return (short, room - short) if first <= second else (room - short, short)


def _without_blanks(text: str, start: int, end: int) -> Place:
    """The place without the blanks and invisible characters at its ends, None where there is nothing else.

    SentencePiece (Metaspace) and some byte-level tokenizers count the blank before a word to its first token, and those
    that read a zero-width blank or a mark of direction as a blank or as nothing, that one, too.
    """
    whole = start == end  # a token of nothing, which some tokenizers put between two words
    while start < end and _is_unseen(text[start]):
        start += 1
    while start < end and _is_unseen(text[end - 1]):
        end -= 1
    return (start, end) if whole or start < end else None


def _is_unseen(character: str) -> bool:
    """Whether it is a blank or a format character, such as U+200B, U+FEFF and U+00AD."""
    return character.isspace() or (not character.isascii() and unicodedata.category(character) == "Cf")


def _clean(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, as U+FFFD, one for one."""
    return text if text.isascii() else SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
