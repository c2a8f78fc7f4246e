"""OpenVINO on the CPU."""

from __future__ import annotations

from edgebert.bundle import Bundle
from edgebert.engines.base import OUTPUT, Ids, Vectors, feed
from edgebert.errors import EngineError, MissingExtraError
from edgebert.manifest import Artifact


class OpenVinoEngine:
    """An `Engine` over one OpenVINO model. `threads`: inference threads, 0 lets OpenVINO choose.

    The precision hint is f32: on processors with AMX the default hint (bf16) gave wrong vectors from int8 models at
    some lengths. Only `sentence_embedding` is computed; the other outputs are taken out before compiling.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, artifact: Artifact, *, threads: int = 0) -> None:
        try:
            import openvino as ov
        except ImportError:
            raise MissingExtraError("openvino", "openvino", "the engine 'openvino'") from None
        self.precision = artifact.precision
        self._inputs = artifact.inputs
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            model = ov.Core().read_model(bundle.path(artifact.files[0]))
            for result in model.get_results():
                if OUTPUT not in result.output(0).get_tensor().get_names():
                    model.remove_result(result)
            self._compiled = ov.compile_model(model, "CPU", config)
        except RuntimeError as problem:
            raise EngineError(f"{bundle.source}: OpenVINO cannot load {artifact.files[0]}: {problem}") from None

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        try:
            request = self._compiled.create_infer_request()
            result = request.infer(feed(self._inputs, input_ids, attention_mask))
        except RuntimeError as problem:
            raise EngineError(f"OpenVINO failed on a batch of shape {input_ids.shape}: {problem}") from None
        vectors: Vectors = result[OUTPUT].copy()
        return vectors

    def close(self) -> None:
        """See `Engine.close`."""
        del self._compiled
