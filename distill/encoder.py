"""The model in torch: a transformers backbone with pooling, dense layers and normalisation in one module.

Teacher, student and the source of every export are this one class, so that what is trained, exported and compared is
the same computation. Pooling follows sentence-transformers; see Reimers and Gurevych 2019, arXiv:1908.10084.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgebert.batching import length_batches, pad
from edgebert.bundle import Bundle
from edgebert.distill.heads import Head, load_head
from edgebert.distill.quiet import quiet_transformers
from edgebert.embedder import Embedder
from edgebert.engines.base import Ids
from edgebert.errors import BundleError
from edgebert.manifest import PoolingMode
from edgebert.pretrained import WEIGHTS, dense_settings, read_config
from edgebert.tokenizer import Tokenizer, open_tokenizer

_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")  # BERT's name, and that of newer models
_FUSED_FROM = 240  # tokens: see `_is_plain_faster`
_INTEGERS = ("I8", "U8", "F8_E4M3", "F8_E5M2")  # as safetensors names them; float8 has lost as much


class Encoded(NamedTuple):
    """Shapes: `last_hidden_state` (batch, seq_len, width), `sentence_embedding` (batch, dimension).

    `logits`: of each head, see `edgebert.distill.heads.Head`.
    """

    last_hidden_state: Tensor
    sentence_embedding: Tensor
    logits: tuple[Tensor, ...] = ()


class SentenceEncoder(nn.Module):
    """Token ids to hidden states, sentence vectors and the logits of heads, in one pass.

    backbone: a transformers encoder without a head. pooling: modes, concatenated. dense: layers with their activation.
    """

    def __init__(
        self, backbone: Any, *, pooling: Sequence[PoolingMode], dense: Sequence[nn.Module], normalize: bool,
        heads: Sequence[Head] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone = backbone
        self.pooling = tuple(pooling)
        self.dense = nn.ModuleList(dense)
        self.normalize = normalize
        self.heads = nn.ModuleList(heads)
        # Where layers ask for the kernel in every pass, as in transformers 5, it is chosen in every pass.
        chosen = getattr(backbone, "_supports_attention_backend", False)
        self._fused = chosen and getattr(backbone.config, "_attn_implementation", None) == "sdpa"

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Encoded:
        """Shapes: inputs (batch, seq_len), int64; the mask is 1 on tokens and 0 on padding.

        token_type_ids: which of two texts a token is of; models that tell no texts apart do without.
        """
        if self._fused:
            self.backbone.config._attn_implementation = "eager" if _is_plain_faster(input_ids) else "sdpa"
        told = token_type_ids is not None and getattr(self.backbone.config, "type_vocab_size", 1) > 1
        types = {"token_type_ids": token_type_ids} if told else {}
        hidden: Tensor = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        vector = torch.cat([pool(mode, hidden, attention_mask) for mode in self.pooling], dim=-1)
        for layer in self.dense:
            vector = layer(vector)
        if self.normalize:
            vector = nn.functional.normalize(vector, p=2.0, dim=-1)
        return Encoded(hidden, vector, tuple(head(hidden, attention_mask) for head in self.heads))


def _is_plain_faster(input_ids: Tensor) -> bool:
    """Whether attention by single products is trained faster than torch's kernel: of few tokens, on a CPU, in bf16."""
    return (
        torch.is_grad_enabled()
        and input_ids.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and input_ids.shape[1] < _FUSED_FROM
    )


def pool(mode: PoolingMode, hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """One vector a text out of its tokens' hidden states.

    Shape: hidden (batch, seq_len, width), attention_mask (batch, seq_len) -> (batch, width).
    """
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(mask == 0, torch.finfo(hidden.dtype).min).amax(dim=1)
    if mode == "lasttoken":
        last = attention_mask.sum(dim=1) - 1
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
    if mode == "weightedmean":
        mask = mask * torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)[None, :, None]
    total, weight = (hidden * mask).sum(dim=1), mask.sum(dim=1).clamp(min=1e-9)
    return total / weight.sqrt() if mode == "mean_sqrt_len_tokens" else total / weight


class TorchEngine:
    """The model in torch as an `Engine`: for models that have no engine files yet, and as the reference.

    Raises: see `load_encoder`.
    """

    name, precision = "torch", "fp32"

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.encoder = load_encoder(bundle, fused_attention=True)
        self.head: int | None = None

    @classmethod
    def over(cls, encoder: SentenceEncoder, *, head: int | None = None) -> TorchEngine:
        """An engine of a model that is there already; head: the number of the only one that `answer` gives."""
        made = cls.__new__(cls)
        made.encoder, made.head = encoder, head
        return made

    def embed(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Engine.embed`."""
        with torch.inference_mode():
            encoded = self.encoder(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        vectors: NDArray[np.float32] = encoded.sentence_embedding.numpy()
        return vectors

    def answer(
        self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None
    ) -> tuple[NDArray[np.float32], ...]:
        """See `Engine.answer`: the logits of all heads, in the manifest's order."""
        types = None if token_types is None else torch.from_numpy(token_types)
        where = next(self.encoder.parameters()).device
        with torch.inference_mode():
            encoded = self.encoder(
                torch.from_numpy(input_ids).to(where), torch.from_numpy(attention_mask).to(where),
                None if types is None else types.to(where),
            )  # fmt: skip
        answers = encoded.logits if self.head is None else (encoded.logits[self.head],)
        return tuple(logits.cpu().numpy() for logits in answers) or (encoded.sentence_embedding.cpu().numpy(),)

    def close(self) -> None:
        """See `Engine.close`."""
        del self.encoder


def torch_embedder(bundle: Bundle, *, threads: int | None = None) -> Embedder:
    """The model computed by torch, with all that the runtime's `Embedder` does."""
    return Embedder(bundle, TorchEngine(bundle, threads=threads), tokenizer=load_tokenizer(bundle))


def encode_ids(
    encoder: SentenceEncoder,
    ids: Sequence[Sequence[int] | NDArray[np.int32]],
    pad_token_id: int,
    *,
    batch_size: int = 32,
) -> NDArray[np.float32]:
    """The sentence vectors of token id lists, in their order, computed in eval mode. Shape: (len(ids), dimension)."""
    device, training = next(encoder.parameters()).device, encoder.training
    encoder.eval()
    out: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(ids)
    for rows in length_batches([len(i) for i in ids], batch_size):
        input_ids, mask = pad([ids[r] for r in rows], pad_token_id)
        with torch.inference_mode():
            encoded = encoder(torch.from_numpy(input_ids).to(device), torch.from_numpy(mask).to(device))
        for row, vector in zip(rows, encoded.sentence_embedding.cpu().numpy(), strict=True):
            out[row] = vector
    encoder.train(training)
    return np.stack(out)


def load_encoder(bundle: Bundle, *, fused_attention: bool = False, attention_dropout: bool = True) -> SentenceEncoder:
    """The bundle's model in float32, in eval mode.

    fused_attention: torch's own attention kernel where the architecture has it, which is faster; the plain one is what
    every exporter follows. attention_dropout: in training, drop attention weights as the configuration says; with it
    torch has no fused kernel for a CPU. Safetensors first; pickles are read with `weights_only`; code from the model's
    repository is never run.
    Raises: BundleError when weights are missing, are quantized already, do not fit or are not finite.
    """
    from transformers import AutoModel

    manifest = bundle.manifest
    if not any((bundle.root / name).is_file() for name in WEIGHTS):
        raise BundleError(
            f"{bundle.source} has no weights for torch, as a package has none: use the bundle it was built from"
        )
    _refuse_quantized(bundle)
    try:
        with quiet_transformers():
            dropped = {} if attention_dropout else _attention_dropout(bundle)
            backbone, report = AutoModel.from_pretrained(
                bundle.root,
                dtype=torch.float32,
                attn_implementation=None if fused_attention else "eager",
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **without_pooler(manifest.architecture),
                **dict.fromkeys(dropped, 0.0),
            )
            for name, share in dropped.items():  # layers have read it: what is written says what the base says
                setattr(backbone.config, name, share)
    except _load_faults() as problem:
        raise BundleError(f"{bundle.source}: the weights cannot be loaded: {_first_line(problem)}") from None
    missing = sorted(name for name in report["missing_keys"] if "position_ids" not in name)
    if missing:
        raise BundleError(f"{bundle.source}: {len(missing)} weights are missing, the first is {missing[0]}")
    dense = [_load_dense(bundle.root / name) for name in manifest.dense]
    heads = [load_head(bundle.root, head) for head in manifest.heads]
    encoder = SentenceEncoder(
        backbone, pooling=manifest.pooling, dense=dense, normalize=manifest.normalize, heads=heads
    ).eval()
    for name, weight in encoder.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise BundleError(f"{bundle.source}: the weight {name} holds NaN or infinite values")
    return encoder


def _attention_dropout(bundle: Bundle) -> dict[str, float]:
    """What the bundle's configuration says of it, by the name that its architecture has for it."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(bundle.root, trust_remote_code=False, local_files_only=True)
    return {name: getattr(config, name) for name in _ATTENTION_DROPOUT if hasattr(config, name)}


def _refuse_quantized(bundle: Bundle) -> None:
    """Raises BundleError for weights that are integers already: what is lost in them cannot be found again."""
    from safetensors import SafetensorError, safe_open

    advice = "give the model in float that it was made from"
    if (method := read_config(bundle.root).get("quantization_config")) is not None:
        method = method.get("quant_method", method) if isinstance(method, dict) else method
        raise BundleError(f"{bundle.source} is quantized already (quantization_config: {method!r:.80}): {advice}")
    for path in sorted(bundle.root.glob("model*.safetensors")):
        with contextlib.suppress(SafetensorError, OSError), safe_open(path, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                one = stored.get_slice(name)
                if one.get_dtype() in _INTEGERS and len(one.get_shape()) == 2 and name.endswith(".weight"):
                    raise BundleError(
                        f"{bundle.source} is quantized already ({name} is {one.get_dtype()} in {path.name}): {advice}"
                    )


def load_tokenizer(bundle: Bundle, *, max_length: int | None = None) -> Tokenizer:
    """The bundle's tokenizer, checked against its model's vocabulary; max_length: by default the manifest's."""
    if not (bundle.root / "tokenizer.json").exists():
        raise BundleError(
            f"{bundle.source} has no tokenizer.json: save the tokenizer with transformers once, which writes it"
        )
    return open_tokenizer(bundle, max_length=max_length)


class Dense(nn.Module):
    """A linear layer and its activation, named as sentence-transformers names them."""

    def __init__(self, linear: nn.Linear, activation_function: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.activation_function = activation_function

    def forward(self, vector: Tensor) -> Tensor:
        """Shape: (batch, in_features) -> (batch, out_features)."""
        return cast(Tensor, self.activation_function(self.linear(vector)))


_ACTIVATIONS: dict[str, type[nn.Module]] = {
    name: getattr(nn, name) for name in ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")
}


def _load_dense(folder: Path) -> Dense:
    found = dense_settings(folder, _ACTIVATIONS)
    if found.residual:
        raise BundleError(f"{folder}: a Dense module with a residual connection (use_residual) is not supported here")
    layer = Dense(
        nn.Linear(found.in_features, found.out_features, bias=found.bias),
        _ACTIVATIONS[found.activation](),
    )
    try:
        layer.load_state_dict(read_weights(folder))
    except _load_faults() as problem:
        raise BundleError(f"{folder}: the weights cannot be loaded: {_first_line(problem)}") from None
    return layer


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of `model.safetensors`, else of `pytorch_model.bin` read with `weights_only`."""
    from safetensors.torch import load_file

    if (folder / "model.safetensors").exists():
        return load_file(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").exists():
        return cast(
            "dict[str, Tensor]", torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        )
    raise BundleError(f"{folder} has no weights: model.safetensors or pytorch_model.bin is needed")


def without_pooler(architecture: str) -> dict[str, Any]:
    """BERT's and RoBERTa's own pooler is not part of a sentence encoder; the other classes have none."""
    return {"add_pooling_layer": False} if architecture in ("bert", "roberta", "xlm-roberta", "mpnet") else {}


def _load_faults() -> tuple[type[Exception], ...]:
    """What transformers, torch and safetensors raise for weights that are damaged or do not fit."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    # KeyError and TypeError: a configuration that names what does not exist.
    known = (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError)
    return (*known, pickle.UnpicklingError, SafetensorError, StrictDataclassError)


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)
