"""Further losses against loops in numpy and hand-made cases; gradients flow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgebert.distill.layer_objectives import attention_loss, relation_loss
from edgebert.distill.objectives import (
    aligned_loss,
    contrastive_loss,
    logits_loss,
    mse_loss,
    shortened,
    token_cosine_loss,
)

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Seeded normal numbers in double precision."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over one row."""
    powers = np.exp(values - values.max())
    made: NDArray[np.float64] = powers / powers.sum()
    return made


def head_scores(query: Tensor, key: Tensor, text: int, head: int, size: int, length: int) -> NDArray[np.float64]:
    """Scaled products of one head of one text, without padding."""
    part = slice(head * size, (head + 1) * size)
    q, k = query[text, :length, part].numpy(), key[text, :length, part].numpy()
    return np.array([[float(np.dot(a, b)) / math.sqrt(size) for b in k] for a in q])


def test_mse_and_aligned_differ_by_the_dimension() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, -1.0]])
    assert mse_loss(student, teacher).item() == pytest.approx((1 + 9) / 4)
    assert aligned_loss(student, teacher).item() == pytest.approx((1 + 9) / 2)


def test_the_token_cosine_is_the_mean_over_tokens_without_padding() -> None:
    student, teacher = normal(2, 4, 6), normal(2, 4, 6, seed=1)
    found = []
    for text, length in ((0, 3), (1, 2)):
        for a, b in zip(student[text, :length].numpy(), teacher[text, :length].numpy(), strict=True):
            found.append(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert token_cosine_loss(student, teacher, MASK).item() == pytest.approx(np.mean(found))


def test_the_attention_loss_is_that_of_a_loop_over_heads_and_pairs() -> None:
    q, k, their_q, their_k = normal(2, 4, 6), normal(2, 4, 6, seed=1), normal(2, 4, 9, seed=2), normal(2, 4, 9, seed=3)
    errors = []
    for text, length in ((0, 3), (1, 2)):
        for head in range(3):
            ours = head_scores(q, k, text, head, 2, length)
            theirs = head_scores(their_q, their_k, text, head, 3, length)
            errors += ((ours - theirs) ** 2).ravel().tolist()
    assert attention_loss(q, k, their_q, their_k, MASK, heads=3).item() == pytest.approx(np.mean(errors))


def test_the_attention_loss_of_one_token_by_hand() -> None:
    one, two = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 1.0]]])
    # the heads' scores are 1 and 9 against 4 and 1
    assert attention_loss(one, one, two, two, torch.ones(1, 1), heads=2).item() == pytest.approx((9 + 64) / 2)


def test_the_relation_loss_is_that_of_a_loop_over_relation_heads_and_tokens() -> None:
    student, teacher = normal(2, 4, 8), normal(2, 4, 12, seed=1)
    found = []
    for text, length in ((0, 3), (1, 2)):
        for head in range(4):
            ours = head_scores(student, student, text, head, 2, length)
            theirs = head_scores(teacher, teacher, text, head, 3, length)
            for a, b in zip(ours, theirs, strict=True):
                p, q = softmax(b), softmax(a)
                found.append(float((p * np.log(p / q)).sum()))
    assert relation_loss(student, teacher, MASK, heads=4).item() == pytest.approx(np.mean(found))


def test_the_relation_loss_of_two_tokens_by_hand() -> None:
    student = torch.zeros(1, 2, 1)
    teacher = torch.tensor([[[1.0], [0.0]]])
    p = math.e / (1 + math.e)  # the first token's relation is (p, 1 - p), the second's even, as the student's are
    expected = (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))) / 2
    assert relation_loss(student, teacher, torch.ones(1, 2), heads=1).item() == pytest.approx(expected)


def test_info_nce_is_the_cross_entropy_over_the_batch_without_what_shares_a_text() -> None:
    anchor, positive, same = normal(4, 5), normal(4, 5, seed=1), torch.zeros(4, 4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    same.fill_diagonal_(True)
    cosines = [[float(a @ b / a.norm() / b.norm()) / 0.1 for b in positive] for a in anchor]
    kept = [[0, 1, 3], [0, 1, 2, 3], [1, 2, 3], [0, 1, 2, 3]]
    found = [-math.log(math.exp(row[i]) / sum(math.exp(row[j]) for j in kept[i])) for i, row in enumerate(cosines)]
    assert contrastive_loss(anchor, positive, same, temperature=0.1).item() == pytest.approx(np.mean(found))


def test_info_nce_of_two_orthogonal_pairs_by_hand() -> None:
    two = torch.eye(2)
    none = torch.zeros(2, 2, dtype=torch.bool)
    assert contrastive_loss(two, 3 * two, none, temperature=1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_logits_are_softened_scaled_back_and_masked() -> None:
    student, teacher, mask = normal(2, 3, 5), normal(2, 3, 5, seed=1), torch.tensor([[1, 1, 0], [1, 0, 0]])
    rows = {}
    for text in range(2):
        for token in range(3):
            p, q = (softmax(logits[text, token].numpy() / 2) for logits in (teacher, student))
            rows[text, token] = 4 * float((p * np.log(p / q)).sum())
    assert logits_loss(student, teacher, temperature=2.0).item() == pytest.approx(np.mean(list(rows.values())))
    masked = np.mean([rows[0, 0], rows[0, 1], rows[1, 0]])
    assert logits_loss(student, teacher, temperature=2.0, mask=mask).item() == pytest.approx(masked)
    classes = logits_loss(torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]]), temperature=1.0).item()
    assert classes == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_shortened_vectors_have_unit_length() -> None:
    assert shortened(torch.tensor([[3.0, 4.0, 9.0]]), 2).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_padding_changes_nothing_and_gradients_reach_tokens_only() -> None:
    for loss in (
        lambda x, y, mask: token_cosine_loss(x, y, mask),
        lambda x, y, mask: attention_loss(x, x, y, y, mask, heads=2),
        lambda x, y, mask: relation_loss(x, y, mask, heads=2),
    ):
        x, y = normal(2, 4, 6).float().requires_grad_(), normal(2, 4, 6, seed=1).float()
        loss(x, y, MASK).backward()
        assert x.grad is not None
        assert bool((x.grad[MASK == 0] == 0).all())
        assert bool((x.grad[MASK == 1] != 0).any(dim=-1).all())
        other = torch.where(MASK[..., None] == 0, 7.0, x)
        assert loss(other, y, MASK).item() == pytest.approx(loss(x, y, MASK).item())
        assert loss(y, y, MASK).item() == pytest.approx(0, abs=1e-6)


def test_gradients_of_vector_and_logit_losses_flow() -> None:
    none = torch.zeros(3, 3, dtype=torch.bool)
    for loss in (
        lambda x, y: mse_loss(x, y),
        lambda x, y: aligned_loss(x, y),
        lambda x, y: contrastive_loss(x, y, none, temperature=0.1),
        lambda x, y: logits_loss(x, y, temperature=2.0),
    ):
        x = normal(3, 6).requires_grad_()
        loss(x, normal(3, 6, seed=1)).backward()
        assert x.grad is not None
        assert bool((x.grad != 0).all())
