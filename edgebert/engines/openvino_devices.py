"""OpenVINO's devices beside the CPU: which are here, how a model is compiled for one, where it then really runs."""

from __future__ import annotations

import contextlib
from typing import Any

from edgebert.cache import cache_folder, switched_off
from edgebert.devices import Kind, Place
from edgebert.engines.base import Hint, engine_errors
from edgebert.errors import EngineError

_KINDS: dict[str, Kind] = {"NPU": "npu", "GPU": "gpu"}
# As OpenVINO names what a device computes in; float16 first, which accelerators are made for.
_CAPABILITIES: dict[str, Hint] = {"FP16": "f16", "FP32": "f32", "BF16": "bf16"}
_CPU_ONLY = ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "ENABLE_CPU_PINNING")
_VERSIONS = ("NPU_DRIVER_VERSION", "GPU_DRIVER_VERSION")
_FAULTS = (ImportError, RuntimeError, ValueError, TypeError)


def places() -> list[Place]:
    """The NPUs and GPUs that OpenVINO lists, one for each, NPUs first; only NPUs reject dynamic shapes.

    Raises: EngineError when OpenVINO cannot say.
    """
    from edgebert.engines import openvino

    with engine_errors(_FAULTS, "OpenVINO cannot list its devices"):
        core = openvino.core()
        named = [name for name in core.available_devices if name.partition(".")[0] in _KINDS]
        found = [_place(core, name) for name in named]
    return sorted(found, key=lambda place: (place.kind != "npu", place.name))


def _place(core: Any, name: str) -> Place:
    kind = _KINDS[name.partition(".")[0]]
    offered = core.get_property(name, "OPTIMIZATION_CAPABILITIES")
    hints = tuple(hint for told, hint in _CAPABILITIES.items() if told in offered)
    full_name, version = str(core.get_property(name, "FULL_DEVICE_NAME")), ""
    for key in _VERSIONS:
        with contextlib.suppress(RuntimeError):  # each kind of device has its own
            version = str(core.get_property(name, key))
    return Place("openvino", kind, name, full_name, hints or ("f32",), kind == "npu", version)


def device_config(config: dict[str, Any]) -> dict[str, Any]:
    """`config` of the CPU as another device takes it: no threads, and compiled models kept where there is a cache.

    EDGEBERT_COMPILED=0 switches it off.
    """
    kept = {key: value for key, value in config.items() if key not in _CPU_ONLY}
    if switched_off("EDGEBERT_COMPILED"):
        return kept
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
        folder = cache_folder("compiled")
        folder.mkdir(parents=True, exist_ok=True)
        kept["CACHE_DIR"] = str(folder)
    return kept


def require_device(compiled: Any, place: Place) -> None:
    """Raises EngineError unless the compiled model says that it runs on `place` and nowhere else."""
    runs_on = list(compiled.get_property("EXECUTION_DEVICES"))
    if not runs_on or any(not _same(str(name), place.name) for name in runs_on):
        raise EngineError(f"{place.name} was asked for, and OpenVINO runs the model on {', '.join(runs_on) or 'none'}")


def _same(told: str, name: str) -> bool:
    """Whether two names are one device: a lone GPU is "GPU" and "GPU.0"."""
    (kind, _, number), (wanted, _, wanted_number) = told.partition("."), name.partition(".")
    return kind == wanted and (not wanted_number or not number or number == wanted_number)
