"""What the student learns from the teacher, as pure functions of tensors. Each returns a mean, a scalar tensor.

A new objective is a function here, an entry in `edgebert.distill.recipe.Objectives` and a line in
`edgebert.distill.model.DistillationModel.forward`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def vector_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of the two sentence vectors.

    Shape: student (batch, dimension), teacher (batch, dimension).
    Source: Reimers and Gurevych 2020, arXiv:2004.09813, there with MSE, which on unit vectors is this times 2 over the
    dimension.
    """
    return (1 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of all pairwise cosines within the batch; the dimensions may differ.

    Shape: student (batch, student_dimension), teacher (batch, teacher_dimension).
    Source: Tung and Mori 2019, similarity-preserving distillation, arXiv:1907.09682.
    """
    pairs = len(student) * (len(student) - 1)
    difference = _cosines(student) - _cosines(teacher)
    # The diagonal is 1 - 1 and adds nothing; a batch of one text has no pairs.
    return difference.pow(2).sum() / max(pairs, 1)


def hidden_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean squared difference of the last hidden states, token by token, relative to the teacher's mean square.

    Shape: student and teacher (batch, seq_len, width), attention_mask (batch, seq_len).
    Source: Jiao et al. 2020, TinyBERT, arXiv:1909.10351, equation 8; the division makes the weight mean the same for
    teachers of every scale.
    """
    mask = attention_mask.unsqueeze(-1).to(student.dtype)
    error = ((student - teacher).pow(2) * mask).sum()
    return error / (teacher.pow(2) * mask).sum().clamp(min=1e-9)


def ridge(features: Tensor, wanted: Tensor, *, strength: float = 1e-2) -> Tensor:
    """The matrix `weight` for which `features @ weight.T` is nearest to `wanted`, with an L2 penalty on it.

    Shape: features (rows, in), wanted (rows, out) -> (out, in). strength: penalty, relative to the mean eigenvalue of
    the features' second moment. Plain least squares explodes here: LayerNorm makes pooled vectors rank-deficient.
    """
    features, wanted = features.double(), wanted.double()
    moment = features.T @ features
    penalty = strength * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)
    solution: Tensor = torch.linalg.solve(moment + penalty, features.T @ wanted)
    return solution.T.float()


def _cosines(vectors: Tensor) -> Tensor:
    unit = functional.normalize(vectors, dim=-1)
    return unit @ unit.T
