"""A tiny seeded teacher of every architecture, and of unusual heads, for tests that go through all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import make_teacher

ARCHITECTURES = ("bert", "mpnet", "roberta", "xlm-roberta", "distilbert", "electra")
_FLAGS = {
    "cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens", "lasttoken": "lasttoken",
}  # fmt: skip
_OFFSET = ("mpnet", "roberta", "xlm-roberta")  # the padding id of these is 1, and positions begin behind it


def make_architecture(folder: Path, architecture: str, *, layers: int = 3, width: int = 32) -> Path:
    """The folder of `make_teacher` with the model and padding id of `architecture` in it."""
    import torch
    import transformers

    make_teacher(folder, layers=layers, width=width)
    if architecture == "bert":
        return folder
    tokenizer = _read(folder / "tokenizer.json")
    vocab = tokenizer["model"]["vocab"]
    pad = int(architecture in _OFFSET)
    if pad:
        vocab["[UNK]"], vocab["[PAD]"] = 0, 1
    tokenizer["model"]["vocab"] = dict(sorted(vocab.items(), key=lambda item: item[1]))
    _write(folder / "tokenizer.json", tokenizer)
    (folder / "vocab.txt").unlink()
    special = _read(folder / "special_tokens_map.json")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 62, **special}
    _write(folder / "tokenizer_config.json", settings)
    shape: dict[str, Any] = {
        "vocab_size": len(vocab),
        "max_position_embeddings": 66,
        "pad_token_id": pad,
        "initializer_range": 0.08,
    }
    if architecture == "distilbert":
        shape |= {"dim": width, "n_layers": layers, "n_heads": 4, "hidden_dim": 2 * width}
    else:
        shape |= {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4}
        shape |= {"intermediate_size": 2 * width, "type_vocab_size": 2 if architecture == "electra" else 1}
    if architecture == "electra":
        shape["embedding_size"] = width // 2
    if architecture == "mpnet":
        del shape["type_vocab_size"]
    name = {
        "mpnet": "MPNet", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "distilbert": "DistilBert",
        "electra": "Electra",
    }[architecture]  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**shape)
    pooler = {} if architecture in ("distilbert", "electra") else {"add_pooling_layer": False}
    getattr(transformers, f"{name}Model")(config, **pooler).save_pretrained(folder)
    return folder


def make_headed(folder: Path, *, pooling: Sequence[str], dense: int | None = None, width: int = 32) -> Path:
    """A tiny BERT with those pooling modes and, with `dense`, a Dense module with Tanh of that many outputs."""
    import torch
    from safetensors.torch import save_file

    make_teacher(folder, layers=3, width=width)
    flags = {f"pooling_mode_{flag}": mode in pooling for mode, flag in _FLAGS.items()}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **flags})
    if dense is not None:
        modules = _read(folder / "modules.json")
        modules[2:2] = [{"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
        modules[3] |= {"idx": 3, "name": "3", "path": "3_Normalize"}
        _write(folder / "modules.json", modules)
        inputs = width * len(pooling)
        (folder / "2_Dense").mkdir()
        activation = "torch.nn.modules.activation.Tanh"
        settings = {"in_features": inputs, "out_features": dense, "bias": True, "activation_function": activation}
        _write(folder / "2_Dense" / "config.json", settings)
        generator = torch.Generator().manual_seed(3)
        weights = {
            "linear.weight": torch.randn(dense, inputs, generator=generator) / inputs**0.5,
            "linear.bias": 0.1 * torch.randn(dense, generator=generator),
        }
        save_file(weights, folder / "2_Dense" / "model.safetensors")
    return folder


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
