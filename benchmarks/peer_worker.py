"""Measures one encoder, or exports one; run by the Python of the environment that the encoder lives in.

    python peer_worker.py serve     a task in JSON, then "vectors" or "round" as often as they come, a line each
    python peer_worker.py export    a task in JSON

EdgeBERT and its peers are timed by these same lines; a peer's environment has no EdgeBERT, so nothing here needs it.
From text to vector every library goes its own way: its tokenizer, its sorting, its padding.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

BATCH_SIZE = 32
_WARM_UP = 16
_PACKAGES = (
    "edgebert", "sentence-transformers", "transformers", "torch", "optimum", "optimum-intel", "optimum-onnx",
    "onnxruntime", "openvino", "nncf",
)  # fmt: skip

Encode = Callable[[list[str], int], Any]  # texts and batch size to vectors


def serve() -> None:
    """Loads the task's encoder, then answers every line with one of JSON."""
    # What a library prints must not come between the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    encode = _OPENERS[task["library"]](task)
    encode(task["texts"][:1], 1)
    print(json.dumps({"versions": _versions()}), file=out, flush=True)
    warm = False
    for line in sys.stdin:
        if line.strip() == "vectors":
            answer: dict[str, Any] = _write_vectors(encode, task)
        else:
            if not warm:
                _round(encode, task["texts"], task["singles"][:_WARM_UP])
            warm, answer = True, _round(encode, task["texts"], task["singles"])
        print(json.dumps(answer), file=out, flush=True)


def _edgebert(task: dict[str, Any]) -> Encode:
    from edgebert.models import open_model

    encoder = open_model(
        task["model"], engine=task["engine"], precision=task["precision"], threads=task["threads"]
    )  # fmt: skip
    return lambda texts, size: encoder.encode(texts, batch_size=size)


def _sentence_transformers(task: dict[str, Any]) -> Encode:
    """Their encoder with their defaults, but for the number of threads and `task["ov_config"]`."""
    import torch
    from sentence_transformers import SentenceTransformer

    threads = task["threads"]
    torch.set_num_threads(threads)  # pooling is torch's in every backend
    settings: dict[str, Any] = {"file_name": task["file"]} if task["file"] else {}
    if task["engine"] == "openvino":
        settings["ov_config"] = {"INFERENCE_NUM_THREADS": threads, **task["ov_config"]}
    if task["engine"] == "onnx":
        import onnxruntime

        settings["session_options"] = onnxruntime.SessionOptions()
        settings["session_options"].intra_op_num_threads = threads
        settings["provider"] = "CPUExecutionProvider"
    model = SentenceTransformer(
        task["model"], backend=task["engine"], model_kwargs=settings, device="cpu", local_files_only=True
    )
    return lambda texts, size: model.encode(texts, batch_size=size, show_progress_bar=False)


_OPENERS = {"edgebert": _edgebert, "sentence_transformers": _sentence_transformers}


def _write_vectors(encode: Encode, task: dict[str, Any]) -> dict[str, Any]:
    """Writes the vectors of the texts in batches, and of every probe alone, so that nothing pads it."""
    alone = np.concatenate([encode([probe], 1) for probe in task["probes"]])
    np.savez(task["vectors"], texts=encode(task["texts"], BATCH_SIZE), probes=alone)
    return {}


def _round(encode: Encode, texts: list[str], singles: list[str]) -> dict[str, Any]:
    """Milliseconds of each single text alone; sentences a second of all texts in batches."""
    alone = []
    for text in singles:
        start = time.perf_counter()
        encode([text], 1)
        alone.append(1e3 * (time.perf_counter() - start))
    start = time.perf_counter()
    encode(texts, BATCH_SIZE)
    return {"alone_ms": alone, "sentences_s": len(texts) / (time.perf_counter() - start)}


def export() -> None:
    """Makes the peer that the task names, as the documentation of sentence-transformers has it."""
    from sentence_transformers import SentenceTransformer

    task = json.loads(sys.stdin.readline())
    backend = task["backend"]
    settings = {"export": True, **({"provider": "CPUExecutionProvider"} if backend == "onnx" else {})}
    model = SentenceTransformer(
        task["model"], backend=backend, model_kwargs=settings, device="cpu", local_files_only=True
    )
    model.save_pretrained(task["out"])
    if backend == "onnx":
        from sentence_transformers import export_dynamic_quantized_onnx_model

        export_dynamic_quantized_onnx_model(model, task["config"], task["out"])
        return
    from optimum.intel import OVQuantizationConfig
    from sentence_transformers import export_static_quantized_openvino_model

    # Their default sentences are SST-2 from the Hub; here they come from a file. Without a number their exporter
    # tokenizes all 67,349, padded to 384 tokens, and then calibrates with 200 of them.
    config = OVQuantizationConfig(num_samples=task["samples"])
    export_static_quantized_openvino_model(
        model, config, task["out"], dataset_name=task["calibration"], dataset_config_name="default",
        dataset_split="train", column_name="sentence",
    )  # fmt: skip


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    {"serve": serve, "export": export}[sys.argv[1]]()
