"""What a quantized model must keep of its task's score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from edgebert.embedder import Embedder
from edgebert.errors import DataError, RecipeError
from edgebert.evaluate import classification_scores, retrieval_scores, similarity_scores
from edgebert.manifest import Head
from edgebert.tasks.scoring import Answered, answered, examples_of, least_agreement

Metric = Literal["agreement", "similarity", "classification", "retrieval", "task"]
_FILES: dict[str, tuple[int | None, str]] = {
    "agreement": (0, "no --eval file: it is measured on the calibration text"),
    "similarity": (1, "one file of text pairs with scores"),
    "classification": (2, "two files of labelled texts: the one to train on, then the one to test on"),
    "retrieval": (1, "one folder in BEIR's layout"),
    "task": (None, "files of labelled examples"),
}


@dataclass(frozen=True)
class Judged:
    """A model at its task.

    score: None for "agreement", which compares with torch and has none. answers: of the heads that were asked.
    """

    score: float | None = None
    answers: tuple[Answered, ...] = ()

    def agreement(self, reference: Judged) -> float | None:
        """The least over the heads, None where there are no answers; see `Task.agreement`."""
        return least_agreement(self.answers, reference.answers) if self.answers else None


@dataclass(frozen=True)
class TaskGate:
    """The metric, its files, and the least share of torch fp32's score that an int8 model must reach.

    "similarity" is Spearman's correlation, "classification" the accuracy of a logistic regression on the vectors,
    "retrieval" nDCG@10, "task" the mean over the model's heads of each one's metric (of several heads the files are
    NAME=FILE), "agreement" the correlation of pairwise similarities with those of fp32, of a model of a task the
    agreement of its answers, neither of which needs labels. columns: of the metric "task", those that the files call
    otherwise; see `edgebert.tasks.scoring.examples_of`.
    Raises: RecipeError for a number that is not within 0 to 1 or files that do not fit the metric.
    """

    metric: Metric = "agreement"
    files: tuple[str, ...] = ()
    min_retention: float = 0.995
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric not in _FILES:
            raise RecipeError(f"metric is {self.metric!r}; it must be one of {', '.join(_FILES)}")
        if not 0 <= self.min_retention <= 1:
            raise RecipeError(f"min_retention is {self.min_retention}; it must be within 0 to 1")
        count, wanted = _FILES[self.metric]
        if len(self.files) != count if count is not None else not self.files:
            raise RecipeError(f"the metric {self.metric!r} needs {wanted}; {len(self.files)} were given")

    @property
    def data(self) -> str:
        """The files, in words."""
        return ", ".join(self.files) or "texts of the calibration file that calibration did not see"

    def judge(self, model: Embedder) -> Judged:
        """The model's score and answers.

        Raises: DataError when the files cannot be used.
        """
        if self.metric == "task":
            found = answered(model, self.files, names=self.columns)
            return Judged(float(np.mean([one.score for one in found])), found)
        return Judged(self._score(model))

    def _score(self, model: Embedder) -> float | None:
        if self.metric == "similarity":
            return similarity_scores(model, self.files[0])[0].value
        if self.metric == "classification":
            return classification_scores(model, self.files[0], self.files[1])[0].value
        if self.metric == "retrieval":
            return retrieval_scores(model, self.files[0])[0].value
        return None

    def check(self, heads: Sequence[Head]) -> None:
        """Raises DataError where its files cannot be used, before anything long is done.

        heads: the model's.
        """
        if self.metric == "task":
            examples_of(heads, self.files, self.columns)
        for path in self.files if self.metric != "task" else ():
            if not Path(path).exists():
                raise DataError(f"no such file: {path}")

    def reference(self, model: Embedder) -> Judged:
        """The score of torch in fp32, and its answers, without what they are to, which goes to no worker.

        Raises: DataError when it is not above zero: there is nothing to keep.
        """
        found = self.judge(model)
        if found.score is not None and not found.score > 0:
            raise DataError(
                f"the model's own {self.metric} on {self.data} is {found.score:.4f}: there is nothing to keep"
            )
        return Judged(found.score, tuple(dataclasses.replace(one, examples=[]) for one in found.answers))
