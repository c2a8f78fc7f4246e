"""Measures one encoder, or exports one; run by the Python of the environment that the encoder lives in.

    python peer_worker.py serve     a task in JSON, then requests, a line each; see `_ANSWERS`
    python peer_worker.py first     a task in JSON: one vector in a fresh process, and the memory that took
    python peer_worker.py bare      a task in JSON: the same of nothing but the imports it names
    python peer_worker.py export    a task in JSON

EdgeBERT and its peers are timed by these same lines. Nothing is imported above that is not the standard library's:
imports are a part of what `first` measures.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from importlib import import_module
from typing import IO, Any

from openers import Encode, open_encoder

_PACKAGES = (
    "edgebert", "sentence-transformers", "transformers", "torch", "optimum", "optimum-intel", "optimum-onnx",
    "fastembed", "tokenizers", "onnxruntime", "openvino", "nncf",
)  # fmt: skip


def serve() -> None:
    """Loads the task's encoder, then answers every line with one of JSON."""
    out = _answers()
    task = json.loads(sys.stdin.readline())
    encode, engine = open_encoder(task)
    encode([next(text for texts in task["sets"].values() for text in texts)])
    print(json.dumps({"versions": _versions(), "engine": engine}), file=out, flush=True)
    warm = set[str]()
    for line in sys.stdin:
        request = json.loads(line)
        if line not in warm and request["do"] in _TIMED:
            _ANSWERS[request["do"]](encode, task["sets"][request["set"]], request)  # a warm-up that is not timed
        warm.add(line)
        print(json.dumps(_ANSWERS[request["do"]](encode, task["sets"][request["set"]], request)), file=out, flush=True)


def _vectors(encode: Encode, texts: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """Writes the texts' vectors to the file "to"; with "alone" of every text alone, so that nothing pads it."""
    import numpy as np

    found = np.concatenate([encode([text]) for text in texts]) if request["alone"] else encode(texts)
    np.save(request["to"], found)
    return {"memory_mb": peak_memory_mb()}


def _batches(encode: Encode, texts: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """Sentences a second of the whole set."""
    start = time.perf_counter()
    encode(texts)
    return {"sentences_s": len(texts) / (time.perf_counter() - start)}


def _alone(encode: Encode, texts: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of each text of the set alone."""
    found = []
    for text in texts:
        start = time.perf_counter()
        encode([text])
        found.append(1e3 * (time.perf_counter() - start))
    return {"alone_ms": found}


_TIMED = ("batches", "alone")
_ANSWERS = {"vectors": _vectors, "batches": _batches, "alone": _alone}


def first() -> None:
    """One vector; the parent takes the time, from the start of this process to the answer."""
    out = _answers()
    task = json.loads(sys.stdin.readline())
    encode, _ = open_encoder(task)
    encode([task["text"]])
    _answer_memory(out)


def bare() -> None:
    """The imports that the task names, and no more."""
    out = _answers()
    for name in json.loads(sys.stdin.readline())["imports"]:
        import_module(name)
    _answer_memory(out)


def modules() -> None:
    """The names of what one vector needs: modules of EdgeBERT and packages that are not the standard library's."""
    out = _answers()
    before = set(sys.modules)
    task = json.loads(sys.stdin.readline())
    encode, _ = open_encoder(task)
    encode([task["text"]])
    foreign = [n for n in sys.modules if n not in before and n.partition(".")[0] not in sys.stdlib_module_names]
    found = [n for n in foreign if n.startswith("edgebert.") or ("." not in n and sys.modules[n].__spec__ is not None)]
    print(json.dumps({"modules": found}), file=out, flush=True)


def _answers() -> IO[str]:
    """Where to answer: what a library prints must not come between."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _answer_memory(out: IO[str]) -> None:
    print(json.dumps({"memory_mb": peak_memory_mb()}), file=out, flush=True)


def peak_memory_mb() -> float:
    """The largest resident memory this process ever had, in millions of bytes.

    Linux tells it of this program alone; `ru_maxrss` there begins with what the parent had when it started this one.
    """
    if os.path.exists("/proc/self/status"):  # noqa: PTH110 - pathlib would be one more import
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


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
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    {"serve": serve, "first": first, "bare": bare, "modules": modules, "export": export}[sys.argv[1]]()
