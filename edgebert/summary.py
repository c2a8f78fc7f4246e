"""Extractive summaries: the sentences of a text that say most of it, word for word.

A BERT model reads; it does not write. What it can do for a summary is to choose, by the vectors of the sentences.
Source: Erkan and Radev 2004, LexRank, arXiv:1109.2128, for the weight of a sentence among all: the stationary
distribution of a walk from sentence to similar sentence; Carbonell and Goldstein 1998, "The use of MMR, diversity-based
reranking", for taking none that repeats a chosen one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebert.errors import DataError, RecipeError
from edgebert.hub import DEFAULT_MODEL
from edgebert.model import is_whole

if TYPE_CHECKING:
    from edgebert.embedder import Embedder

_DAMPING = 0.85
_ROUNDS = 100
_NEW = 0.7  # how much a sentence's own weight counts beside not repeating a chosen one
_MOST = 2000  # sentences: the similarities of all pairs are held
# Behind it a sentence ends: a mark before a blank, a Chinese mark with its closing quotes, a blank line.
_END = re.compile(r"(?<=[.!?؟۔।])[\"')\]»”’]*(?=\s)|[。！？；…]+[”’」』）]*|\n\s*\n")
_CHINESE_ENDS = "。！？；…"
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|Fig|No|Jan|Feb|Aug|Sept|Oct|Nov|Dec|[A-Z])\.$")


_SHORT = 12  # characters: longer than any of these


@dataclass(frozen=True)
class Sentence:
    """A sentence of a text, `text[start:end]`, and its weight among all, which sum to 1."""

    start: int
    end: int
    text: str
    score: float


def summarize(text: str, *, sentences: int = 3, model: str | Path | Embedder = DEFAULT_MODEL) -> list[Sentence]:
    """The `sentences` most telling sentences of `text`, in the order of the text; all where it has no more.

    model: one that gives vectors, or its name.
    Raises: DataError for what is no text with a sentence, or for more than 2000 of them; RecipeError for `sentences`
    below 1.
    """
    if not is_whole(sentences) or sentences < 1:
        raise RecipeError(f"sentences is {sentences!r}; it must be 1 or more")
    if not isinstance(text, str) or not text.strip():
        kind = "" if isinstance(text, str) else f" ({type(text).__name__})"
        raise DataError(f"the text is {text!r:.80}{kind}; a string that is not blank is needed")
    if not isinstance(model, str | Path) and not callable(getattr(model, "encode", None)):
        raise RecipeError(f"model is {model!r:.80}; a model that gives vectors, or the name of one, is needed")
    found = list(_split(text))
    if not found:
        raise DataError(f"the text is {text!r:.80}; a text with a letter or a digit is needed")
    if len(found) > _MOST:
        raise DataError(f"the text has {len(found)} sentences; at most {_MOST} can be compared: summarize its parts")
    if isinstance(model, str | Path):
        from edgebert.models import open_model

        with open_model(str(model)) as opened:
            vectors = opened.encode([text[start:end] for start, end in found])
    else:
        vectors = model.encode([text[start:end] for start, end in found])
    alike = np.maximum(vectors @ vectors.T, 0).astype(np.float64)
    weights = _central(alike)
    chosen = _diverse(weights, alike, min(int(sentences), len(found)))
    return [Sentence(*found[i], text[slice(*found[i])], float(weights[i])) for i in sorted(chosen)]


def _split(text: str) -> Iterator[tuple[int, int]]:
    """Where the sentences stand, blanks around them left out."""
    start = 0
    for match in _END.finditer(text):
        if (
            _ABBREVIATION.search(text, max(start, match.start() - _SHORT), match.start())
            and match.group().strip() == ""
        ):
            continue
        end = match.end()
        if text[end : end + 1] == '"' and match.group()[0] in _CHINESE_ENDS and text.count('"', start, end) % 2:
            end += 1  # it closes what the sentence opened
        yield from _trimmed(text, start, end)
        start = end
    yield from _trimmed(text, start, len(text))


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if any(character.isalnum() for character in text[start:end]):
        yield start, end


def _central(alike: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of each sentence. Shape: (n, n) of cosines, none below 0 -> (n,), which sum to 1."""
    count = len(alike)
    walk = alike.copy()
    np.fill_diagonal(walk, 0)
    sums = walk.sum(axis=1, keepdims=True)
    walk = np.where(sums > 0, walk / np.where(sums > 0, sums, 1), 1 / count)
    weights = np.full(count, 1 / count)
    for _ in range(_ROUNDS):
        weights = (1 - _DAMPING) / count + _DAMPING * walk.T @ weights
    total: NDArray[np.float64] = weights / weights.sum()
    return total


def _diverse(weights: NDArray[np.float64], alike: NDArray[np.float64], count: int) -> list[int]:
    """The first `count` by weight, less what each has in common with those before."""
    scaled = weights / weights.max()
    chosen: list[int] = []
    while len(chosen) < count:
        same = alike[:, chosen].max(axis=1) if chosen else np.zeros(len(weights))
        gain = _NEW * scaled - (1 - _NEW) * same
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen
