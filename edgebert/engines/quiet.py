"""Imports an engine's package so that it neither reports to its maker nor sets up the program's logging."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

_TELEMETRY = "openvino_telemetry"


def quiet_import(name: str) -> ModuleType:
    """The module `name`, "onnxruntime" or "openvino". A program that imported it before has decided by itself.

    ONNX Runtime, since 1.29 on Linux, starts a thread at import that sends facts about models and machine; its variable
    ORT_DISABLE_TELEMETRY is set unless the program has set it. OpenVINO sends an event when it is imported where
    openvino-telemetry is installed, and its log sets up the root logger; it goes without when it cannot be imported.
    Raises: ImportError, OSError.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with _hidden(_TELEMETRY) if name not in sys.modules else contextlib.nullcontext():
        return import_module(name)


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """A block in which importing `name` is an ImportError, unless it was imported before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(name, None)
