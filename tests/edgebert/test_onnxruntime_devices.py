"""ONNX Runtime's accelerators, with pretended providers: what counts as one, and that nothing goes to the CPU."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from helpers import sentences

import edgebert
from edgebert.bundle import Bundle
from edgebert.devices import places
from edgebert.engines import onnxruntime_devices
from edgebert.engines.static_ladder import rungs
from edgebert.errors import EngineError

Session = ort.InferenceSession
_FAIL = ort.capi.onnxruntime_pybind11_state.Fail


def device(name: str, kind: str, **facts: Any) -> Any:
    """An `OrtEpDevice`."""
    hardware = {key: value for key, value in facts.items() if key in ("is_virtual", "Description")}
    told = {key: value for key, value in facts.items() if key not in hardware}
    return SimpleNamespace(
        ep_name=name, ep_metadata=told,
        device=SimpleNamespace(type=SimpleNamespace(name=kind), vendor="Acme", metadata=hardware),
    )  # fmt: skip


class FakeRuntime:
    """Providers that are not there: sessions on them run on the CPU, and fail where a shape is left open.

    `asked`: provider or plugin device, its options and the session's options that forbid the CPU, for each session.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.providers, self.devices = ["CPUExecutionProvider"], [device("CPUExecutionProvider", "CPU")]
        self.packages: set[str] = set()
        self.registered: list[tuple[str, str]] = []
        self.asked: list[tuple[Any, ...]] = []
        self.takes = ""
        self._chosen: Any = None
        monkeypatch.setattr(ort, "get_available_providers", lambda: self.providers)
        monkeypatch.setattr(ort, "get_ep_devices", lambda: self.devices)
        monkeypatch.setattr(ort, "register_execution_provider_library", lambda *a: self.registered.append(a))
        monkeypatch.setattr(onnxruntime_devices, "find_spec", lambda name: name if name in self.packages else None)
        package = SimpleNamespace(get_library_path=lambda: "plugin.so")
        monkeypatch.setattr(onnxruntime_devices, "import_module", lambda name: package)
        monkeypatch.setattr(ort, "InferenceSession", self.session)
        monkeypatch.setattr(ort.SessionOptions, "add_provider_for_devices", self.choose)
        onnxruntime_devices._register.cache_clear()

    def choose(self, devices: list[Any], options: dict[str, str]) -> None:
        self._chosen = (devices[0].ep_name, devices[0].ep_metadata.get("ov_device"), options)

    def session(self, path: str, options: Any, **more: Any) -> Any:
        given = more.get("providers")
        if given == ["CPUExecutionProvider"]:
            return Session(path, options, **more)
        name, *rest = self._chosen if given is None else given[0]
        strict = options.get_session_config_entry("session.disable_cpu_ep_fallback")
        self.asked.append((name, *rest, strict, more["enable_fallback"]))
        genuine = ort.SessionOptions()
        genuine.log_severity_level = 3
        for axis, size in options.axes:
            genuine.add_free_dimension_override_by_name(axis, size)
        session = Session(path, genuine, providers=["CPUExecutionProvider"])
        if any(isinstance(size, str) for entry in session.get_inputs() for size in entry.shape):
            raise _FAIL("this provider takes no dynamic shape")
        session.get_providers = lambda: [self.takes or name, "CPUExecutionProvider"]
        return session


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    class Options(ort.SessionOptions):  # type: ignore[misc]
        """Remembers the axes that were fixed."""

        def __init__(self) -> None:
            super().__init__()
            self.axes: list[tuple[str, int]] = []

        def add_free_dimension_override_by_name(self, axis: str, size: int) -> None:
            self.axes.append((axis, size))
            super().add_free_dimension_override_by_name(axis, size)

    monkeypatch.setattr(ort, "SessionOptions", Options)
    return FakeRuntime(monkeypatch)


def listed() -> list[tuple[str, str]]:
    return [(place.kind, place.name) for place in places("onnxruntime")]


def test_onnx_runtime_as_it_comes_has_the_cpu_alone(runtime: FakeRuntime) -> None:
    runtime.providers = ["AzureExecutionProvider", "CPUExecutionProvider"]
    assert listed() == []


def test_built_in_providers_are_npus_and_gpus(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ("DmlExecutionProvider", "CUDAExecutionProvider", "CoreMLExecutionProvider", "QNNExecutionProvider")
    runtime.providers = [*known, "CPUExecutionProvider"]
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    everything = [("npu", known[2]), ("npu", known[3]), ("gpu", known[1]), ("gpu", known[0])]
    assert listed() == everything
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")  # where QNN simulates
    assert listed() == [entry for entry in everything if entry[1] != "QNNExecutionProvider"]


def test_of_a_plugin_only_real_accelerators_under_its_exact_name_count(runtime: FakeRuntime) -> None:
    name = "OpenVINOExecutionProvider"
    runtime.devices += [
        device(name, "CPU", ov_device="CPU"), device(name, "GPU", ov_device="GPU.0", Description="Arc"),
        device(name, "GPU", ov_device="GPU.1"), device(name, "NPU", ov_device="NPU", version="1.8"),
        device(name, "NPU", ov_device="NPU", is_virtual="1"), device(f"{name}.AUTO", "NPU", ov_device="AUTO"),
        device("OtherExecutionProvider", "NPU"),
    ]  # fmt: skip
    assert listed() == []  # not installed
    runtime.packages = {"onnxruntime_ep_openvino"}
    assert listed() == [("npu", f"{name}:NPU"), ("gpu", f"{name}:GPU.0"), ("gpu", f"{name}:GPU.1")]
    assert [place.full_name for place in places("onnxruntime")] == ["Acme NPU", "Arc", "Acme GPU"]
    assert places("onnxruntime")[0].identity == f"{name}:NPU Acme NPU 1.8"
    assert runtime.registered == [(name, "plugin.so")]  # once


def test_a_plugin_that_does_not_load_is_a_warning(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("libtbb is missing")

    runtime.packages = {"onnxruntime_ep_openvino"}
    monkeypatch.setattr(ort, "register_execution_provider_library", broken)
    assert listed() == []
    assert "no accelerators of onnxruntime: ONNX Runtime cannot load a plugin: libtbb is missing" in caplog.text


@pytest.mark.parametrize("plugin", [False, True])
def test_a_provider_that_is_asked_for_runs_static_shapes_with_the_cpu_shut_out(
    plugin: bool, tiny_bundle: Path, runtime: FakeRuntime
) -> None:
    texts = ["", *sentences(8), "cat " * 90]
    if plugin:
        runtime.packages = {"onnxruntime_ep_openvino"}
        runtime.devices.append(device("OpenVINOExecutionProvider", "NPU", ov_device="NPU", Description="Boost"))
        asked: tuple[Any, ...] = ("OpenVINOExecutionProvider", "NPU", {}, "1", 0)
        kind, full_name, precision = "npu", "Boost", "fp16"
    else:
        runtime.providers.append("CUDAExecutionProvider")
        asked = ("CUDAExecutionProvider", {"use_tf32": "0"}, "1", 0)
        kind, full_name, precision = "gpu", "CUDAExecutionProvider", "fp32"
    with edgebert.load(tiny_bundle, device=kind, engine="onnxruntime", precision=precision, threads=1) as encoder:
        assert (encoder.placement.device, encoder.placement.full_name) == (kind, full_name)
        assert (encoder.precision, encoder.placement.precision) == (precision, precision)
        found = encoder.encode(texts)
    assert {str(entry) for entry in runtime.asked} == {str(asked)}
    assert len(runtime.asked) >= len(rungs(48))
    with edgebert.load(tiny_bundle, engine="onnxruntime", precision="fp32", device="cpu", threads=1) as plain:
        assert np.abs(found - plain.encode(texts)).max() < 1e-5


def test_another_provider_than_the_one_asked_for_is_an_error(tiny_bundle: Path, runtime: FakeRuntime) -> None:
    runtime.providers.append("CUDAExecutionProvider")
    runtime.takes = "CPUExecutionProvider"
    with pytest.raises(EngineError, match="CUDAExecutionProvider was asked for, and ONNX Runtime took CPUExecution"):
        edgebert.load(tiny_bundle, device="gpu", engine="onnxruntime")


def test_a_built_in_provider_without_its_device_falls_back_with_the_reason(
    tiny_bundle: Path, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    runtime.providers.append("CUDAExecutionProvider")

    def no_device(path: str, options: Any, **more: Any) -> Any:
        if more["providers"] == ["CPUExecutionProvider"]:
            return Session(path, options, **more)
        raise _FAIL("CUDA failure 100: no CUDA-capable device is detected")

    monkeypatch.setattr(ort, "InferenceSession", no_device)
    with edgebert.load(tiny_bundle, device="gpu", engine="onnxruntime", fallback=True, threads=1) as encoder:
        assert (encoder.placement.device, encoder.engine) == ("cpu", "onnxruntime")
        assert "no CUDA-capable device is detected" in encoder.placement.reason
    refused("embed", tiny_bundle, "--text", "x", "--engine", "onnxruntime", "--device", "gpu",
            says="no CUDA-capable device")  # fmt: skip


def test_a_graph_whose_shape_cannot_be_fixed_is_an_error(tiny_bundle: Path) -> None:
    artifact = Bundle.open(tiny_bundle).manifest.artifacts["onnxruntime-int8"]
    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(shape=[1, "length"])])
    with pytest.raises(EngineError, match=r"cannot be given the shape \(1, 16\): an input stays \[1, 'length'\]"):
        onnxruntime_devices.require_shape(session, artifact, 16)


@pytest.mark.parametrize("present", ["CUDAExecutionProvider", "OpenVINOExecutionProvider"])
def test_the_real_runtime_does_not_take_a_provider_that_it_lacks_for_the_cpu(present: str, tiny_bundle: Path) -> None:
    """What `session_on` relies on: with the CPU shut out, a session that would run there is an error."""
    if present in ort.get_available_providers():
        pytest.skip(f"{present} is built in here")
    path = str(tiny_bundle / Bundle.open(tiny_bundle).manifest.artifacts["onnxruntime-fp32"].files[0])
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.warns(UserWarning, match="not in available provider"), pytest.raises(_FAIL, match="fallback to CPU"):
        Session(path, options, providers=[present], enable_fallback=0)
