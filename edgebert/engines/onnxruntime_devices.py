"""ONNX Runtime's accelerators: the providers that are installed, built in or as plugins, and a session on one alone.

Nothing may run on the CPU in silence: a session is made with the CPU shut out, without the Python wrapper's own second
try, and says afterwards which provider it has. Shapes are fixed, so that the nodes which compute shapes, and which
providers leave to the CPU, are folded away.
"""

from __future__ import annotations

import functools
import platform
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from edgebert.devices import Kind, Place
from edgebert.engines.base import Hint, engine_errors
from edgebert.engines.quiet import quiet_import
from edgebert.errors import EngineError
from edgebert.manifest import Artifact

# What `quantize.export` calls the axes of every input.
_AXES = ("batch", "seq_len")
_ARM = ("aarch64", "arm64")


class _Provider(NamedTuple):
    """A built-in provider: what it runs on, its options, and what it computes float in."""

    kind: Kind
    options: dict[str, str]
    hint: Hint
    arm_only: bool = False  # elsewhere it simulates, which is no device


_BUILT_IN = {
    "QNNExecutionProvider": _Provider("npu", {"backend_type": "htp"}, "f16", arm_only=True),
    "CoreMLExecutionProvider": _Provider(
        "npu", {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndNeuralEngine", "RequireStaticInputShapes": "1"},
        "f16",
    ),
    "CUDAExecutionProvider": _Provider("gpu", {"use_tf32": "0"}, "f32"),
    "DmlExecutionProvider": _Provider("gpu", {}, "f32"),
}  # fmt: skip
# Plugins: the provider's exact name (theirs also list AUTO and others) -> the package with its library.
_PLUGINS = {"OpenVINOExecutionProvider": "onnxruntime_ep_openvino", "QNNExecutionProvider": "onnxruntime_qnn"}
_KINDS: dict[str, Kind] = {"NPU": "npu", "GPU": "gpu"}


def places() -> list[Place]:
    """The accelerators of the installed providers, NPUs first.

    A built-in provider is listed when it is built in: whether its device is there, opening a session tells.
    Raises: EngineError when ONNX Runtime cannot say.
    """
    found = {place.name: place for place, _ in _plugged()}
    with engine_errors((ImportError, RuntimeError), "ONNX Runtime cannot list its providers"):
        ort = quiet_import("onnxruntime")
        built_in = ort.get_available_providers()
    for name, provider in _BUILT_IN.items():
        if name in built_in and _is_real(name) and not any(n.partition(":")[0] == name for n in found):
            version = str(ort.__version__)
            found[name] = Place("onnxruntime", provider.kind, name, name, (provider.hint,), True, version)
    return sorted(found.values(), key=lambda place: (place.kind != "npu", place.name))


def fix_shape(options: Any, width: int) -> None:
    """Gives every input of the session to come Shape: (1, width)."""
    for axis, size in zip(_AXES, (1, width), strict=True):
        options.add_free_dimension_override_by_name(axis, size)


def require_shape(session: Any, artifact: Artifact, width: int) -> None:
    """Raises EngineError unless every input of the session has Shape: (1, width)."""
    if wrong := [entry.shape for entry in session.get_inputs() if list(entry.shape) != [1, width]]:
        raise EngineError(f"{artifact.files[0]} cannot be given the shape (1, {width}): an input stays {wrong[0]}")


def session_on(place: Place, path: str, options: Any) -> Any:
    """A session of the file `path` that runs on `place` and nowhere else. It may raise ONNX Runtime's exceptions.

    Raises: EngineError when the device is gone, or the session has another provider.
    """
    ort = quiet_import("onnxruntime")
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    provider = place.name.partition(":")[0]
    if ":" in place.name:
        devices = [device for known, device in _plugged() if known == place]
        if not devices:
            raise EngineError(f"{place.name} is not here any more")
        built_in = _BUILT_IN.get(provider)
        options.add_provider_for_devices(devices, built_in.options if built_in else {})
        session = ort.InferenceSession(path, options, enable_fallback=0)
    else:
        chosen = [(provider, _BUILT_IN[provider].options)]
        session = ort.InferenceSession(path, options, providers=chosen, enable_fallback=0)
    if session.get_providers()[:1] != [provider]:
        raise EngineError(f"{provider} was asked for, and ONNX Runtime took {', '.join(session.get_providers())}")
    return session


def _plugged() -> list[tuple[Place, Any]]:
    """The real accelerators of the installed plugins, with the objects by which a session is given them."""
    installed = {name for name, package in _PLUGINS.items() if find_spec(package) is not None and _is_real(name)}
    if not installed:
        return []
    with engine_errors((ImportError, RuntimeError, OSError, AttributeError), "ONNX Runtime cannot load a plugin"):
        ort = quiet_import("onnxruntime")
        for name in sorted(installed):
            _register(name)
        devices = ort.get_ep_devices()
    found: list[tuple[Place, Any]] = []
    for device in devices:
        kind = _KINDS.get(device.device.type.name)
        # A virtual device compiles for hardware that is elsewhere.
        virtual = dict(device.device.metadata).get("is_virtual") == "1"
        if device.ep_name in installed and kind is not None and not virtual:
            found.append((_place(device, kind, sum(p.kind == kind for p, _ in found)), device))
    return found


def _place(device: Any, kind: Kind, number: int) -> Place:
    told, hardware = dict(device.ep_metadata), dict(device.device.metadata)
    name = f"{device.ep_name}:{told.get('ov_device') or f'{kind.upper()}.{number}'}"
    full_name = hardware.get("Description") or f"{device.device.vendor} {kind.upper()}".strip()
    return Place("onnxruntime", kind, name, full_name, ("f16",), True, told.get("version", ""))


@functools.cache
def _register(name: str) -> None:
    """Once for the process, and never undone: sessions may hold it."""
    ort = quiet_import("onnxruntime")
    ort.register_execution_provider_library(name, import_module(_PLUGINS[name]).get_library_path())


def _is_real(name: str) -> bool:
    """Whether the provider has hardware on this kind of processor and does not simulate it."""
    provider = _BUILT_IN.get(name)
    return provider is None or not provider.arm_only or platform.machine().lower() in _ARM
