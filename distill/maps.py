"""Linear maps from the student's spaces into the teachers', started by ridge regression or as a rotation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgebert.batching import pad
from edgebert.distill.encoder import SentenceEncoder
from edgebert.distill.layer_map import LayerPlan
from edgebert.distill.objectives import ridge, rotation
from edgebert.distill.traces import TracedTeacher, traced


def ridge_linear(features: Tensor, wanted: Tensor) -> nn.Linear:
    """A linear layer without bias, started by ridge regression. Shape: features (rows, in), wanted (rows, out)."""
    return _linear(ridge(features, wanted))


def rotation_linear(features: Tensor, wanted: Tensor) -> nn.Linear:
    """A linear layer without bias, started as the nearest rotation. Shape: as `ridge_linear`."""
    return _linear(rotation(features, wanted))


def layer_maps(
    encoder: SentenceEncoder,
    teacher: TracedTeacher,
    plan: LayerPlan,
    ids: Callable[[int], tuple[NDArray[Any], NDArray[Any]]],
    rows: list[int],
) -> nn.ModuleDict:
    """The maps of hidden states, one for the embedding layer and one for all others, as TinyBERT has them.

    Nothing is mapped where the widths are the same. ids: row -> its token ids, those of the student and those of the
    teacher; rows: the texts the maps are started on.
    Source: Jiao et al. 2020, arXiv:1909.10351, equations 8 and 9.
    """
    maps = nn.ModuleDict({"embeddings": nn.Identity(), "layers": nn.Identity()})
    if encoder.backbone.config.hidden_size == teacher.encoder.backbone.config.hidden_size:
        return maps
    found: dict[str, list[tuple[Tensor, Tensor]]] = {"embeddings": [], "layers": []}
    for row in rows:
        (input_ids, mask), (their_ids, _) = ([torch.from_numpy(array) for array in pad([one], 0)] for one in ids(row))
        with torch.no_grad(), traced(encoder, hidden={a for a, _ in plan.hidden}, projections=()) as ours:
            encoder(input_ids, mask)
        theirs = teacher(their_ids, mask)
        for a, b in plan.hidden:
            found["layers" if a else "embeddings"].append((ours.hidden[a][0], theirs.hidden[b][0]))
    for name, tokens in found.items():
        if tokens:
            maps[name] = ridge_linear(*(torch.cat(side) for side in zip(*tokens, strict=True)))
    return maps


def _linear(weight: Tensor) -> nn.Linear:
    """Shape: weight (out, in)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer
