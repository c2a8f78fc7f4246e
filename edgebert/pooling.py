"""What follows the transformer, in numpy: pooling, Dense layers, unit length, as sentence-transformers computes them.

For graphs that end at the tokens' hidden states, or whose vectors may not have unit length yet. Our own graphs hold all
of it. Source: Reimers and Gurevych 2019, arXiv:1908.10084; the formulas are those of sentence-transformers' Pooling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgebert.bundle import Bundle
from edgebert.engines.base import Engine, Ids, Vectors
from edgebert.errors import BundleError, EngineError
from edgebert.manifest import OUTPUT, PoolingMode
from edgebert.pretrained import dense_settings, hidden_size, read_config
from edgebert.tensors import read_tensors
from edgebert.vectors import normalize_rows

_erf = np.frompyfunc(math.erf, 1, 1)

ACTIVATIONS: Mapping[str, Callable[[Vectors], Vectors]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "GELU": lambda x: cast(Vectors, x * np.float32(0.5) * (1 + _erf(x / math.sqrt(2)).astype(np.float32))),
    "Sigmoid": lambda x: _sigmoid(x),
    "SiLU": lambda x: x * _sigmoid(x),
}


def _sigmoid(x: Vectors) -> Vectors:
    """By tanh, which does not overflow."""
    return cast(Vectors, np.float32(0.5) * (1 + np.tanh(x / 2)))


def pool(mode: PoolingMode, hidden: Vectors, attention_mask: Ids) -> Vectors:
    """One vector a text out of its tokens' hidden states; padding is on the right.

    Shape: hidden (batch, seq_len, width), attention_mask (batch, seq_len) -> (batch, width).
    """
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return cast(Vectors, np.where(attention_mask[:, :, None] == 0, np.float32(-1e9), hidden).max(axis=1))
    if mode == "lasttoken":
        return cast(Vectors, hidden[np.arange(len(hidden)), attention_mask.sum(axis=1) - 1])
    weights = attention_mask.astype(np.float32)
    if mode == "weightedmean":
        weights *= np.arange(1, hidden.shape[1] + 1, dtype=np.float32)
    total = (weights[:, None, :] @ hidden)[:, 0]
    weight = np.maximum(weights.sum(axis=1, keepdims=True), np.float32(1e-9))
    return cast(Vectors, total / (np.sqrt(weight) if mode == "mean_sqrt_len_tokens" else weight))


@dataclass(frozen=True)
class Dense:
    """A linear layer and its activation. Shape: weight (out, in); bias (out,); residual (out, in) or None.

    skip: whether the input is added, through `residual` where that is given.
    """

    weight: Vectors
    bias: Vectors | None
    activation: str
    skip: bool = False
    residual: Vectors | None = None

    def __call__(self, vectors: Vectors) -> Vectors:
        """Shape: (batch, in) -> (batch, out)."""
        out = vectors @ self.weight.T
        out = ACTIVATIONS[self.activation](out if self.bias is None else out + self.bias)
        if self.skip:
            out = out + (vectors if self.residual is None else vectors @ self.residual.T)
        return out


def read_dense(folder: Path) -> Dense:
    """The Dense module of sentence-transformers in `folder`.

    Raises: BundleError when it is damaged, has an unknown activation or shape, or its weights are a pickle.
    """
    settings = dense_settings(folder, ACTIVATIONS)
    shape = settings.out_features, settings.in_features
    path = folder / "model.safetensors"
    if not path.exists() and (folder / "pytorch_model.bin").exists():
        raise BundleError(
            f"{folder / 'pytorch_model.bin'} is a pickle, which only torch reads: save the model again with "
            "sentence-transformers, which writes model.safetensors, or run `edgebert quantize` on it"
        )
    skip = settings.residual
    wanted: dict[str, tuple[int, ...]] = {"linear.weight": shape}
    wanted |= {"linear.bias": shape[:1]} if settings.bias else {}
    wanted |= {"residual.weight": shape} if skip and shape[0] != shape[1] else {}
    found = read_tensors(path)
    if (shapes := {name: value.shape for name, value in found.items()}) != wanted:
        raise BundleError(f"{path} holds {shapes}; it must hold {wanted}")
    bias, residual = found.get("linear.bias"), found.get("residual.weight")
    return Dense(found["linear.weight"], bias, settings.activation, skip, residual)


class Headed:
    """An `Engine` around another one that adds what its graph leaves out.

    Token states are pooled and go through the Dense layers; unit length comes last, as the bundle's modules say. What
    the graph gives as `sentence_embedding` is only brought to unit length, which does no harm twice.
    """

    def __init__(self, engine: Engine, output: str, bundle: Bundle, path: Path) -> None:
        manifest = bundle.manifest
        self.engine, self.path, self.manifest = engine, path, manifest
        self.name, self.precision, self.output = engine.name, engine.precision, output
        self.pools = output != OUTPUT
        self._width = hidden_size(read_config(bundle.root))
        self._dense = [read_dense(bundle.path(name)) for name in manifest.dense] if self.pools else []

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        vectors = np.asarray(self.engine.embed(input_ids, attention_mask), dtype=np.float32)
        wanted: tuple[Any, ...] = (*input_ids.shape, self._width)
        if not self.pools:
            wanted = (len(input_ids), self.manifest.dimension)
        if vectors.shape != wanted:
            raise EngineError(f"{self.path} gives {self.output} of shape {vectors.shape}; it must be {wanted}")
        if self.pools:
            vectors = np.concatenate([pool(m, vectors, attention_mask) for m in self.manifest.pooling], axis=1)
        for layer in self._dense:
            vectors = layer(vectors)
        if self.manifest.normalize:
            vectors = vectors if vectors.flags.writeable else vectors.copy()
            normalize_rows(vectors)
        return vectors

    def answer(self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None) -> tuple[Vectors, ...]:
        """See `Engine.answer`: what the graph gives, as it gives it."""
        return self.engine.answer(input_ids, attention_mask, token_types)

    def close(self) -> None:
        """See `Engine.close`."""
        self.engine.close()
