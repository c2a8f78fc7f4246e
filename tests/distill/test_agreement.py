"""How far two models agree: rank correlation of pairwise cosines, and the mean cosine."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from edgebert.distill.agreement import _pairs, agreement


def test_the_agreement_is_the_rank_correlation_of_all_pairwise_cosines() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)

    def cosines(vectors: np.ndarray) -> list[float]:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return [float(unit[i] @ unit[j]) for i in range(9) for j in range(i + 1, 9)]

    found = agreement(ours, theirs)
    assert found.spearman == pytest.approx(spearmanr(cosines(ours), cosines(theirs)).statistic)
    assert found.mean_cosine is None
    assert found.sentences == 9


def test_a_model_agrees_with_itself_and_with_its_double() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    found = agreement(2 * vectors, vectors)
    assert found.spearman == pytest.approx(1)
    assert found.mean_cosine == pytest.approx(1)


def test_the_mean_cosine_is_that_of_the_vectors_themselves() -> None:
    ours = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    theirs = np.array([[1, 0], [1, 0], [-1, -1]], np.float32)
    assert agreement(ours, theirs).mean_cosine == pytest.approx((1 + 0 - 1) / 3, abs=1e-6)


def test_a_sample_of_the_pairs_is_always_the_same_and_near_to_all_of_them() -> None:
    rng = np.random.default_rng(0)
    ours = rng.normal(size=(120, 8)).astype(np.float32)
    theirs = ours + rng.normal(size=ours.shape).astype(np.float32)
    whole, some, again = (agreement(ours, theirs, pairs=n).spearman for n in (10_000, 3000, 3000))
    assert some == again != whole
    assert some == pytest.approx(whole, abs=0.05)


def test_of_very_many_pairs_some_are_drawn_without_a_list_of_all() -> None:
    first, second = _pairs(20_000, 5000)
    assert first.shape == second.shape == (5000,)
    assert (first < second).all()
    assert len({*zip(first.tolist(), second.tolist(), strict=True)}) == 5000
    again = _pairs(20_000, 5000)
    assert (first == again[0]).all()
    assert (second == again[1]).all()
    assert abs(first.mean() / 20_000 - 1 / 3) < 0.02  # of two places drawn evenly the lesser
    assert len(_pairs(7, 100)[0]) == 21


def test_a_model_that_tells_nothing_apart_agrees_with_nothing() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    same = np.ones((20, 4), np.float32)
    assert [agreement(*pair).spearman for pair in ((same, vectors), (vectors, same), (same, same))] == [0.0, 0.0, 0.0]
