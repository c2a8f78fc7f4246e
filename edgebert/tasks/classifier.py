"""Labels, numbers and ranks of texts and of pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from edgebert.errors import RecipeError
from edgebert.manifest import Head
from edgebert.model import is_whole
from edgebert.tasks.predictor import Logits, Predictor, as_pairs, as_texts, probabilities
from edgebert.tasks.results import Classification, Ranked


class Classifier(Predictor):
    """Texts to labels."""

    what = "classifier"

    @overload
    def classify(self, texts: str) -> Classification: ...
    @overload
    def classify(self, texts: Sequence[str]) -> list[Classification]: ...
    def classify(self, texts: str | Sequence[str]) -> Classification | list[Classification]:
        """The most probable label of each text.

        Raises: DataError for what is no string; EngineError.
        """
        found = [best_labels(logits[0], self.head, top_k=1)[0] for logits in self._logits(as_texts(texts))]
        return found[0] if isinstance(texts, str) else found

    @overload
    def classify_all(
        self, texts: str, *, top_k: int | None = None, threshold: float | None = None
    ) -> list[Classification]: ...
    @overload
    def classify_all(
        self, texts: Sequence[str], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[list[Classification]]: ...
    def classify_all(
        self, texts: str | Sequence[str], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[Classification] | list[list[Classification]]:
        """All labels of each text, the most probable first: at most `top_k`, and none less probable than `threshold`.

        Raises: DataError for what is no string; RecipeError for an option out of range; EngineError.
        """
        check(top_k, threshold)
        found = [
            best_labels(logits[0], self.head, top_k=top_k, threshold=threshold)
            for logits in self._logits(as_texts(texts))
        ]
        return found[0] if isinstance(texts, str) else found


class Regressor(Predictor):
    """Texts to numbers."""

    what = "regressor"

    @overload
    def predict(self, texts: str) -> float: ...
    @overload
    def predict(self, texts: Sequence[str]) -> list[float]: ...
    def predict(self, texts: str | Sequence[str]) -> float | list[float]:
        """The number of each text.

        Raises: DataError for what is no string; EngineError.
        """
        found = [float(logits[0][0]) for logits in self._logits(as_texts(texts))]
        return found[0] if isinstance(texts, str) else found


class PairScorer(Predictor):
    """Pairs of texts to labels or numbers: inference, paraphrase, relevance."""

    what = "pair scorer"

    def classify_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Classification]:
        """The most probable label of each pair.

        Raises: DataError for what is no pair of strings; RecipeError where the model gives numbers; EngineError.
        """
        if not self.labels:
            raise RecipeError("this model gives numbers, not labels: use score_pairs")
        return [best_labels(logits[0], self.head, top_k=1)[0] for logits in self._logits(as_pairs(pairs))]

    def score_pairs(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> list[float]:
        """The number of each pair; where the model has labels, the probability of `label`, by default of the last one.

        Raises: DataError for what is no pair of strings; RecipeError for a label that it has not; EngineError.
        """
        if label is not None and label not in self.labels:
            raise RecipeError(f"the model has no label {label!r}; it has {', '.join(self.labels) or 'none'}")
        found = [logits[0] for logits in self._logits(as_pairs(pairs))]
        if not self.labels:
            return [float(logits[0]) for logits in found]
        place = len(self.labels) - 1 if label is None else self.labels.index(label)
        return [float(probabilities(logits, self.head)[place]) for logits in found]

    def rank(self, query: str, documents: Sequence[str], *, top_k: int | None = None) -> list[Ranked]:
        """The documents by `score_pairs` with the query, the best first.

        Raises: DataError for what is no string; RecipeError for `top_k` below 1; EngineError.
        """
        check(top_k, None)
        texts = as_texts(documents)
        scores = self.score_pairs([(query, text) for text in texts])
        order = np.argsort(-np.asarray(scores), kind="stable")[:top_k].tolist()
        return [Ranked(i, scores[i], texts[i]) for i in order]


def best_labels(
    logits: Logits, head: Head, *, top_k: int | None = None, threshold: float | None = None
) -> list[Classification]:
    """The labels by their probabilities, the greatest first. Shape: logits (labels,)."""
    found = probabilities(logits, head)
    order = np.argsort(-found, kind="stable")[:top_k].tolist()
    return [
        Classification(head.labels[i], float(found[i])) for i in order if threshold is None or found[i] >= threshold
    ]


def check(top_k: int | None, threshold: float | None) -> None:
    """Raises RecipeError for values out of range."""
    if top_k is not None and (not is_whole(top_k) or top_k < 1):
        raise RecipeError(f"top_k is {top_k!r}; it must be 1 or more, or None for all")
    if threshold is not None and not 0 <= threshold <= 1:
        raise RecipeError(f"threshold is {threshold!r}; it must be within 0 to 1, or None")
