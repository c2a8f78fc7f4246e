"""Pairs of texts to labels or numbers: inference, paraphrase, relevance.

Source: Devlin et al. 2019, arXiv:1810.04805, for two texts in one input; Nogueira and Cho 2019, arXiv:1901.04085, for
ranking by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgebert.errors import DataError, RecipeError
from edgebert.manifest import Head
from edgebert.probability import log_odds, probabilities
from edgebert.schema import plain
from edgebert.tasks.columns import missing, pair
from edgebert.tasks.labels import (
    best_labels,
    check,
    classes_loss,
    correlations,
    imitated_classes,
    label_scores,
    number_of,
    numbers_loss,
    require_different,
    same_kind,
)  # fmt: skip
from edgebert.tasks.predictor import Predictor, as_pairs, as_string, as_texts
from edgebert.tasks.reading import Row, TaskReader
from edgebert.tasks.results import Classification, Ranked
from edgebert.tasks.task import Example, Lesson, Task, label_of, place_of, require_several, sorted_labels

if TYPE_CHECKING:
    from torch import Tensor


_WEIGHT, _MOST_WEIGHT = 0.05, 1e6  # of log-odds beside cosines
_YES_IS_LAST = (("0", "1"), ("LABEL_0", "LABEL_1"))


class PairScorer(Predictor):
    """Pairs of texts to labels or numbers: inference, paraphrase, relevance."""

    what = "pair scorer"
    reads = ("text", "text_pair")

    def classify_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Classification]:
        """The most probable label of each pair.

        Raises: DataError for what is no pair of strings; RecipeError where the model gives numbers; EngineError.
        """
        if not self.labels:
            raise RecipeError("this model gives numbers, not labels: use score_pairs")
        return [best_labels(logits[0], self.head, top_k=1)[0] for logits in self.logits(as_pairs(pairs))]

    def score_pairs(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> list[float]:
        """The number of each pair; where the model has labels, the probability of `label`.

        label: by default the only one, or the second where there are "0" and "1", as transformers calls them, too.

        Raises: DataError for what is no pair of strings; RecipeError for a label that it has not, or for none where it
        has to be said; EngineError.
        """
        return self._numbers(pairs, label, lambda logits, place: float(probabilities(logits, self.head)[place]))

    def log_odds(self, pairs: Sequence[tuple[str, str]], *, label: str | None = None) -> list[float]:
        """`score_pairs` without bounds, as sums need it: log(p / (1 - p)) of a probability p, a number as it is.

        Raises: as `score_pairs`.
        """
        return self._numbers(pairs, label, lambda logits, place: log_odds(logits, place, self.head))

    def _numbers(
        self, pairs: Sequence[tuple[str, str]], label: str | None, of: Callable[[NDArray[np.float32], int], float]
    ) -> list[float]:
        """What `of` makes of each pair's logits and the label's place; where the model gives numbers, those."""
        place = self._place_of(label)
        found = [logits[0] for logits in self.logits(as_pairs(pairs))]
        return [of(logits, place) if self.labels else float(logits[0]) for logits in found]

    def _place_of(self, label: str | None) -> int:
        """Raises: RecipeError; see `score_pairs`."""
        if label is not None and label not in self.labels:
            raise RecipeError(f"the model has no label {label!r}; it has {', '.join(self.labels) or 'none'}")
        if label is None and len(self.labels) > 1 and self.labels not in _YES_IS_LAST:
            raise RecipeError(f"the model has the labels {', '.join(self.labels)}; say which one is scored: label=")
        return max(0, len(self.labels) - 1) if label is None else self.labels.index(label)

    def rank(
        self, query: str, documents: Sequence[str], *, top_k: int | None = None, label: str | None = None,
        similarities: ArrayLike | None = None, weight: float | None = None,
    ) -> list[Ranked]:  # fmt: skip
        """The documents by `score_pairs` with the query, the best first.

        label: the one that is ranked by; see `score_pairs`.
        similarities: of the documents to the query, shape (documents,), such as the cosines of the embedder that found
        them. Then the score is similarity + weight * `log_odds`: embedder and cross-encoder err in different places.
        weight: None is 0.05; best chosen by nDCG on queries whose documents are known. 0 is the order of similarities.

        Raises: DataError for what is no string, and for similarities that are not a finite number for each document;
        RecipeError for `top_k` below 1, a weight outside 0 to 1e6 or without similarities, and as `score_pairs`;
        EngineError.

        Source: Yang et al. 2019, arXiv:1903.10972, for the sum of both scores.
        """
        check(top_k, None)
        query, texts = as_string(query, "query"), as_texts(documents, name="documents")
        pairs = [(query, text) for text in texts]
        if similarities is None:
            if weight is not None:
                raise RecipeError(f"weight is {weight!r:.80}, but no similarities are given; leave it out or give them")
            scores = self.score_pairs(pairs, label=label)
        else:
            near, share = _near(similarities, len(texts)), _weight(_WEIGHT if weight is None else weight)
            scores = (near + share * np.asarray(self.log_odds(pairs, label=label))).tolist()
        order = np.argsort(-np.asarray(scores), kind="stable")[:top_k].tolist()
        return [Ranked(i, scores[i], texts[i]) for i in order]

    @staticmethod
    def item(row: Mapping[str, Any], where: str) -> Any:
        """See `Predictor.item`."""
        return pair(row, where)

    def results(
        self, items: Sequence[Any], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[dict[str, Any]]:
        """See `Predictor.results`."""
        if not self.labels:
            self._refuse(top_k=top_k, threshold=threshold)
            return [{"score": number} for number in self.score_pairs(items)]
        if top_k is None and threshold is None:
            return [plain(one) for one in self.classify_pairs(items)]
        check(top_k, threshold)
        every = [
            best_labels(logits[0], self.head, top_k=top_k, threshold=threshold)
            for logits in self.logits(as_pairs(items))
        ]
        return [{"labels": [plain(one) for one in found]} for found in every]


class Pairs(Task):
    """See `PairScorer`. A target is a label, or a number where the files have scores.

    A head with one label, as many cross-encoders have, is asked for the label's probability: a number.
    """

    name, level, metric, runtime = "pairs", "text", "accuracy", PairScorer
    columns, answered = "two texts (text, text_pair) and their label (label) or number (score)", ("label", "score")
    pipeline, call = "text-classification", 'model.score_pairs([("one text", "another")])'
    two_texts = True

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """See `Task.example`."""
        one, other = pair(row, where)
        if "label" in row:
            return Example(one, other, label_of(row["label"], where), where)
        if "score" not in row:
            raise missing(where, ["label", "score"], row)
        return Example(one, other, number_of(row, where), where)

    def head(self, examples: Sequence[Example]) -> Head:
        """See `Task.head`."""
        kinds = {isinstance(one.target, str) for one in examples}
        if len(kinds) > 1:
            raise DataError("some examples have the column 'label' and others 'score'; use one of them")
        if kinds == {False}:
            require_different(examples)
            return Head(self.name, self.name, self.level)
        labels = sorted_labels({one.target for one in examples})
        require_several(labels, examples)
        return Head(self.name, self.name, self.level, labels)

    def metric_of(self, head: Head) -> str:
        """See `Task.metric_of`."""
        return "spearman" if _gives_numbers(head) else self.metric

    def rows(self, reader: TaskReader, item: Any) -> list[Row]:
        """See `Task.rows`."""
        return reader.pairs([item])[0]

    def lessons(self, reader: TaskReader, examples: Sequence[Example], head: Head) -> list[Lesson]:
        """See `Task.lessons`."""
        if len(head.labels) == 1:
            targets: list[Any] = [np.array([share], np.float32) for share in _shares(examples)]
        else:
            same_kind(examples, head)
            targets = [
                np.int64(place_of(one.target, head, one.where)) if head.labels else np.float32(one.target)
                for one in examples
            ]
        found = []
        for one, target in zip(examples, targets, strict=True):
            [row], cut = reader.pairs([(one.text, one.pair or "")])
            found.append(Lesson(row, np.asarray(target), lost=cut))
        return found

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor, head: Head, weights: Tensor | None) -> Tensor:
        """See `Task.loss`."""
        return classes_loss(logits, targets, head, weights) if head.labels else numbers_loss(logits, targets)

    def imitation(self, student: Tensor, teacher: Tensor, mask: Tensor, head: Head, temperature: float) -> Tensor:
        """See `Task.imitation`."""
        if not head.labels:
            return numbers_loss(student, teacher[:, 0])
        return imitated_classes(student, teacher, head, temperature)

    def check(self, examples: Sequence[Example], head: Head) -> None:
        """See `Task.check`."""
        _targets(examples, head)

    def answers(self, model: Predictor, examples: Sequence[Example]) -> list[Any]:
        """See `Task.answers`: a label, or a number."""
        assert isinstance(model, PairScorer)
        pairs = [(one.text, one.pair or "") for one in examples]
        if _gives_numbers(model.head):
            return [float(score) for score in model.score_pairs(pairs)]
        return [c.label for c in model.classify_pairs(pairs)]

    def scored(self, answers: Sequence[Any], examples: Sequence[Example], head: Head) -> dict[str, float]:
        """See `Task.scored`: accuracy and macro F1 of labels, correlations of numbers."""
        targets = _targets(examples, head)
        return correlations(targets, answers) if _gives_numbers(head) else label_scores(examples, answers, head)


def _gives_numbers(head: Head) -> bool:
    return len(head.labels) < 2


def _near(similarities: ArrayLike, count: int) -> NDArray[np.float64]:
    """Raises: DataError; see `PairScorer.rank`."""
    try:
        given = np.asarray(similarities)
    except (TypeError, ValueError, OverflowError, RuntimeError) as problem:
        raise DataError(f"similarities cannot be read as numbers, one for each document: {problem}") from problem
    if given.size and given.dtype.kind not in "fiu":
        raise DataError(f"similarities are {similarities!r:.80} ({given.dtype}); real numbers are needed")
    if given.shape != (count,):
        raise DataError(f"similarities have the shape {given.shape}; {count} documents need ({count},)")
    found = given.astype(np.float64)
    if not (fine := np.isfinite(found)).all():
        place = int(np.argmin(fine))
        raise DataError(f"similarities[{place}] is {found[place]}; every one must be finite")
    return found


def _weight(weight: Any) -> float:
    """Raises: RecipeError; see `PairScorer.rank`."""
    number = isinstance(weight, Real) and not isinstance(weight, bool)
    if not number or not 0 <= weight <= _MOST_WEIGHT:
        raise RecipeError(f"weight is {weight!r:.80}; it must be a number of 0 to {_MOST_WEIGHT:.0e}")
    return float(weight)


def _targets(examples: Sequence[Example], head: Head) -> list[Any]:
    """Labels, or numbers where the head gives such. Raises: DataError for an example with the other."""
    if len(head.labels) == 1:
        return _numbers(examples)
    same_kind(examples, head)
    return [one.target for one in examples]


def _numbers(examples: Sequence[Example]) -> list[float]:
    """The numbers of examples for a head with one label: the labels 0 and 1 are such. Raises: DataError for others."""
    for one in examples:
        if not isinstance(one.target, float) and one.target not in _YES_IS_LAST[0]:
            raise DataError(
                f"{one.where} has the label {one.target!r}; the model has one label and says how probable it is: a "
                "score, or a label of 0 or 1, is needed"
            )
    return [float(one.target) for one in examples]


def _shares(examples: Sequence[Example]) -> list[float]:
    """Numbers that a probability can learn. Raises: DataError."""
    found = _numbers(examples)
    for one, number in zip(examples, found, strict=True):
        if not 0 <= number <= 1:
            raise DataError(f"{one.where} has the score {number}; it must be within 0 to 1, as it is a probability")
    return found


TASK = Pairs()
