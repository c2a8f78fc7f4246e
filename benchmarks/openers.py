"""How every library is opened and asked for vectors, each as its own documentation has it.

Nothing here needs EdgeBERT: a peer's environment has none. Everything is imported where it is used, because the import
is a part of what a cold start costs. From text to vector every library goes its own way: its tokenizer, its sorting,
its padding. `Encode` gives the vectors of a list of texts, unit length, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Encode = Callable[[list[str]], Any]
ENGINES = {"onnx": "onnxruntime"}  # sentence-transformers' name of a backend: the package that it is


def open_encoder(task: dict[str, Any]) -> tuple[Encode, str]:
    """The encoder of the task's `library` and what engine it runs in, as the package is called."""
    return _OPENERS[task["library"]](task)


def _edgebert(task: dict[str, Any]) -> tuple[Encode, str]:
    if task["engine"] == "torch":
        from edgebert.models import open_model as load
    else:
        from edgebert import load
    size = task["batch_size"]
    encoder = load(task["model"], engine=task["engine"], precision=task["precision"], threads=task["threads"])
    return lambda texts: encoder.encode(texts, batch_size=size), encoder.engine


def _sentence_transformers(task: dict[str, Any]) -> tuple[Encode, str]:
    """Their encoder with their defaults, but for the number of threads and `task["ov_config"]`."""
    import torch
    from sentence_transformers import SentenceTransformer

    threads, size = task["threads"], task["batch_size"]
    torch.set_num_threads(threads)  # pooling is torch's in every backend
    settings: dict[str, Any] = {"file_name": task["file"]} if task["file"] else {}
    if task["engine"] == "openvino":
        settings["ov_config"] = {"INFERENCE_NUM_THREADS": threads, **task["ov_config"]}
    if task["engine"] == "onnx":
        settings["session_options"] = _session_options(threads)
        settings["provider"] = "CPUExecutionProvider"
    model = SentenceTransformer(
        task["model"], backend=task["engine"], model_kwargs=settings, device="cpu", local_files_only=True
    )
    engine = ENGINES.get(task["engine"], task["engine"])
    return lambda texts: model.encode(texts, batch_size=size, show_progress_bar=False), engine


def _optimum_intel(task: dict[str, Any]) -> tuple[Encode, str]:
    """`OVModelForFeatureExtraction` in place of transformers' own class, batches as they come, pooled by hand."""
    import torch
    from optimum.intel import OVModelForFeatureExtraction
    from transformers import AutoTokenizer

    threads, size = task["threads"], task["batch_size"]
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(task["model"], local_files_only=True)
    config = {"INFERENCE_NUM_THREADS": threads, **task["ov_config"]}
    file = Path(task["file"])
    model = OVModelForFeatureExtraction.from_pretrained(
        task["model"], subfolder=str(file.parent), file_name=file.name, ov_config=config, local_files_only=True
    )

    def vectors(texts: list[str]) -> Any:
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=1).numpy()

    return _in_batches(vectors, size, by_length=task["by_length"]), "openvino"


def _fastembed(task: dict[str, Any]) -> tuple[Encode, str]:
    """A custom model from a local folder. parallel: none, so that `threads` is all it uses."""
    import numpy as np
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    size, name = task["batch_size"], "local/model"
    width = json.loads((Path(task["model"]) / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    TextEmbedding.add_custom_model(
        model=name, pooling=PoolingType.MEAN, normalization=True, sources=ModelSource(hf=name), dim=width,
        model_file=task["file"],
    )  # fmt: skip
    model = TextEmbedding(name, specific_model_path=task["model"], threads=task["threads"], local_files_only=True)
    return lambda texts: np.stack(list(model.embed(texts, batch_size=size))), "onnxruntime"


def _onnxruntime(task: dict[str, Any]) -> tuple[Encode, str]:
    """tokenizers, a session and numpy: what a user writes in thirty lines."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    folder = Path(task["model"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(task["max_length"])
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(
        str(folder / task["file"]), _session_options(task["threads"]), providers=["CPUExecutionProvider"]
    )
    asked = {given.name for given in session.get_inputs()}

    def vectors(texts: list[str]) -> Any:
        encoded = tokenizer.encode_batch(texts)
        ids = np.array([row.ids for row in encoded], dtype=np.int64)
        mask = np.array([row.attention_mask for row in encoded], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {name: inputs[name] for name in asked})[0]
        weights = mask[..., None].astype(np.float32)
        pooled = (hidden * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    return _in_batches(vectors, task["batch_size"], by_length=task["by_length"]), "onnxruntime"


def _in_batches(vectors: Encode, size: int, *, by_length: bool) -> Encode:
    """`vectors` of batch after batch. by_length: the longest texts in characters first, then back in order."""

    def encode(texts: list[str]) -> Any:
        import numpy as np

        order = sorted(range(len(texts)), key=lambda i: -len(texts[i])) if by_length else list(range(len(texts)))
        found = np.concatenate([vectors([texts[i] for i in order[a : a + size]]) for a in range(0, len(order), size)])
        out = np.empty_like(found)
        out[order] = found
        return out

    return encode


def _session_options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return options


_OPENERS = {
    "edgebert": _edgebert, "sentence_transformers": _sentence_transformers, "optimum_intel": _optimum_intel,
    "fastembed": _fastembed, "onnxruntime": _onnxruntime,
}  # fmt: skip
