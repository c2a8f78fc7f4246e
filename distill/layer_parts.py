"""The linear layers and norms of one encoder layer, by what they do, whatever the architecture calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from edgebert.distill.encoder import SentenceEncoder
from edgebert.distill.traces import layers_of, projections_of

# bert, roberta, xlm-roberta and electra; mpnet; distilbert
_OUT = ("attention.output.dense", "attention.attn.o", "attention.out_lin")
_ATTENTION_NORM = ("attention.output.LayerNorm", "attention.LayerNorm", "sa_layer_norm")
_UP = ("intermediate.dense", "ffn.lin1")
_DOWN = ("output.dense", "ffn.lin2")
_NORM = ("output.LayerNorm", "output_layer_norm")


@dataclass(frozen=True)
class Parts:
    """Of a layer: attention reads the state by `projections` (queries, keys, values) and adds `out`, the feed-forward
    part reads it by `up` and adds `down`; a norm follows each sum.
    """

    projections: tuple[nn.Linear, ...]
    out: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    norm: nn.LayerNorm


def parts_of(encoder: SentenceEncoder) -> list[Parts]:
    """The parts of each layer."""
    found = []
    for layer in layers_of(encoder):
        named: dict[str, Any] = dict(layer.named_modules())
        one = [next(named[n] for n in names if n in named) for names in (_OUT, _ATTENTION_NORM, _UP, _DOWN, _NORM)]
        found.append(Parts(tuple(projections_of(layer)), *one))
    return found
