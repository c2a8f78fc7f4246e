"""OpenVINO on the CPU."""

from __future__ import annotations

import json
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.bundle import Bundle
from edgebert.compiled import compiled_folder, from_kept
from edgebert.engines.base import OUTPUT, Hint, Ids, Vectors, engine_errors, feed, precision_of
from edgebert.errors import EngineError
from edgebert.manifest import Artifact

_CAPABILITIES: dict[str, Hint] = {"BF16": "bf16", "FP16": "f16"}  # as OpenVINO names what a processor computes in
_BLOB = "model.blob"
_FAULTS = (RuntimeError, ValueError, TypeError)  # all that its bindings raise


@cache
def _core() -> Any:
    """One for the whole process, never freed.

    Its processor plugin registers a signal stack for the thread that loads it. Of two cores that are freed in the order
    in which they were made, the second restores the stack of the first, which is gone: the next Ctrl-C is a crash.
    """
    import openvino as ov

    return ov.Core()


@cache
def offered_hints() -> tuple[Hint, ...]:
    """The precision hints that OpenVINO offers on this processor, "f32" first.

    Raises: EngineError when OpenVINO cannot be imported.
    """
    with engine_errors((ImportError, *_FAULTS), "OpenVINO cannot say what this processor computes in"):
        capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", *(hint for name, hint in _CAPABILITIES.items() if name in capabilities))


class OpenVinoEngine:
    """An `Engine` over one OpenVINO model. threads: of each stream; streams: calls that are computed side by
    side; hint: OpenVINO's INFERENCE_PRECISION_HINT.

    The hint is always given: on processors with AMX the default (bf16) gave wrong vectors from int8 models at some
    lengths, so any but f32 is for pairs that were proven (`edgebert.variants`).

    Only `sentence_embedding` is computed; the other outputs are taken out before compiling. Each calling thread keeps
    an inference request of its own, because making one costs as much as a short text.
    """

    name = "openvino"

    def __init__(
        self, bundle: Bundle, artifact: Artifact, *, threads: int, hint: Hint = "f32", streams: int = 1
    ) -> None:
        with engine_errors((ImportError,), "OpenVINO is installed and cannot be imported"):
            import openvino  # noqa: F401
        self.precision = precision_of(artifact, hint)
        self._inputs = artifact.inputs
        self._width = bundle.manifest.max_length if artifact.shapes == "static" else None
        self._requests = threading.local()
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
            # Two processes that pin their threads pin them to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        path = bundle.path(artifact.files[0])

        def compile() -> Any:
            model = _core().read_model(path)
            for result in model.get_results():
                if OUTPUT not in result.output(0).get_tensor().get_names():
                    model.remove_result(result)
            return _core().compile_model(model, "CPU", config)

        def keep(folder: Path) -> None:
            (folder / _BLOB).write_bytes(compile().export_model().getbuffer())

        def load(folder: Path) -> Any:
            return _core().import_model((folder / _BLOB).read_bytes(), "CPU", config)

        kept = compiled_folder(bundle, artifact, json.dumps(config, sort_keys=True), keep, _FAULTS)
        self._compiled: Any = from_kept(kept, load, _FAULTS)
        if self._compiled is None:
            with engine_errors(_FAULTS, f"OpenVINO cannot load {path}"):
                self._compiled = compile()

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        if self._width is not None:
            return self._embed_rows(input_ids, attention_mask, self._width)
        return self._infer(input_ids, attention_mask)

    def _embed_rows(self, input_ids: Ids, attention_mask: Ids, width: int) -> Vectors:
        """Row by row at the one width that a static graph takes."""
        short = max(0, width - input_ids.shape[1])
        ids, mask = (np.pad(a, ((0, 0), (0, short))) for a in (input_ids, attention_mask))
        return np.concatenate([self._infer(ids[i : i + 1], mask[i : i + 1]) for i in range(len(ids))])

    def _infer(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        with engine_errors(_FAULTS, f"OpenVINO failed on a batch of shape {input_ids.shape}"):
            compiled, requests = self._compiled, self._requests  # another thread may close meanwhile
            if compiled is None:
                raise EngineError("the model is closed: load it again")
            request = getattr(requests, "own", None)
            if request is None:
                request = requests.own = compiled.create_infer_request()
            # Outputs are not shared: the next call would overwrite them.
            vectors: Vectors = request.infer(feed(self._inputs, input_ids, attention_mask), share_inputs=True)[0]
        return vectors

    def close(self) -> None:
        """See `Engine.close`."""
        self._compiled, self._requests = None, threading.local()
