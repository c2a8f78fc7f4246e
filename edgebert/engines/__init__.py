"""The engines that run a bundle's artifacts, each imported only when it is opened."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from edgebert.bundle import Bundle
from edgebert.engines.base import Engine
from edgebert.errors import EngineError
from edgebert.threads import checked_threads

ENGINES = {
    "onnxruntime": ("edgebert.engines.onnxruntime", "OnnxRuntimeEngine"),
    "openvino": ("edgebert.engines.openvino", "OpenVinoEngine"),
}
# What pip is asked for.
INSTALL = {"onnxruntime": "onnxruntime", "openvino": "'edgebert[openvino]'"}


def open_engine(bundle: Bundle, artifact_name: str, *, threads: int | None = None) -> Engine:
    """The artifact `artifact_name` of `bundle`, such as "openvino-int8", loaded into its engine.

    threads: by default as many as this process may use.
    Raises: EngineError when the bundle has no such artifact, or its engine is not installed or cannot load it.
    """
    artifact = bundle.manifest.artifacts.get(artifact_name)
    if artifact is None:
        known = ", ".join(sorted(bundle.manifest.artifacts)) or "none: run `edgebert quantize` first"
        raise EngineError(f"{bundle.source} has no artifact {artifact_name!r}; it has {known}")
    require_engine(artifact.engine)
    module, name = ENGINES[artifact.engine]
    engine: Engine = getattr(import_module(module), name)(bundle, artifact, threads=checked_threads(threads))
    return engine


def is_installed(engine: str) -> bool:
    """Whether the engine's package is there; it is not imported."""
    return find_spec(engine) is not None


def require_engine(engine: str) -> None:
    """Raises EngineError, with the command that installs it, unless `engine` is known and installed."""
    if engine not in ENGINES:
        raise EngineError(f"no engine {engine!r}; known are {', '.join(ENGINES)}")
    if not is_installed(engine):
        raise EngineError(f"the engine {engine!r} is not installed: pip install {INSTALL[engine]}")


__all__ = ["ENGINES", "INSTALL", "Engine", "is_installed", "open_engine", "require_engine"]
