"""ONNX Runtime: on the CPU, or on another device at a fixed shape."""

from __future__ import annotations

from typing import Any

from edgebert.bundle import Bundle
from edgebert.devices import Place
from edgebert.engines.base import OUTPUT, Hint, Ids, Vectors, engine_errors, feed, precision_of
from edgebert.engines.onnxruntime_devices import fix_shape, require_shape, session_on
from edgebert.errors import EngineError
from edgebert.manifest import Artifact


class OnnxRuntimeEngine:
    """An `Engine` over one ONNX file. threads: intra-op threads; hint: the CPU has f32 only, a place has its own.
    place: a device other than the CPU; width: fix the shape to (1, width).

    Only `sentence_embedding` is asked for, so nothing else is copied. The memory arena and the memory patterns are off:
    with texts of every length both would grow for as long as it runs.
    """

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, artifact: Artifact, *, threads: int, hint: Hint = "f32", place: Place | None = None,
        width: int | None = None,
    ) -> None:  # fmt: skip
        assert hint in (place.hints if place else ("f32",))  # `open_engine` refuses others
        with engine_errors((ImportError,), "ONNX Runtime is installed and cannot be imported"):
            import onnxruntime as ort
            from onnxruntime.capi import onnxruntime_pybind11_state as state
        # The library's exceptions have no common base of their own.
        self._faults = tuple(v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        self.precision = precision_of(artifact, hint)
        self._inputs = artifact.inputs
        path = bundle.path(artifact.files[0])
        if width is not None:
            fix_shape(options, width)
        with engine_errors(self._faults, f"ONNX Runtime cannot load {path}"):
            if place is None:
                self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            else:
                self._session = session_on(place, str(path), options)
        if width is not None:
            require_shape(self._session, artifact, width)

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
