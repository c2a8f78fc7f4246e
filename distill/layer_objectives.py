"""What the student learns from single layers of the teacher, as pure functions. Each returns a mean, a scalar tensor.

Hidden states of a layer are compared by `edgebert.distill.objectives.hidden_loss`, as the last ones are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def attention_loss(
    student_query: Tensor, student_key: Tensor, teacher_query: Tensor, teacher_key: Tensor, attention_mask: Tensor, *,
    heads: int,
) -> Tensor:  # fmt: skip
    """Mean squared difference of the attention scores before the softmax, over heads and pairs of tokens.

    Shape: queries and keys (batch, seq_len, width of that model), attention_mask (batch, seq_len). heads: of both.
    Source: Jiao et al. 2020, TinyBERT, arXiv:1909.10351, equation 7, which takes the scores before the softmax, too.
    """
    ours, theirs = scores(student_query, student_key, heads), scores(teacher_query, teacher_key, heads)
    pairs = (attention_mask[:, None, :, None] * attention_mask[:, None, None, :]).to(ours.dtype)
    return ((ours - theirs).pow(2) * pairs).sum() / (heads * pairs.sum().clamp(min=1))


def relation_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor, *, heads: int) -> Tensor:
    """Kullback-Leibler divergence of a layer's self-attention relations, the mean over relation heads and tokens.

    The relation of one kind of vectors, queries to queries say, is the softmax of their scaled products within each
    relation head; the number of relation heads is free, so the models' own heads and widths may differ.
    Shape: student and teacher (batch, seq_len, width of that model), attention_mask (batch, seq_len).
    Source: Wang et al. 2021, MiniLMv2, arXiv:2012.15828, equations 5 and 6.
    """
    hidden = (attention_mask == 0)[:, None, None, :]
    logs = []
    for vectors in (student, teacher):
        # A finite stand-in for minus infinity: the difference of two infinities would be no number.
        relations = scores(vectors, vectors, heads).masked_fill(hidden, torch.finfo(vectors.dtype).min / 2)
        logs.append(functional.log_softmax(relations, dim=-1))
    ours, theirs = logs
    rows = (theirs.exp() * (theirs - ours)).masked_fill(hidden, 0.0).sum(dim=-1)
    mask = attention_mask[:, None, :].to(rows.dtype)
    return (rows * mask).sum() / (heads * mask.sum().clamp(min=1))


def scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """The products of queries and keys within each head, divided by the root of the head's width.

    Shape: (batch, seq_len, width) each -> (batch, heads, seq_len, seq_len).
    """
    batch, length, width = query.shape
    ours, others = (vectors.reshape(batch, length, heads, -1).transpose(1, 2) for vectors in (query, key))
    return ours @ others.transpose(2, 3) / math.sqrt(width // heads)
