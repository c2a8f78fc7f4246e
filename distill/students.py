"""The untrained student: copied layers of a start model, or a fresh encoder, with its tokenizer and facts."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgebert.bundle import Bundle
from edgebert.distill.encoder import SentenceEncoder, load_encoder, load_tokenizer, without_pooler
from edgebert.distill.recipe import Student
from edgebert.distill.sizes import check_sizes, sizes_of
from edgebert.errors import RecipeError
from edgebert.manifest import Manifest
from edgebert.pretrained import position_limit


@dataclass(frozen=True)
class StudentPlan:
    """An untrained student.

    tokenizer_of: the model whose tokenizer it reads. start: words for lineage and screen. copied_embeddings: whether
    the word vectors are the teacher's. vocabulary: what was trimmed of it (`edgebert.distill.trim`), None for nothing.
    """

    encoder: SentenceEncoder
    manifest: Manifest
    tokenizer_of: Bundle
    start: str
    copied_embeddings: bool
    vocabulary: dict[str, Any] | None = None


def build_student(teacher: Bundle, shape: Student, *, seed: int) -> StudentPlan:
    """The student that `shape` describes, before training, without a projection into the teacher's space.

    Raises: RecipeError when the shape does not fit its start.
    """
    if shape.start == "fresh":
        return _fresh(teacher, shape, seed)
    return _copied(teacher, teacher if shape.start == "teacher" else Bundle.from_pretrained(shape.start), shape)


def without_heads(model: Bundle) -> Bundle:
    """The model as one that gives vectors alone."""
    return dataclasses.replace(model, manifest=dataclasses.replace(model.manifest, task="embedding", heads=()))


def same_tokenizer(one: Bundle, other: Bundle) -> bool:
    """Whether both models turn every text into the same ids."""
    keys = ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
    first, second = (json.loads(load_tokenizer(bundle).backend.to_str()) for bundle in (one, other))
    return all(first.get(key) == second.get(key) for key in keys)


def name_of(model: Bundle) -> str:
    """A Hub id, or a local folder's own name: where it lies here is nobody's business."""
    return model.root.name if model.is_sealed else str(model.manifest.lineage["source"])


def spread(layers: int, count: int) -> tuple[int, ...]:
    """`count` of `layers` layers, evenly spread, the first and last among them: 6, 3 -> (0, 3, 5)."""
    if count == 1:
        return (layers - 1,)
    return tuple(int(i * (layers - 1) / (count - 1) + 0.5) for i in range(count))


def _copied(teacher: Bundle, origin: Bundle, shape: Student) -> StudentPlan:
    source = load_encoder(origin, fused_attention=True)
    prefix, stack = next((n, m) for n, m in source.backbone.named_modules() if isinstance(m, nn.ModuleList))
    take = shape.take_layers or spread(len(stack), min(shape.layers or len(stack), len(stack)))
    if wrong := [i for i in take if not 0 <= i < len(stack)]:
        raise RecipeError(f"student.take_layers names layer {wrong[0]}; {origin.source} has 0 to {len(stack) - 1}")
    if shape.layers is not None and shape.layers > len(stack):
        raise RecipeError(f"student.layers is {shape.layers}; {origin.source} has {len(stack)} layers to copy")
    config = _reshaped(source.backbone.config, shape, origin)
    config.num_hidden_layers = len(take)
    state = {k: v for k, v in source.backbone.state_dict().items() if not k.startswith(f"{prefix}.")}
    for place, layer in enumerate(take):
        state |= {f"{prefix}.{place}.{k}": v for k, v in stack[layer].state_dict().items()}
    backbone = type(source.backbone)(config, **without_pooler(origin.manifest.architecture))
    backbone.load_state_dict(state)
    limit = position_limit(config.to_dict())
    manifest = _manifest(origin.manifest, teacher, max_length=_max_length(shape, origin.manifest.max_length, limit))
    encoder = SentenceEncoder(
        backbone, pooling=manifest.pooling, dense=list(source.dense), normalize=manifest.normalize
    )
    where = "the teacher" if origin is teacher else name_of(origin)
    return StudentPlan(encoder, manifest, origin, f"layers {', '.join(map(str, take))} of {where}", origin is teacher)


def _fresh(teacher: Bundle, shape: Student, seed: int) -> StudentPlan:
    from transformers import BertConfig, BertModel

    if shape.take_layers is not None:
        raise RecipeError("student.take_layers copies layers, and a fresh student has none: drop one of the two")
    width = shape.width or 384
    heads = shape.heads or max(1, width // 64)
    _check_heads(width, heads)
    torch.manual_seed(seed)
    length = shape.max_length or teacher.manifest.max_length
    config = BertConfig(
        vocab_size=json.loads((teacher.root / "config.json").read_text(encoding="utf-8"))["vocab_size"],
        hidden_size=width,
        num_hidden_layers=shape.layers or 3,
        num_attention_heads=heads,
        intermediate_size=shape.feed_forward or 4 * width,
        hidden_act=shape.activation or "gelu",
        max_position_embeddings=length,
        pad_token_id=teacher.manifest.pad_token_id,
    )
    manifest = _manifest(teacher.manifest, teacher, max_length=length)
    manifest = dataclasses.replace(manifest, architecture="bert", dimension=width * len(manifest.pooling), dense=())
    backbone = BertModel(config, add_pooling_layer=False)
    encoder = SentenceEncoder(backbone, pooling=manifest.pooling, dense=[], normalize=manifest.normalize)
    return StudentPlan(encoder, manifest, teacher, "random weights", False)


def _manifest(start: Manifest, teacher: Bundle, *, max_length: int) -> Manifest:
    """The start's facts without its files and heads; normalisation and prompts are the teacher's, whose vectors it
    learns.
    """
    of = teacher.manifest
    return dataclasses.replace(
        start, task="embedding", heads=(), max_length=max_length, normalize=of.normalize, prompts=of.prompts,
        default_prompt_name=of.default_prompt_name, include_prompt=of.include_prompt, quality=(), lineage={},
        golden=None, files={}, artifacts={},
    )  # fmt: skip


def _max_length(shape: Student, start: int, limit: int) -> int:
    if shape.max_length is None:
        return start
    if shape.max_length > limit:
        raise RecipeError(f"student.max_length is {shape.max_length}; the copied positions allow {limit}")
    return shape.max_length


def _reshaped(source: Any, shape: Student, origin: Bundle) -> Any:
    """A copy of the transformers configuration `source` with the heads and activation of `shape`.

    Heads and activation may differ from the copied layers': the same weights, read in another way. Width and
    feed-forward may be less: that is made of the copied layers later, in `edgebert.distill.narrow`.
    """
    config, has = copy.deepcopy(source), sizes_of(source)
    check_sizes(has, shape, origin)
    if shape.heads is not None and shape.width in (None, has.width):
        _check_heads(has.width, shape.heads)
        config.num_attention_heads = shape.heads
    if shape.activation is not None:
        setattr(config, "activation" if hasattr(config, "activation") else "hidden_act", shape.activation)
    return config


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise RecipeError(f"student.heads is {heads}, which does not divide the width {width}")
