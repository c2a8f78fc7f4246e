"""Texts drawn for speed: of every length in words, and of just so many tokens."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lengths import text_of

from edgebert.texts import read_rows
from edgebert.tokenizer import Tokenizer

SEED = 29
WORDS = (5, 200)
SHORT, LONG = (8, 64), 128  # tokens of one text at a time
_POOL = 200_000  # sentences to draw from: several sources, little memory


def mixed_texts(rows: Iterable[tuple[str, str]], count: int, *, seed: int = SEED) -> list[str]:
    """`count` texts of 5 to 200 words, every number of words as likely as any other.

    rows: sentences and their sources in the order of the file. A number of words and a sentence to begin with are
    drawn; the sentences behind it are joined with blanks as long as they are of the same source, and the last one is
    cut after the drawn number of words. Where a source ends too early another beginning is drawn.
    """
    sentences = list(rows)
    draw = random.Random(seed)
    made = []
    while len(made) < count:
        wanted = draw.randint(*WORDS)
        for _ in range(100):
            words = _words_from(sentences, draw.randrange(len(sentences)), wanted)
            if len(words) == wanted:
                break
        else:
            sys.exit(f"no {wanted} words of one source in a row were found: the file of sentences is too short")
        made.append(" ".join(words))
    return made


def _words_from(sentences: Sequence[tuple[str, str]], start: int, wanted: int) -> list[str]:
    source, words = sentences[start][1], list[str]()
    for text, of in sentences[start : start + wanted]:
        if of != source or len(words) >= wanted:
            break
        words += text.split()
    return words[:wanted]


def sentence_rows(path: Path) -> list[tuple[str, str]]:
    """Sentences and sources of a file with columns text and source: runs of 1,000, evenly spread over the file."""
    rows = [(row["text"], row["source"]) for row in read_rows(path)]
    step = max(1000, 1000 * (len(rows) // _POOL))
    return [row for start in range(0, len(rows), step) for row in rows[start : start + 1000]]


def short_texts(texts: Sequence[str], tokenizer: Tokenizer, count: int, *, seed: int = SEED) -> list[str]:
    """`count` running texts of 8 to 64 tokens, every length as likely as any other."""
    draw = random.Random(seed)
    return [text_of(texts, tokenizer, draw.randint(*SHORT), draw.randrange(len(texts))) for _ in range(count)]


def long_texts(texts: Sequence[str], tokenizer: Tokenizer, count: int, *, length: int = LONG) -> list[str]:
    """`count` running texts of just `length` tokens, each begun at another sentence."""
    step = max(1, len(texts) // count)
    return [text_of(texts, tokenizer, length, i * step) for i in range(count)]
