"""What the student learns, as pure functions of vectors, last states and logits. Each returns a mean, a scalar tensor.

Those of single layers are in `edgebert.distill.layer_objectives`. A new objective is a function here or there and a
field of `edgebert.distill.registry.Objectives`.
"""

from __future__ import annotations

import math

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


def mse_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the two sentence vectors' components.

    Shape: student (batch, dimension), teacher (batch, dimension).
    Source: Reimers and Gurevych 2020, arXiv:2004.09813, equation 1.
    """
    return (student - teacher).pow(2).mean()


def aligned_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of the student's own vector to the teacher's; on unit vectors twice `vector_loss`.

    Shape: student (batch, dimension), teacher (batch, dimension).
    Source: Vujanic and Rueckstiess 2025, LEAF, arXiv:2509.12539: the student ends in a linear layer of the teacher's
    dimension, stays in its space, and searches an index that the teacher built.
    """
    return (student - teacher).pow(2).sum(dim=-1).mean()


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


def token_cosine_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """One minus the cosine of the last hidden states, the mean over all tokens.

    Shape: student and teacher (batch, seq_len, width), attention_mask (batch, seq_len).
    Source: Sanh et al. 2019, DistilBERT, arXiv:1910.01108, there beside the masked language model's losses.
    """
    mask = attention_mask.to(student.dtype)
    error = 1 - functional.cosine_similarity(student, teacher, dim=-1)
    return (error * mask).sum() / mask.sum().clamp(min=1)


def contrastive_loss(anchor: Tensor, positive: Tensor, same: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE: the cross entropy of finding each anchor's positive among all positives of the batch, by cosine.

    Shape: anchor and positive (pairs, dimension); same (pairs, pairs), bool: where j is no negative of i, as the two
    share a text; the diagonal counts as the positive whatever it says. temperature: divides the cosines.
    Source: van den Oord et al. 2018, arXiv:1807.03748; in-batch negatives of sentences, Henderson et al. 2017,
    arXiv:1705.00652.
    """
    scores = functional.normalize(anchor, dim=-1) @ functional.normalize(positive, dim=-1).T / temperature
    own = torch.arange(len(anchor), device=anchor.device)
    left_out = same & (own[:, None] != own[None, :])
    return functional.cross_entropy(scores.masked_fill(left_out, -math.inf), own)


def logits_loss(student: Tensor, teacher: Tensor, *, temperature: float, mask: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence of the softened class distributions, times the temperature squared.

    Shape: student and teacher (..., classes); mask (...), 1 where a row counts, such as on tokens of a masked-language
    head; None counts all.
    Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    ours, theirs = (functional.log_softmax(logits / temperature, dim=-1) for logits in (student, teacher))
    rows = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1) * temperature**2
    return rows.mean() if mask is None else (rows * mask).sum() / mask.sum()


def shortened(vectors: Tensor, dimension: int) -> Tensor:
    """The first components of `vectors`, at unit length again. Shape: (batch, any) -> (batch, dimension).

    Source: Kusupati et al. 2022, Matryoshka representations, arXiv:2205.13147.
    """
    return functional.normalize(vectors[:, :dimension], dim=-1)


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


def rotation(features: Tensor, wanted: Tensor) -> Tensor:
    """The matrix `weight` with orthonormal columns for which `features @ weight.T` is nearest to `wanted` (orthogonal
    Procrustes), both scaled to unit rows. It leaves every cosine between two rows of `features` as it was.

    Shape: features (rows, in), wanted (rows, out) with in <= out -> (out, in).
    Source: Schönemann 1966, "A generalized solution of the orthogonal Procrustes problem".
    """
    features, wanted = (functional.normalize(one.double(), dim=-1) for one in (features, wanted))
    left, _, right = torch.linalg.svd(wanted.T @ features, full_matrices=False)
    weight: Tensor = left @ right
    return weight.float()


def _cosines(vectors: Tensor) -> Tensor:
    unit = functional.normalize(vectors, dim=-1)
    return unit @ unit.T
