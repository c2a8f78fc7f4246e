"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

from edgebert.bundle import Bundle
from edgebert.engines.base import OUTPUT, Hint, Ids, Vectors, engine_errors, feed
from edgebert.engines.quiet import quiet_import
from edgebert.errors import EngineError
from edgebert.manifest import Artifact


class OnnxRuntimeEngine:
    """An `Engine` over one ONNX file. threads: intra-op threads; hint: it has f32 only.

    Only `sentence_embedding` is asked for, so nothing else is copied. The memory arena and the memory patterns are off:
    with texts of every length both would grow for as long as it runs.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, artifact: Artifact, *, threads: int, hint: Hint = "f32") -> None:
        assert hint == "f32"  # `open_engine` refuses others
        with engine_errors((ImportError, OSError), "ONNX Runtime is installed and cannot be imported"):
            ort = quiet_import("onnxruntime")
            from onnxruntime.capi import onnxruntime_pybind11_state as state
        # The library's exceptions have no common base of their own.
        self._faults = tuple(v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        self.precision = artifact.precision
        self._inputs = artifact.inputs
        path = bundle.path(artifact.files[0])
        with engine_errors(self._faults, f"ONNX Runtime cannot load {path}"):
            self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        session = self._session  # another thread may close meanwhile
        if session is None:
            raise EngineError("the model is closed: load it again")
        with engine_errors(self._faults, f"ONNX Runtime failed on a batch of shape {input_ids.shape}"):
            vectors: Vectors = session.run([OUTPUT], feed(self._inputs, input_ids, attention_mask))[0]
        return vectors

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None
