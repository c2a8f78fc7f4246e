"""What the tasks with labels and numbers share: their order, losses and scores."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.errors import DataError, MissingExtraError, RecipeError
from edgebert.manifest import Head
from edgebert.model import is_whole
from edgebert.probability import probabilities
from edgebert.tasks.columns import missing
from edgebert.tasks.predictor import Logits
from edgebert.tasks.results import Classification
from edgebert.tasks.task import IGNORED, Example, place_of

if TYPE_CHECKING:
    from torch import Tensor


_LARGEST = 1e18  # whose square is still a number of float32


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
    if top_k is not None:
        at_least_one("top_k", top_k, "None for all")
    if threshold is not None and (
        not isinstance(threshold, Real) or isinstance(threshold, bool) or not 0 <= threshold <= 1
    ):
        raise RecipeError(f"threshold is {threshold!r}; it must be a number within 0 to 1, or None")


def at_least_one(name: str, value: object, otherwise: str = "") -> None:
    """Raises RecipeError for what is no whole number from 1. otherwise: what else is allowed."""
    if not is_whole(value) or value < 1:
        raise RecipeError(f"{name} is {value!r}; it must be 1 or more{otherwise and ', or '}{otherwise}")


def number_of(row: Mapping[str, Any], where: str) -> float:
    """The number in the column score. Raises: DataError."""
    if "score" not in row:
        raise missing(where, ["score"], row)
    value, number = row["score"], math.nan
    # Python reads True as 1 and 1_5 as 15.
    if not isinstance(value, bool | np.bool_ | bytes) and not (isinstance(value, str) and "_" in value):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            number = float(value)
    if not abs(number) <= _LARGEST:
        raise DataError(f"{where}, column 'score' holds {value!r:.80}; a number within -1e18 to 1e18 is needed")
    return number


def classes_loss(logits: Tensor, targets: Tensor, head: Head, weights: Tensor | None) -> Tensor:
    """Cross entropy over the labels, the binary one of each label where several may hold.

    Shape: logits (batch, labels); targets (batch,), or (batch, labels) where several may hold; weights (labels,).
    """
    from torch.nn import functional

    if head.multi_label:
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
    return weighted_cross_entropy(logits, targets, weights)


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over all targets that are counted, each times its label's weight.

    Not the mean of torch, which divides by the weights of the batch: a rare label's would then count no more than the
    rest of its batch, and most batches have none. Shape: logits (n, labels), targets (n,), weights (labels,).
    """
    from torch.nn import functional

    if weights is None:
        return functional.cross_entropy(logits, targets, ignore_index=IGNORED)
    total = functional.cross_entropy(logits, targets, weight=weights, ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)


def numbers_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error. Shape: logits (batch, 1), targets (batch,)."""
    from torch.nn import functional

    return functional.mse_loss(logits[:, 0], targets)


def imitated_classes(student: Tensor, teacher: Tensor, head: Head, temperature: float) -> Tensor:
    """The divergence of softened distributions, of each label where several may hold.

    Shape: (batch, labels) of both. Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    from torch.nn import functional

    from edgebert.distill.objectives import logits_loss

    if head.multi_label:
        wanted = (teacher / temperature).sigmoid()
        return functional.binary_cross_entropy_with_logits(student / temperature, wanted) * temperature**2
    return logits_loss(student, teacher, temperature=temperature)


def label_scores(examples: Sequence[Example], got: Sequence[Any], head: Head) -> dict[str, float]:
    """Accuracy and macro F1 of labels; micro F1 and the share of equal sets of sets of labels.

    Raises: DataError for an example with a label that the head lacks.
    """
    metrics, wanted = _metrics(), [one.target for one in examples]
    for one in examples:
        for label in (one.target,) if isinstance(one.target, str) else one.target:
            place_of(label, head, one.where)
    if wanted and isinstance(wanted[0], str):
        equal = float(metrics.accuracy_score(wanted, got))
        macro = metrics.f1_score(wanted, got, average="macro", zero_division=0)
        return {"accuracy": equal, "f1": float(macro)}
    columns = [np.array([[label in one for label in head.labels] for one in side]) for side in (wanted, got)]
    micro = float(metrics.f1_score(*columns, average="micro", zero_division=0))
    return {"f1": micro, "accuracy": float(np.mean((columns[0] == columns[1]).all(axis=1)))}


def require_different(examples: Sequence[Example]) -> None:
    """Raises DataError where all examples have the same number: there is nothing to learn."""
    if len({one.target for one in examples}) < 2:
        raise DataError(
            f"all {len(examples)} examples have the score {examples[0].target}: nothing is to be told apart; at least "
            "two different ones are needed"
        )


def same_kind(examples: Sequence[Example], head: Head) -> None:
    """Raises DataError for an example whose label is of another kind than the head's: a label, several, or a number."""
    kinds: dict[type, str] = {str: "label", frozenset: "labels", float: "score"}
    kind = float if not head.labels else frozenset if head.multi_label else str
    for one in examples:
        if not isinstance(one.target, kind):
            found = next((name for known, name in kinds.items() if isinstance(one.target, known)), "?")
            raise DataError(f"{one.where} has the column {found!r}; the model was trained with {kinds[kind]!r}")


def correlations(wanted: Sequence[float], got: Sequence[float]) -> dict[str, float]:
    """Spearman's and Pearson's. Raises: DataError where all numbers are the same."""
    try:
        from scipy import stats
    except ImportError:
        raise MissingExtraError("scipy", "workshop", "scores of numbers") from None
    if np.ptp(wanted) == 0:
        raise DataError(f"all {len(wanted)} numbers are {wanted[0]}; a correlation needs different ones")
    if np.ptp(got) == 0:
        return {"spearman": 0.0, "pearson": 0.0}
    return {
        "spearman": float(stats.spearmanr(wanted, got).statistic),
        "pearson": float(stats.pearsonr(wanted, got).statistic),
    }


def _metrics() -> Any:
    try:
        from sklearn import metrics
    except ImportError:
        raise MissingExtraError("scikit-learn", "workshop", "scores of labels") from None
    return metrics
