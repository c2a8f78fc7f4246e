"""OpenVINO on the CPU."""

from __future__ import annotations

import threading
from typing import Any

from edgebert.bundle import Bundle
from edgebert.engines.base import OUTPUT, Ids, Vectors, feed
from edgebert.errors import EngineError, MissingExtraError
from edgebert.manifest import Artifact

# On processors with AMX the default hint (bf16) gave wrong vectors from int8 models at some lengths.
PRECISION_HINT = "f32"


class OpenVinoEngine:
    """An `Engine` over one OpenVINO model. threads: inference threads.

    Only `sentence_embedding` is computed; the other outputs are taken out before compiling. Each calling thread keeps an
    inference request of its own.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, artifact: Artifact, *, threads: int) -> None:
        try:
            import openvino as ov
        except ImportError:
            raise MissingExtraError("openvino", "openvino", "the engine 'openvino'") from None
        self.precision = artifact.precision
        self._inputs = artifact.inputs
        self._requests = threading.local()
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISION_HINT,
            "INFERENCE_NUM_THREADS": threads,
        }
        try:
            core = ov.Core()
            model = core.read_model(bundle.path(artifact.files[0]))
            for result in model.get_results():
                if OUTPUT not in result.output(0).get_tensor().get_names():
                    model.remove_result(result)
            self._compiled = core.compile_model(model, "CPU", config)
        except RuntimeError as problem:
            raise EngineError(f"{bundle.source}: OpenVINO cannot load {artifact.files[0]}: {problem}") from None

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        try:
            request = getattr(self._requests, "own", None)
            if request is None:
                request = self._requests.own = self._compiled.create_infer_request()
            result = request.infer(feed(self._inputs, input_ids, attention_mask), share_inputs=True)
        except RuntimeError as problem:
            raise EngineError(f"OpenVINO failed on a batch of shape {input_ids.shape}: {problem}") from None
        vectors: Vectors = result[OUTPUT]
        return vectors

    def close(self) -> None:
        """See `Engine.close`."""
        del self._compiled, self._requests
