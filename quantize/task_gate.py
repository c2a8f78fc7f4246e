"""What a quantized model must keep of its task's score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgebert.embedder import Embedder
from edgebert.errors import DataError, RecipeError
from edgebert.evaluate import classification_scores, retrieval_scores, similarity_scores
from edgebert.manifest import Head
from edgebert.tasks import task_named
from edgebert.tasks.scoring import files_of, task_score

Metric = Literal["agreement", "similarity", "classification", "retrieval", "task"]
_FILES: dict[str, tuple[int | None, str]] = {
    "agreement": (0, "no --eval file: it is measured on the calibration text"),
    "similarity": (1, "one file of text pairs with scores"),
    "classification": (2, "two files of labelled texts: the one to train on, then the one to test on"),
    "retrieval": (1, "one folder in BEIR's layout"),
    "task": (None, "files of labelled examples"),
}


@dataclass(frozen=True)
class TaskGate:
    """The metric, its files, and the least share of torch fp32's score that an int8 model must reach.

    "similarity" is Spearman's correlation, "classification" the accuracy of a logistic regression on the vectors,
    "retrieval" nDCG@10, "task" the mean over the model's heads of each one's metric (of several heads the files are
    NAME=FILE), "agreement" the correlation of pairwise similarities with those of fp32, which needs no labels.
    Raises: RecipeError for a number that is not within 0 to 1 or files that do not fit the metric.
    """

    metric: Metric = "agreement"
    files: tuple[str, ...] = ()
    min_retention: float = 0.995

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

    def score(self, model: Embedder) -> float | None:
        """The model's score, None for "agreement", which compares vectors with torch's and has no score of its own.

        Raises: DataError when the files cannot be used.
        """
        if self.metric == "similarity":
            return similarity_scores(model, self.files[0])[0].value
        if self.metric == "classification":
            return classification_scores(model, self.files[0], self.files[1])[0].value
        if self.metric == "task":
            return task_score(model, self.files)
        if self.metric == "retrieval":
            return retrieval_scores(model, self.files[0])[0].value
        return None

    def check(self, heads: Sequence[Head]) -> None:
        """Raises DataError where its files cannot be used, before anything long is done.

        heads: the model's.
        """
        if self.metric == "task":
            named = files_of(heads, self.files)
            for head in heads:
                task_named(head.task).read(named[head.name])
        for path in self.files if self.metric != "task" else ():
            if not Path(path).exists():
                raise DataError(f"no such file: {path}")

    def reference_score(self, model: Embedder) -> float | None:
        """The score of torch in fp32.

        Raises: DataError when it is not above zero: there is nothing to keep.
        """
        score = self.score(model)
        if score is not None and not score > 0:
            raise DataError(f"the model's own {self.metric} on {self.data} is {score:.4f}: there is nothing to keep")
        return score
