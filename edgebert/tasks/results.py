"""What the models of tasks answer: small, frozen, and the same whatever runs them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Classification:
    """A label and its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Tag:
    """A stretch of a text, `text[start:end]`, its label without the scheme's prefix, and the mean probability of its
    tokens."""

    start: int
    end: int
    text: str
    label: str
    score: float


@dataclass(frozen=True)
class Answer:
    """A stretch of a context, `context[start:end]`, and its probability; text is "" where there is no answer."""

    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True)
class Ranked:
    """A document's place in the list that was given, and its score."""

    index: int
    score: float
    document: str
