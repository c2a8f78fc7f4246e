"""A copied student made narrower: its residual stream on fewer directions, with fewer heads and feed-forward neurons.

The stream is what the residual connections carry through all layers, so one basis of it serves all (`residual.basis`).
Heads and neurons that add least are left out. Then the narrow weights are corrected from the front to the back, so that
each computes on a sample of the text what the wide one does: by ridge regression on what is missing.

Sources: Ashkboos et al. 2024, SliceGPT, arXiv:2401.15024, for the basis; Michel et al. 2019, arXiv:1905.10650, for
leaving out heads. Their first-order measure is no use here: the student's distance to itself has no gradient.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgebert.batching import pad
from edgebert.distill.encoder import SentenceEncoder, without_pooler
from edgebert.distill.layer_parts import parts_of
from edgebert.distill.narrow_fit import fit
from edgebert.distill.prepare import Prepared
from edgebert.distill.recipe import Student
from edgebert.distill.residual import Stream, basis, norm_of_embeddings, read_stream
from edgebert.distill.sizes import Sizes, sizes_of
from edgebert.distill.students import StudentPlan
from edgebert.progress import Progress

_TOKENS = 8192  # of the sample
_LONGEST = 64
_UNIT = 64


def narrow_plan(plan: StudentPlan, shape: Student, prepared: Prepared, *, seed: int, progress: Progress) -> StudentPlan:
    """The student with the width and feed-forward width that `shape` asks for; `plan` itself where it has them.

    What is kept is chosen on a sample of the training text, by the seed.
    """
    rows = np.random.default_rng(seed).permutation(prepared.rows).tolist()
    return narrowed(plan, shape, (prepared.student_ids[row] for row in rows), progress)


def narrowed(plan: StudentPlan, shape: Student, texts: Iterable[NDArray[Any]], progress: Progress) -> StudentPlan:
    """As `narrow_plan`, chosen on the first of `texts`, the student's token ids."""
    has = sizes_of(plan.encoder.backbone.config)
    wanted = has.narrowed(shape)
    if shape.start == "fresh" or wanted == has:
        return plan
    for name, size in (("width", wanted.width), ("feed_forward", wanted.feed_forward)):
        if size % _UNIT:
            progress.say(f"student.{name} {size} is no multiple of {_UNIT}, which processors compute fastest")
    input_ids, mask = _sample(texts, plan.manifest.pad_token_id)
    encoder = narrow(plan.encoder, wanted, input_ids, mask)
    dimension = plan.manifest.dimension if encoder.dense else wanted.width * len(plan.manifest.pooling)
    told = [f"{name} {getattr(wanted, name)} of {getattr(has, name)}"
            for name in ("width", "heads", "feed_forward") if getattr(wanted, name) != getattr(has, name)]  # fmt: skip
    start = f"{plan.start}, {', '.join(told).replace('_', '-')}"
    progress.say(f"student: {start}")
    manifest = dataclasses.replace(plan.manifest, dimension=dimension)
    return dataclasses.replace(plan, encoder=encoder, manifest=manifest, start=start)


def narrow(encoder: SentenceEncoder, wanted: Sizes, input_ids: Tensor, mask: Tensor) -> SentenceEncoder:
    """A new encoder of the sizes `wanted`, nearest to `encoder` on those texts. Shape: (batch, seq_len) each."""
    has = sizes_of(encoder.backbone.config)
    encoder = encoder.eval()
    stream = read_stream(encoder, input_ids, mask, heads=has.heads)
    directions = basis(stream, wanted.width)
    heads = _kept_heads(stream, wanted.heads, shared=_head_table(encoder) is not None)
    neurons = [_largest(energy, wanted.feed_forward) for energy in stream.neurons]
    made = _empty(encoder, wanted)
    with torch.no_grad():
        _copy_outside(encoder, made, directions, heads[0])
        for ours, theirs, head, neuron in zip(parts_of(made), parts_of(encoder), heads, neurons, strict=True):
            columns = _columns(head, has.head_size)
            for one, other in zip(ours.projections, theirs.projections, strict=True):
                _copy(one, other, other.weight[columns] @ directions, other.bias[columns])
            _copy(ours.out, theirs.out, directions.T @ theirs.out.weight[:, columns], theirs.out.bias @ directions)
            _copy(ours.up, theirs.up, theirs.up.weight[neuron] @ directions, theirs.up.bias[neuron])
            _copy(ours.down, theirs.down, directions.T @ theirs.down.weight[:, neuron], theirs.down.bias @ directions)
    fit(made, encoder, stream, directions, [_columns(head, has.head_size) for head in heads], neurons)
    return made


def _sample(texts: Iterable[NDArray[Any]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """The first texts, cut to 64 tokens, of at most 8192 tokens in all. Shape: (texts, seq_len) each."""
    chosen: list[NDArray[Any]] = []
    tokens = 0
    for ids in texts:
        ids = ids if len(ids) <= _LONGEST else np.concatenate([ids[: _LONGEST - 1], ids[-1:]])
        if tokens + len(ids) > _TOKENS:
            break
        chosen.append(ids)
        tokens += len(ids)
    input_ids, mask = pad(chosen, pad_token_id)
    return torch.from_numpy(input_ids), torch.from_numpy(mask)


def _kept_heads(stream: Stream, count: int, *, shared: bool) -> list[Tensor]:
    """The heads to keep of each layer; the same ones in all where a table of them is shared by the layers."""
    if not shared:
        return [_largest(energy, count) for energy in stream.heads]
    relative = torch.stack([energy / energy.sum().clamp(min=1e-30) for energy in stream.heads])
    return [_largest(relative.sum(0), count)] * len(stream.heads)


def _largest(energy: Tensor, count: int) -> Tensor:
    """The places of the `count` largest, ascending."""
    return torch.argsort(energy, descending=True, stable=True)[:count].sort().values


def _columns(heads: Tensor, size: int) -> Tensor:
    return (heads[:, None] * size + torch.arange(size)).flatten()


def _empty(encoder: SentenceEncoder, wanted: Sizes) -> SentenceEncoder:
    """An encoder of those sizes with weights to be copied into."""
    config = copy.deepcopy(encoder.backbone.config)
    if getattr(config, "embedding_size", None) == sizes_of(config).width:
        config.embedding_size = wanted.width
    wanted.write(config)
    backbone = type(encoder.backbone)(config, **without_pooler(config.model_type))
    dense = copy.deepcopy(encoder.dense)
    return SentenceEncoder(backbone, pooling=encoder.pooling, dense=list(dense), normalize=encoder.normalize).eval()


def _copy_outside(encoder: SentenceEncoder, made: SentenceEncoder, directions: Tensor, heads: Tensor) -> None:
    """The tables and whatever else is outside the layers, and the first dense layer, which reads the stream."""
    wide, narrow_ = encoder.backbone, made.backbone
    into_stream = norm_of_embeddings(encoder) is not None
    if into_stream:
        theirs = dict(wide.embeddings.named_modules())
        for name, table in narrow_.embeddings.named_modules():
            if isinstance(table, nn.Embedding):
                table.weight.copy_(theirs[name].weight @ directions)
    else:
        narrow_.embeddings.load_state_dict(wide.embeddings.state_dict())
        project = wide.embeddings_project
        _copy(narrow_.embeddings_project, project, directions.T @ project.weight, project.bias @ directions)
    table, narrow_table = _head_table(encoder), _head_table(made)
    if table is not None and narrow_table is not None:
        narrow_table.weight.copy_(table.weight[:, heads])
    if made.dense:
        linear: Any = made.dense[0].linear
        parts: Sequence[Tensor] = linear.weight.chunk(len(made.pooling), dim=1)
        linear.weight = nn.Parameter(torch.cat([part @ directions for part in parts], 1))
        linear.in_features = linear.weight.shape[1]


def _head_table(encoder: SentenceEncoder) -> nn.Embedding | None:
    """MPNet's relative positions, one column a head, which all layers share; None in other models."""
    found: nn.Embedding | None = getattr(getattr(encoder.backbone, "encoder", None), "relative_attention_bias", None)
    return found


def _copy(one: nn.Linear, other: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    one.weight.copy_(weight)
    one.bias.copy_(bias)
