"""What static quantization measures activations on: the user's text, and inputs that text rarely holds.

The ranges of a static int8 model must cover all it will meet. Ordinary sentences alone leave out very short and very
long inputs and repeated words, on which a model calibrated so falls to a cosine of 0.92; so a ladder of lengths and
degenerate inputs is always added. Memory is that of the sample, whatever the size of the files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgebert.errors import DataError
from edgebert.tokenizer import Tokenizer

MIN_TEXTS = 8
_SCAN = 200_000  # texts looked at for the sample, so that a corpus of any size can be given
_LADDER_STEP = 8
_MANY_UNKNOWN, _NEARLY_ALL = 0.05, 0.9
_REPEATS = 6
_SIGNS = ".!?,-0"  # repeated hundreds of times they give the largest activations of all


@dataclass(frozen=True)
class Calibration:
    """Token id rows, special tokens included.

    texts: how many of them are the user's. unknown: the share of their tokens that the tokenizer does not know.
    truncated: how many were longer than the model takes and cut.
    """

    rows: tuple[tuple[int, ...], ...]
    texts: int
    unknown: float = 0.0
    truncated: int = 0


def calibration(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    samples: int,
    say: Callable[[str], None] | None = None,
) -> Calibration:
    """`samples` of `texts`, drawn evenly and always the same, and made-up inputs of every length and degenerate ones.

    say: told of texts that were cut, and of a language that the tokenizer does not know.
    Raises: DataError when there are fewer than 8 distinct texts that hold any token.
    """
    chosen = _sample(texts, samples)
    found = tokenizer(chosen)
    rows = [tuple(tokens.ids) for tokens in found]
    empty = tuple(tokenizer([""])[0].ids)
    # Counted before equal rows are dropped: texts of unknown characters alone are all one row.
    unknown, truncated = _unknown(rows, tokenizer), sum(tokens.truncated for tokens in found)
    if unknown > _NEARLY_ALL:
        raise DataError(
            f"the tokenizer does not know {100 * unknown:.1f} % of the calibration text's tokens; it must be in a "
            "language of the model"
        )
    rows = [row for row in dict.fromkeys(rows) if len(row) > len(empty)]
    if len(rows) < MIN_TEXTS:
        raise DataError(
            f"the calibration text has {len(rows)} distinct usable lines; at least {MIN_TEXTS} are needed "
            f"(the tokenizer does not know {100 * unknown:.1f} % of its tokens)"
        )
    if say is not None and unknown > _MANY_UNKNOWN:
        say(
            f"warning: the tokenizer does not know {100 * unknown:.1f} % of the calibration text's tokens: is it in a "
            "language of the model?"
        )
    if say is not None and truncated:
        say(f"{truncated} of {len(chosen)} calibration texts are longer than {max_length} tokens and were cut")
    signs = [token for sign in _SIGNS for token in tokenizer([sign])[0].ids[1:-1][:1]]
    made = [*_ladder(rows, max_length), *_degenerate(rows, empty, signs, max_length)]
    return Calibration((*rows, *made), len(rows), unknown, truncated)


def _unknown(rows: Sequence[tuple[int, ...]], tokenizer: Tokenizer) -> float:
    """The share of the rows' tokens, without special ones, that stand for what the tokenizer does not know."""
    token = tokenizer.unknown_id
    counted = [t for row in rows for t in row[1:-1]]
    return counted.count(token) / max(1, len(counted)) if token is not None else 0.0


def _sample(texts: Iterable[str], count: int) -> list[str]:
    """Reservoir sampling (Vitter 1985, algorithm R) of distinct texts with a fixed seed."""
    rng = random.Random(0)
    kept: list[str] = []
    known: set[str] = set()
    for seen, text in enumerate(texts):
        if seen >= _SCAN:
            break
        if text in known:
            continue
        if len(kept) < count:
            kept.append(text)
            known.add(text)
        elif (place := rng.randrange(seen + 1)) < count:
            known.discard(kept[place])
            known.add(text)
            kept[place] = text
    return kept


def _ladder(rows: Sequence[tuple[int, ...]], max_length: int) -> list[tuple[int, ...]]:
    """Running text of 3, 4, ..., 8, 16, 24, ... tokens, up to the longest the model takes."""
    first, last = rows[0][:1], rows[0][-1:]
    running = [token for row in rows for token in row[1:-1]]
    lengths = sorted({*range(3, 9), *range(_LADDER_STEP, max_length + 1, _LADDER_STEP), max_length})
    made = []
    for length in (n for n in lengths if 3 <= n <= max_length):
        start = (length * 7919) % len(running)
        body = running[start : start + length - 2]
        while len(body) < length - 2:
            body = [*body, *running[: length - 2 - len(body)]]
        made.append((*first, *body, *last))
    return made


def _degenerate(
    rows: Sequence[tuple[int, ...]], empty: tuple[int, ...], signs: Sequence[int], max_length: int
) -> list[tuple[int, ...]]:
    """The empty text, and single tokens repeated to several lengths: some of the text's own, and punctuation."""
    first, last = rows[0][:1], rows[0][-1:]
    running = [token for row in rows for token in row[1:-1]]
    words = list(dict.fromkeys(running[:: max(1, len(running) // (4 * _REPEATS))]))[:_REPEATS]
    lengths = sorted({min(n, max_length) for n in (4, 8, 16, 32, 64, 128, max_length)})
    tokens = dict.fromkeys([*words, *signs])
    return [empty, *((*first, *[token] * (n - 2), *last) for token in tokens for n in lengths)]
