"""The engines that run a bundle's artifacts, each imported only when it is opened."""

from __future__ import annotations

from importlib import import_module

from edgebert.bundle import Bundle
from edgebert.engines.base import Engine
from edgebert.errors import EngineError
from edgebert.threads import checked_threads

ENGINES = {
    "onnxruntime": ("edgebert.engines.onnxruntime", "OnnxRuntimeEngine"),
    "openvino": ("edgebert.engines.openvino", "OpenVinoEngine"),
}


def open_engine(bundle: Bundle, artifact_name: str, *, threads: int | None = None) -> Engine:
    """The artifact `artifact_name` of `bundle`, such as "openvino-int8", loaded into its engine.

    threads: by default as many as this process may use.
    Raises: EngineError when the bundle has no such artifact or the engine cannot load it; MissingExtraError when the
    engine is not installed.
    """
    artifact = bundle.manifest.artifacts.get(artifact_name)
    if artifact is None:
        known = ", ".join(sorted(bundle.manifest.artifacts)) or "none: run `edgebert quantize` first"
        raise EngineError(f"{bundle.source} has no artifact {artifact_name!r}; it has {known}")
    module, name = ENGINES[artifact.engine]
    engine: Engine = getattr(import_module(module), name)(bundle, artifact, threads=checked_threads(threads))
    return engine


__all__ = ["ENGINES", "Engine", "open_engine"]
