"""Text and pairs of texts to token ids, with the segments and places that tasks need.

Source: Devlin et al. 2019, arXiv:1810.04805, for segments, and for long contexts in windows that overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers

from edgebert.engines.base import Ids
from edgebert.errors import DataError
from edgebert.tokenizer import SURROGATE, Tokenizer

Place = tuple[int, int] | None


class Row(list[int]):
    """Token ids of one input, and for each token its segment (0 or 1) and where it stands in the text.

    offsets: None for what is not of the text: special tokens, blanks, and the question where the text is a context.
    """

    def __init__(self, ids: Sequence[int], types: Sequence[int], offsets: Sequence[Place] = ()) -> None:
        super().__init__(ids)
        self.types, self.offsets = list(types), list(offsets)


def types_of(rows: Sequence[Sequence[int]], shape: tuple[int, ...]) -> Ids | None:
    """The rows' segments, padded with 0 to `shape`; None where all is one segment."""
    if not any(isinstance(row, Row) and any(row.types) for row in rows):
        return None
    types = np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        if isinstance(row, Row):
            types[place, : len(row)] = row.types
    return types


_SPECIAL = 4  # tokens of a pair at most, beside its texts


class TaskReader:
    """Reads for tasks with a model's tokenizer.

    max_length: tokens of one row. stride: tokens that two windows share.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, stride: int) -> None:
        self.max_length, self.stride = max_length, max(0, min(stride, (max_length - _SPECIAL) // 2))
        made = tokenizer.backend.to_str()
        self._pairs, self._windows, self._contexts = (tokenizers.Tokenizer.from_str(made) for _ in range(3))
        for backend in (self._pairs, self._windows, self._contexts):
            backend.no_padding()
        self._pairs.enable_truncation(max_length)
        self._windows.enable_truncation(max_length, stride=self.stride)
        self._contexts.enable_truncation(max_length, stride=self.stride, strategy="only_second")
        self._question = max_length - len(self._pairs.encode("", "").ids) - self.stride - 1

    def pairs(self, texts: Sequence[tuple[str, str]]) -> tuple[list[Row], int]:
        """A row for each pair, the longer one of which is cut first, and how many were cut."""
        found = self._pairs.encode_batch([(_clean(one), _clean(other)) for one, other in texts])
        return [Row(e.ids, e.type_ids) for e in found], sum(bool(e.overflowing) for e in found)

    def windows(self, text: str) -> list[Row]:
        """The text in as many rows as it takes."""
        whole = self._windows.encode(_clean(text))
        return [Row(e.ids, e.type_ids, _places(e, 0, text)) for e in (whole, *whole.overflowing)]

    def contexts(self, question: str, context: str) -> list[Row]:
        """Question and context in as many rows as the context takes; offsets are the context's.

        Raises: DataError for a question that leaves the context no room.
        """
        asked = len(self._pairs.encode(_clean(question), add_special_tokens=False).ids)
        if asked > self._question:
            raise DataError(
                f"the question {question[:40]!r} has {asked} tokens or more; at most {self._question} leave a context "
                f"room in {self.max_length}"
            )
        whole = self._contexts.encode(_clean(question), _clean(context))
        return [Row(e.ids, e.type_ids, _places(e, 1, context)) for e in (whole, *whole.overflowing)]


def _places(encoding: Any, sequence: int, text: str) -> list[Place]:
    """Where each token of that sequence, which is `text`, stands, None for every other token."""
    return [
        _without_blanks(text, *offset) if number == sequence else None
        for offset, number in zip(encoding.offsets, encoding.sequence_ids, strict=True)
    ]


def _without_blanks(text: str, start: int, end: int) -> Place:
    """The place without the blanks at its ends, None where there is nothing else.

    SentencePiece (Metaspace) and some byte-level tokenizers count the blank before a word to its first token.
    """
    whole = start == end  # a token of nothing, which some tokenizers put between two words
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return (start, end) if whole or start < end else None


def _clean(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, as U+FFFD, one for one."""
    return text if text.isascii() else SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
