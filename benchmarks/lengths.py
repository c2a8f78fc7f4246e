"""Texts of every length in tokens: running text cut to it, and one word repeated."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edgebert.tokenizer import Tokenizer

_SPECIAL = 2  # one token before a text and one behind it
_TRIES = 100


def running_texts(texts: Sequence[str], tokenizer: Tokenizer, lengths: Sequence[int]) -> list[str]:
    """For each length a text of just so many tokens: sentences in a row, begun at another one, the last one cut."""
    return [text_of(texts, tokenizer, length, length * length) for length in lengths]


def repeated_words(texts: Sequence[str], tokenizer: Tokenizer, lengths: Sequence[int]) -> list[str]:
    """For each length one word over and over, so many tokens in all; another word every time."""
    words = sorted({word for text in texts for word in text.split() if word.isalpha()})
    whole = [word for word, tokens in zip(words, tokenizer(words), strict=True) if len(tokens.ids) == _SPECIAL + 1]
    made = [" ".join([whole[n * n % len(whole)]] * (n - _SPECIAL)) for n in lengths]
    if (found := [len(tokens.ids) for tokens in tokenizer(made)]) != list(lengths):
        sys.exit(f"this tokenizer gives repeated words {found[:5]}... tokens; {list(lengths)[:5]}... are needed")
    return made


def text_of(texts: Sequence[str], tokenizer: Tokenizer, length: int, start: int) -> str:
    """A text of just `length` tokens: sentences in a row from number `start` on, the last one cut."""
    for turn in range(_TRIES):  # a cut word may give other tokens than it began with
        first = (start + turn) % len(texts)
        text = " ".join([*texts[first : first + length], *texts[:first]][:length])
        cut = text[: tokenizer.backend.encode(text).offsets[length - _SPECIAL][1]]
        if len(tokenizer([cut])[0].ids) == length:
            return cut
    sys.exit(f"no text of just {length} tokens was found in {_TRIES} tries")
