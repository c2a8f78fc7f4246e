"""The losses against values worked out by hand, and the ridge regression against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgebert.distill.objectives import hidden_loss, ridge, rotation, similarity_loss, vector_loss


def test_the_vector_loss_is_one_minus_the_mean_cosine() -> None:
    student = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    teacher = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    assert vector_loss(student, teacher).item() == pytest.approx(((1 - 1) + (1 - 0.6) + (1 + 1)) / 3)


def test_the_similarity_loss_is_the_mean_squared_difference_of_all_pairs() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    half = 0.5**0.5
    pairs = [(0.0 - 1.0) ** 2, (half - 0.0) ** 2, (half - 0.0) ** 2]
    assert similarity_loss(student, teacher).item() == pytest.approx(sum(pairs) / 3)


def test_the_similarity_loss_does_not_care_for_scale_and_rotation() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(6, 5)
    turn = torch.linalg.qr(torch.randn(5, 5)).Q
    assert similarity_loss(3 * teacher @ turn, teacher).item() == pytest.approx(0, abs=1e-10)


def test_the_similarity_loss_of_one_text_is_nothing() -> None:
    assert similarity_loss(torch.ones(1, 4), torch.ones(1, 4)).item() == 0


def test_the_hidden_loss_is_relative_to_the_teacher_and_blind_to_padding() -> None:
    student = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [99.0, 99.0]]])
    teacher = torch.tensor([[[2.0, 2.0], [0.0, 3.0]], [[1.0, 1.0], [7.0, -7.0]]])
    mask = torch.tensor([[1, 1], [1, 0]])
    assert hidden_loss(student, teacher, mask).item() == pytest.approx((1 + 9) / (4 + 4 + 9 + 1 + 1))
    assert hidden_loss(10 * student, 10 * teacher, mask).item() == pytest.approx(10 / 19)
    assert hidden_loss(torch.zeros_like(teacher), teacher, mask).item() == pytest.approx(1)


def test_every_loss_is_zero_and_has_a_finite_gradient_where_both_agree() -> None:
    states = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    vectors = states[:, 0]
    mask = torch.ones(4, 3)
    losses = [
        vector_loss(vectors, vectors.detach()),
        similarity_loss(vectors, vectors.detach()),
        hidden_loss(states, states.detach(), mask),
    ]
    for loss in losses:
        assert loss.item() == pytest.approx(0, abs=1e-6)
        (gradient,) = torch.autograd.grad(loss, states, retain_graph=True)
        assert bool(torch.isfinite(gradient).all())


def test_ridge_solves_its_normal_equations() -> None:
    rng = np.random.default_rng(0)
    features, wanted = rng.normal(size=(50, 6)), rng.normal(size=(50, 3))
    weight = ridge(torch.from_numpy(features), torch.from_numpy(wanted), strength=0.1)
    moment = features.T @ features
    penalty = 0.1 * np.trace(moment) / 6
    expected = np.linalg.solve(moment + penalty * np.eye(6), features.T @ wanted).T
    assert weight.shape == (3, 6)
    assert weight.dtype == torch.float32
    assert np.abs(weight.numpy() - expected).max() < 1e-6


def test_a_rotation_is_found_and_leaves_cosines_as_they_were() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(200, 8)).astype(np.float32)
    true = np.linalg.qr(rng.normal(size=(12, 8)))[0].astype(np.float32)
    scales = rng.uniform(0.1, 9, (200, 1)).astype(np.float32)  # lengths of vectors say nothing here
    found = rotation(torch.from_numpy(features * scales), torch.from_numpy(features @ true.T))
    assert found.shape == (12, 8)
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - true).max() < 1e-5
    noisy = rotation(torch.from_numpy(features), torch.from_numpy(rng.normal(size=(200, 12)))).numpy()
    assert np.abs(noisy.T @ noisy - np.eye(8)).max() < 1e-5


def test_ridge_finds_a_linear_map_and_stays_small_where_features_are_rank_deficient() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(200, 8)).astype(np.float32)
    true = rng.normal(size=(5, 8)).astype(np.float32)
    found = ridge(torch.from_numpy(features), torch.from_numpy(features @ true.T), strength=1e-6).numpy()
    assert np.abs(found - true).max() < 1e-3
    features[:, 7] = -features[:, :7].sum(axis=1)
    found = ridge(torch.from_numpy(features), torch.from_numpy(features @ true.T)).numpy()
    assert np.abs(found).max() < 10 * np.abs(true).max()
    assert np.abs(features @ found.T - features @ true.T).max() < 0.5
