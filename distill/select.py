"""Which texts of the corpus are trained on: by length, without what evaluation uses, without near repeats.

One pass over the corpus. Memory: 8 bytes a text (32 with MinHash) for near repeats, and the excluded texts' own hashes.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.distill.corpus import Corpus, Seen
from edgebert.distill.encoder import load_tokenizer
from edgebert.distill.recipe import Data
from edgebert.progress import Progress
from edgebert.texts import has_columns, read_rows, read_texts

GRAM = 8  # words
_BANDS, _BAND_ROWS, _SHINGLE = 4, 8, 5
_CHUNK = 8192
# A word is a run of letters and digits; Han, kana and hangul, which stand without blanks, count one by one.
_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯豈-﫿]|[^\W_぀-ヿ㐀-䶿一-鿿가-힯豈-﫿]+")
_RANDOM = np.random.default_rng(20)
_FACTORS = _RANDOM.integers(1, 2**64, _BANDS * _BAND_ROWS, dtype=np.uint64) | np.uint64(1)
_SHIFTS = _RANDOM.integers(0, 2**64, _BANDS * _BAND_ROWS, dtype=np.uint64)


@dataclass(frozen=True)
class Selected:
    """rows: of the corpus, ascending. counts: how many texts each rule left out, in the order they are asked."""

    rows: NDArray[np.int64]
    counts: dict[str, int]


def select(text: Corpus, data: Data, teacher: Bundle, progress: Progress) -> Selected:
    """The rows of `text` that the rules of `data` leave. A text is counted under the first rule that it fails.

    Raises: DataError when a file to exclude cannot be read.
    """
    counts = dict.fromkeys(("length", "excluded", "excluded_overlap", "near_duplicate"), 0)
    if not chooses(data):
        return Selected(np.arange(len(text)), counts)
    excluded = Excluded(data.exclude) if data.exclude else None
    near = _NearRepeats(data.near_duplicates)
    kept: list[NDArray[np.int64]] = []
    progress.start("choosing texts", len(text))
    for start in range(0, len(text), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(text)))
        good = []
        for row, one, fits in zip(rows, [text[r] for r in rows], _fitting(text, rows, data, teacher), strict=True):
            words = _words(one) if excluded or data.near_duplicates != "keep" else []
            rule = "length" if not fits else excluded.rule(words) if excluded else ""
            rule = rule or ("near_duplicate" if near.repeats(words) else "")
            if rule:
                counts[rule] += 1
            else:
                good.append(row)
        kept.append(np.array(good, np.int64))
        progress.advance(len(rows))
    return Selected(np.concatenate(kept), counts)


def chooses(data: Data) -> bool:
    """Whether `data` has a rule that may leave a text out."""
    lengths = (data.min_characters, data.max_characters, data.min_tokens, data.max_tokens)
    return any(limit is not None for limit in lengths) or bool(data.exclude) or data.near_duplicates != "keep"


def content_of(paths: Sequence[str]) -> str:
    """A hash of what the files to exclude say, whatever they are called; "" for no files."""
    digest = hashlib.sha256()
    for one in _excluded_texts(paths):
        digest.update(one.encode("utf-8", "replace") + b"\n")
    return digest.hexdigest() if paths else ""


class Excluded:
    """The texts of files: whole ones after normalisation, and their runs of eight words."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._whole: set[int] = set()
        self._grams: set[int] = set()
        for one in _excluded_texts(paths):
            words = _words(one)
            if words:
                self._whole.add(_key(" ".join(words)))
                self._grams.update(_grams(words))

    def rule(self, words: Sequence[str]) -> str:
        """ "excluded" for one of the texts, "excluded_overlap" for a run of eight words of one, else ""."""
        if words and _key(" ".join(words)) in self._whole:
            return "excluded"
        return "excluded_overlap" if any(gram in self._grams for gram in _grams(words)) else ""


class _NearRepeats:
    """Tells texts that are nearly one that came before."""

    def __init__(self, how: str) -> None:
        self.how = how
        self._seen = [Seen() for _ in range(_BANDS if how == "minhash" else 1)]

    def repeats(self, words: Sequence[str]) -> bool:
        """Whether a text of those words is nearly an earlier one; one without a word never is."""
        if self.how == "keep" or not words:
            return False
        plain = " ".join(words)
        keys = [_key(plain)] if self.how == "normalised" else bands(plain)
        new = [seen.add(key) for seen, key in zip(self._seen, keys, strict=True)]  # each of them, not to the first
        return not all(new)


def bands(plain: str) -> list[int]:
    """Four keys, of eight minimal hashes each, of a text's runs of five characters: near texts share one or more.

    Texts whose sets of runs have the Jaccard index J share a key with probability 1 - (1 - J^8)^4: 0.89 at J = 0.9,
    0.02 at 0.5.
    Source: Broder 1997, "On the resemblance and containment of documents"; Lee et al. 2022, arXiv:2107.06499.
    """
    codes = np.frombuffer(plain.ljust(_SHINGLE).encode("utf-32-le"), np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, _SHINGLE)
    hashes = np.zeros(len(windows), np.uint64)
    for place in range(_SHINGLE):
        hashes = (hashes ^ windows[:, place]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    mixed = hashes[:, None] * _FACTORS + _SHIFTS
    mixed ^= mixed >> np.uint64(31)
    least = (mixed * np.uint64(0xBF58476D1CE4E5B9)).min(axis=0).reshape(_BANDS, _BAND_ROWS)
    return [int.from_bytes(hashlib.blake2b(band.tobytes(), digest_size=8).digest(), "little") for band in least]


def _fitting(text: Corpus, rows: range, data: Data, teacher: Bundle) -> Iterator[bool]:
    """Whether each text is as long as is asked for; tokens are the teacher's, special ones included."""
    low, high = data.min_characters or 0, data.max_characters or float("inf")
    fits = [low <= len(text[r]) <= high for r in rows]
    if data.min_tokens is not None or data.max_tokens is not None:
        least, most = data.min_tokens or 0, data.max_tokens or float("inf")
        tokenizer = load_tokenizer(teacher, max_length=1 + max(data.min_tokens or 0, data.max_tokens or 0))
        found = tokenizer([text[r] for r in rows])
        fits = [one and least <= len(tokens.ids) <= most for one, tokens in zip(fits, found, strict=True)]
    yield from fits


def _excluded_texts(paths: Sequence[str]) -> Iterator[str]:
    """Every text in the files: lines, or all cells that hold text."""
    for path in paths:
        if not has_columns(path):
            yield from read_texts([Path(path)])
            continue
        for row in read_rows(path):
            yield from (cell for cell in row.values() if isinstance(cell, str))


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _grams(words: Sequence[str]) -> Iterator[int]:
    return (_key(" ".join(words[i : i + GRAM])) for i in range(len(words) - GRAM + 1))


def _key(plain: str) -> int:
    return int.from_bytes(hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).digest(), "little")
