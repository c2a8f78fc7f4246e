"""ONNX Runtime: on the CPU, or on another device at a fixed shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from edgebert.bundle import Bundle
from edgebert.compiled import Compiled
from edgebert.devices import Place
from edgebert.engines.base import Hint, Ids, Vectors, engine_errors, precision_of
from edgebert.engines.graph import require_vectors, settle
from edgebert.engines.quiet import quiet_import
from edgebert.errors import EngineError
from edgebert.manifest import Artifact

_MODEL, _WEIGHTS = "model.onnx", "model.onnx.data"


class OnnxRuntimeEngine:
    """An `Engine` over one ONNX file. threads: intra-op threads of a call; hint: the CPU has f32 only, a place has its
    own. place: a device other than the CPU; width: fix the shape to (1, width). beside: see `open_engine`. Any number
    of calls run side by side in one session, so `streams` asks for nothing of its own.

    Only what a call wants is asked for, so nothing else is copied. The memory arena and the memory patterns are off:
    with texts of every length both would grow for as long as it runs.
    """

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, artifact: Artifact, *, threads: int, hint: Hint = "f32", streams: int = 1,
        place: Place | None = None, width: int | None = None, beside: Callable[[], None] | None = None,
        outputs: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        assert hint in (place.hints if place else ("f32",))  # `open_engine` refuses others
        kept = Compiled(bundle, artifact, "optimized") if width is None and place is None else None
        with engine_errors((ImportError, OSError), "ONNX Runtime is installed and cannot be imported"):
            ort = quiet_import("onnxruntime")
            from onnxruntime.capi import onnxruntime_pybind11_state as state
        # The library's exceptions have no common base of their own.
        self._faults = tuple(v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception))
        self.precision = precision_of(artifact, hint)
        self._path = path = bundle.path(artifact.files[0])
        options = _options(ort, threads)
        self._session: Any = None
        if kept is not None:
            self._session = kept.opened(
                partial(_open_optimized, ort, threads, beside), partial(_optimize, ort, path), self._faults
            )
        if self._session is None:
            with engine_errors(self._faults, f"ONNX Runtime cannot load {path}"):
                self._session = _open(ort, path, options) if kept else _elsewhere(path, options, artifact, place, width)
        inputs = {i.name: i.type for i in self._session.get_inputs()}
        given = [o.name for o in self._session.get_outputs()]
        self._signature = settle(artifact, bundle.manifest, path, inputs, given, outputs)
        self.output = self._signature.output

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        require_vectors(self.output, self._path)
        vectors: Vectors = self._run((self.output,), input_ids, attention_mask, None)[0]
        return vectors

    def answer(self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None) -> tuple[Vectors, ...]:
        """See `Engine.answer`."""
        return self._signature.gathered(self._run(self._signature.outputs, input_ids, attention_mask, token_types))

    def _run(self, outputs: tuple[str, ...], input_ids: Ids, attention_mask: Ids, token_types: Ids | None) -> Any:
        session = self._session  # another thread may close meanwhile
        if session is None:
            raise EngineError("the model is closed: load it again")
        with engine_errors(self._faults, f"ONNX Runtime failed on a batch of shape {input_ids.shape}"):
            return session.run(list(outputs), self._signature.feed(input_ids, attention_mask, token_types))

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None


def _elsewhere(path: Path, options: Any, artifact: Artifact, place: Place | None, width: int | None) -> Any:
    """A session at a fixed shape or on another device."""
    from edgebert.engines.onnxruntime_devices import fix_shape, require_shape, session_on  # not above: rarely needed

    if width is not None:
        fix_shape(options, width)
    session = session_on(place, str(path), options) if place else _open(quiet_import("onnxruntime"), path, options)
    if width is not None:
        require_shape(session, artifact, width)
    return session


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options


def _optimize(ort: Any, path: Path, folder: Path) -> None:
    """Writes the optimized graph to `folder`, its weights in a file of their own, which is mapped when it is loaded."""
    options = _options(ort, 1)
    options.optimized_model_filepath = str(folder / _MODEL)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    options.add_session_config_entry("session.disable_prepacking", "1")
    _open(ort, path, options)


def _open_optimized(ort: Any, threads: int, beside: Callable[[], None] | None, folder: Path) -> Any:
    if beside is not None:
        beside()
    options = _options(ort, threads)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it was done before
    return _open(ort, folder / _MODEL, options)


def _open(ort: Any, path: Path, options: Any) -> Any:
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
