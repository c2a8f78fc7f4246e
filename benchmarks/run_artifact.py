"""Run by the Python of another processor: one file in its bare engine, without EdgeBERT.

    python run_artifact.py ENGINE MODEL INPUTS.npz OUTPUTS.npz        ENGINE: onnxruntime or openvino

INPUTS holds arrays named BATCH/INPUT, OUTPUTS gets one array a batch, named by its number. On standard output: a JSON
list of the kinds of code that run the linear layers, empty where the engine does not say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

OUTPUT = "sentence_embedding"
Run = Callable[[dict[str, Any]], Any]


def onnxruntime(model: str) -> tuple[list[str], Run, Callable[[], set[str]]]:
    """The graph's inputs, a function that runs it, and one that says what ran: nothing."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    wanted = OUTPUT if OUTPUT in outputs else outputs[0]
    return [value.name for value in session.get_inputs()], lambda feed: session.run([wanted], feed)[0], set


def openvino(model: str) -> tuple[list[str], Run, Callable[[], set[str]]]:
    """The same; what ran as OpenVINO names it, such as "brgemm_avx512_I8 u8"."""
    import openvino as ov

    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    graph = ov.Core().read_model(model)
    for result in graph.get_results():
        names = result.output(0).get_tensor().get_names()
        if len(graph.get_results()) > 1 and OUTPUT not in names:
            graph.remove_result(result)
    compiled = ov.compile_model(graph, "CPU", config)
    request = compiled.create_infer_request()
    inputs = [value.get_any_name() for value in compiled.inputs]

    def kernels() -> set[str]:
        """Asked after a run: with dynamic shapes the code is chosen at the first."""
        facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        linear = [fact for fact in facts if fact["layerType"].astype(str) == "FullyConnected"]
        return {" ".join(fact[key].astype(str) for key in ("primitiveType", "runtimePrecision")) for fact in linear}

    return inputs, lambda feed: request.infer(feed)[0].copy(), kernels


def main(engine: str, model: str, inputs: str, outputs: str) -> None:
    names, run, kernels = {"onnxruntime": onnxruntime, "openvino": openvino}[engine](model)
    with np.load(inputs) as arrays:
        batches: dict[int, dict[str, Any]] = {}
        for key, array in ((key, arrays[key]) for key in arrays.files):
            number, name = key.split("/")
            batches.setdefault(int(number), {})[name] = array
    found = {}
    for number, batch in batches.items():
        feed = {name: batch[name] if name in batch else np.zeros_like(batch["input_ids"]) for name in names}
        found[str(number)] = run(feed)
    np.savez(outputs, **found)
    print(json.dumps(sorted(kernels())))


if __name__ == "__main__":
    main(*sys.argv[1:])
