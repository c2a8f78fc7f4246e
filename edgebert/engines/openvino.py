"""OpenVINO: on the CPU, or on another device at any or at one fixed shape."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from edgebert.bundle import Bundle
from edgebert.compiled import Compiled
from edgebert.devices import Place
from edgebert.engines.base import Hint, Ids, Vectors, engine_errors, precision_of
from edgebert.engines.graph import Signature, require_vectors, settle
from edgebert.engines.openvino_devices import device_config, require_device
from edgebert.engines.quiet import quiet_import
from edgebert.errors import EngineError
from edgebert.manifest import Artifact

_CAPABILITIES: dict[str, Hint] = {"BF16": "bf16", "FP16": "f16"}  # as OpenVINO names what a processor computes in
_BLOB = "model.blob"
_FAULTS = (RuntimeError, ValueError, TypeError)  # all that its bindings raise


@cache
def core() -> Any:
    """One for the whole process, never freed.

    Its processor plugin registers a signal stack for the thread that loads it. Of two cores that are freed in the order
    in which they were made, the second restores the stack of the first, which is gone: the next Ctrl-C is a crash.
    """
    return quiet_import("openvino").Core()


@cache
def offered_hints() -> tuple[Hint, ...]:
    """The precision hints that OpenVINO offers on this processor, "f32" first.

    Raises: EngineError when OpenVINO cannot be imported.
    """
    with engine_errors((ImportError, OSError, *_FAULTS), "OpenVINO cannot say what this processor computes in"):
        capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", *(hint for name, hint in _CAPABILITIES.items() if name in capabilities))


class OpenVinoEngine:
    """An `Engine` over one OpenVINO model. threads: of each stream; streams: calls that are computed side by side;
    hint: OpenVINO's INFERENCE_PRECISION_HINT.

    The hint is always given: on processors with AMX the default (bf16) gave wrong vectors from int8 models at some
    lengths, so any but f32 is for pairs that were proven (`edgebert.variants`).

    Only what is wanted is computed; the other outputs are taken out before compiling. Each calling thread keeps an
    inference request of its own, because making one costs as much as a short text.

    place: a device other than the CPU; width: reshape the graph to (1, width) before compiling. beside: see
    `open_engine`.
    """

    name = "openvino"

    def __init__(
        self, bundle: Bundle, artifact: Artifact, *, threads: int, hint: Hint = "f32", streams: int = 1,
        place: Place | None = None, width: int | None = None, beside: Callable[[], None] | None = None,
        outputs: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._outputs = outputs
        self.precision = precision_of(artifact, hint)
        self._bundle, self._artifact, self._width = bundle, artifact, width
        self._path = bundle.path(artifact.files[0])
        self._requests = threading.local()
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
            # Two processes that pin their threads pin them to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        kept = None
        if place is None and width is None:
            how = config | ({"outputs": outputs} if outputs else {})
            kept = Compiled(bundle, artifact, json.dumps(how, sort_keys=True), whole=_BLOB)
        with engine_errors((ImportError, OSError), "OpenVINO is installed and cannot be imported"):
            quiet_import("openvino")
        with engine_errors(_FAULTS, f"OpenVINO cannot load {self._path}"):
            if place is not None:
                self._compiled: Any = self._compile(place.name, device_config(config))
                require_device(self._compiled, place)
            else:
                self._compiled = self._kept(kept, config, beside) or self._compile("CPU", config)
            self._signature = self._settled(self._compiled)
        self.output = self._signature.output

    def _kept(self, kept: Compiled | None, config: dict[str, Any], beside: Callable[[], None] | None) -> Any:
        """The model as it was compiled here before, or is now; None where that cannot be kept, or only at one width."""
        if kept is None:
            return None

        def make(folder: Path) -> None:
            (folder / _BLOB).write_bytes(self._compile("CPU", config).export_model().getbuffer())

        def load(_: Path) -> Any:
            if beside is not None:
                beside()
            return core().import_model(kept.data, "CPU", config)

        return kept.opened(load, make, _FAULTS)

    def _compile(self, device: str, config: dict[str, Any]) -> Any:
        # Not mapped: a file that is written over would change the vectors, one that is cut short end the process.
        model = core().read_model(self._path, config={"ENABLE_MMAP": False})
        signature = self._settled(model)
        wanted = {signature.output, *signature.outputs}
        for result in model.get_results():
            if not wanted & result.output(0).get_tensor().get_names():
                model.remove_result(result)
        if self._width is not None:
            model.reshape({i.get_any_name(): [1, self._width] for i in model.inputs})
        return core().compile_model(model, device, config)

    def _settled(self, model: Any) -> Signature:
        inputs = {i.get_any_name(): i.get_element_type().get_type_name() for i in model.inputs}
        outputs = sorted(name for o in model.outputs for name in o.get_names())
        return settle(self._artifact, self._bundle.manifest, self._path, inputs, outputs, self._outputs)

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        require_vectors(self.output, self._path)
        return self._run((self.output,), input_ids, attention_mask, None)[0]

    def answer(self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None) -> tuple[Vectors, ...]:
        """See `Engine.answer`."""
        return self._signature.gathered(self._run(self._signature.outputs, input_ids, attention_mask, token_types))

    def _run(
        self, outputs: tuple[str, ...], input_ids: Ids, attention_mask: Ids, token_types: Ids | None
    ) -> tuple[Vectors, ...]:
        with engine_errors(_FAULTS, f"OpenVINO failed on a batch of shape {input_ids.shape}"):
            compiled, requests = self._compiled, self._requests  # another thread may close meanwhile
            if compiled is None:
                raise EngineError("the model is closed: load it again")
            request = getattr(requests, "own", None)
            if request is None:
                request = requests.own = compiled.create_infer_request()
            # Outputs are not shared: the next call would overwrite them.
            found = request.infer(self._signature.feed(input_ids, attention_mask, token_types), share_inputs=True)
            return tuple(found[name] for name in outputs)

    def close(self) -> None:
        """See `Engine.close`."""
        self._compiled, self._requests = None, threading.local()
