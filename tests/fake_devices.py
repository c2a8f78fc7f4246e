"""An NPU that is not there: OpenVINO's real device list and compiler, with one device more that runs on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgebert.engines import openvino

NAME = "Pretended(R) NPU"


class _Request:
    def __init__(self, genuine: Any, npu: FakeNpu) -> None:
        self._genuine, self._npu = genuine, npu

    def infer(self, inputs: Any, **more: Any) -> Any:
        found = self._genuine.infer(inputs, **more)
        width = next(iter(inputs.values())).shape[1]
        named = {name: values for output, values in found.items() for name in output.get_names()}
        wrong = self._npu.wrong(width)
        return {name: np.ascontiguousarray(values[:, ::-1]) if wrong else values for name, values in named.items()}


class _Compiled:
    def __init__(self, genuine: Any, npu: FakeNpu) -> None:
        self._genuine, self._npu = genuine, npu

    @property
    def inputs(self) -> Any:
        return self._genuine.inputs

    @property
    def outputs(self) -> Any:
        return self._genuine.outputs

    def get_property(self, name: str) -> Any:
        return self._npu.runs_on if name == "EXECUTION_DEVICES" else self._genuine.get_property(name)

    def create_infer_request(self) -> _Request:
        return _Request(self._genuine.create_infer_request(), self._npu)


class FakeNpu:
    """A core with the CPU and an NPU that rejects dynamic shapes and options of the CPU.

    there: whether it is listed. wrong: at which widths it answers wrongly. broken: the message it refuses every model
    with, "" for none. runs_on: what it says it runs on. `shapes`: of the models it compiled; `configs`: their options.
    """

    def __init__(self) -> None:
        self.there, self.broken, self.driver = True, "", "1.0"
        self.wrong: Callable[[int], bool] = lambda width: False
        self.runs_on = ["NPU"]
        self.shapes: list[tuple[int, ...]] = []
        self.configs: list[dict[str, Any]] = []
        self._core = openvino.core()

    @property
    def available_devices(self) -> list[str]:
        return [*self._core.available_devices, *(["NPU"] if self.there else [])]

    def get_property(self, device: str, name: str) -> Any:
        if device != "NPU":
            return self._core.get_property(device, name)
        known = {"FULL_DEVICE_NAME": NAME, "OPTIMIZATION_CAPABILITIES": ["FP16", "INT8"],
                 "NPU_DRIVER_VERSION": self.driver}  # fmt: skip
        if name not in known:
            raise RuntimeError(f"Unsupported property {name}")
        return known[name]

    def read_model(self, path: Any, config: dict[str, Any] | None = None) -> Any:
        return self._core.read_model(path)

    def import_model(self, blob: bytes, device: str, config: dict[str, Any]) -> Any:
        assert device == "CPU"
        return self._core.import_model(blob, device, config)

    def compile_model(self, model: Any, device: str, config: dict[str, Any]) -> Any:
        if device != "NPU":
            return self._core.compile_model(model, device, config)
        if self.broken:
            raise RuntimeError(self.broken)
        if model.is_dynamic():
            raise RuntimeError("to_shape was called on a dynamic shape")
        if bad := {"INFERENCE_NUM_THREADS", "ENABLE_CPU_PINNING"} & {*config}:
            raise RuntimeError(f"[ NOT_FOUND ] Option {sorted(bad)} is not supported for current configuration")
        self.shapes.append(tuple(model.inputs[0].shape))
        self.configs.append(config)
        same = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        return _Compiled(self._core.compile_model(model, "CPU", same), self)
