"""How far a student agrees with its teacher on text that neither training nor tuning saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

_LISTED = 2_000_000  # pairs: of more they are not all listed before some are drawn


@dataclass(frozen=True)
class Agreement:
    """How two models' vectors of the same sentences agree.

    spearman: rank correlation of the two models' pairwise cosines; 0 where one of them gives all pairs the same, and so
    tells nothing apart. mean_cosine: of the vectors themselves, None where the spaces differ. sentences: how many were
    compared.
    """

    spearman: float
    mean_cosine: float | None
    sentences: int

    def __str__(self) -> str:
        cosine = "" if self.mean_cosine is None else f", mean cosine {self.mean_cosine:.4f}"
        return f"agreement with the teacher {self.spearman:.4f}{cosine} on {self.sentences} held-out sentences"


def agreement(student: NDArray[np.float32], teacher: NDArray[np.float32], *, pairs: int = 200_000) -> Agreement:
    """Shape: student (sentences, its dimension), teacher (sentences, its dimension).

    pairs: at most this many of all pairs are compared, always the same ones.
    """
    student, teacher = _unit(student), _unit(teacher)
    first, second = _pairs(len(student), pairs)
    ours = np.einsum("ij,ij->i", student[first], student[second])
    theirs = np.einsum("ij,ij->i", teacher[first], teacher[second])
    same_space = student.shape == teacher.shape
    same = np.ptp(ours) == 0 or np.ptp(theirs) == 0
    return Agreement(
        spearman=0.0 if same else float(spearmanr(ours, theirs).statistic),
        mean_cosine=float(np.einsum("ij,ij->i", student, teacher).mean()) if same_space else None,
        sentences=len(student),
    )


def _pairs(count: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows i < j of at most `most` pairs out of `count` rows, always the same ones."""
    rng, total = np.random.default_rng(0), count * (count - 1) // 2
    if total <= max(_LISTED, 10 * most):
        first, second = np.triu_indices(count, k=1)
        chosen = rng.choice(total, most, replace=False) if total > most else np.arange(total)
        return first[chosen], second[chosen]
    drawn = rng.integers(0, count, (2, 2 * most))  # few are drawn twice, and few are one row twice
    pairs = np.unique(np.sort(drawn[:, drawn[0] != drawn[1]], axis=0), axis=1)
    chosen = np.sort(rng.choice(pairs.shape[1], most, replace=False))
    return pairs[0, chosen], pairs[1, chosen]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
