"""The engines that run a bundle's artifacts, each imported only when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edgebert.bundle import Bundle
from edgebert.devices import Place
from edgebert.engines.base import Engine, Hint, precision_of
from edgebert.errors import EngineError
from edgebert.manifest import OUTPUT, Artifact
from edgebert.threads import checked_threads

ENGINES = {
    "onnxruntime": ("edgebert.engines.onnxruntime", "OnnxRuntimeEngine"),
    "openvino": ("edgebert.engines.openvino", "OpenVinoEngine"),
}
ENGINE_ORDER = ("openvino", "onnxruntime")  # the one to use first, as long as nothing was timed here
# What each can be asked for; which of these a processor has, the engine says itself.
HINTS: Mapping[str, tuple[Hint, ...]] = {"onnxruntime": ("f32",), "openvino": ("f32", "bf16", "f16")}
# What pip is asked for.
INSTALL = {"onnxruntime": "onnxruntime", "openvino": "'edgebert[openvino]'"}


def open_engine(
    bundle: Bundle,
    artifact_name: str,
    *,
    hint: Hint = "f32",
    threads: int | None = None,
    streams: int = 1,
    place: Place | None = None,
    beside: Callable[[], None] | None = None,
    outputs: tuple[str, ...] | None = None,
) -> Engine:
    """The artifact `artifact_name` of `bundle`, such as "openvino-int8", loaded into its engine.

    hint: what the engine may compute in where the file says float; threads: by default as many as this process may use.
    streams: so many calls are computed side by side, each on so many threads.
    place: a device of the engine other than the CPU. An artifact or a place that is static gives a `StaticLadder`.
    outputs: those that `Engine.answer` gives, by their names in the graph; by default the logits of all heads, where
    there is none the vectors.
    beside: called when the engine is about to read a kept model, for a while without Python's lock.
    Raises: EngineError when the bundle has no such artifact, its engine is not installed or cannot load it, or the
    engine does not offer the hint on this processor or place.
    """
    from edgebert.forking import ForkSafe  # not above: it needs what stands here

    artifact = bundle.manifest.artifacts.get(artifact_name)
    if artifact is None:
        known = ", ".join(sorted(bundle.manifest.artifacts)) or "none: run `edgebert quantize` first"
        raise EngineError(f"{bundle.source} has no artifact {artifact_name!r}; it has {known}")
    require_engine(artifact.engine)
    module, name = ENGINES[artifact.engine]
    offered = place.hints if place else offered_hints(artifact.engine) if hint != "f32" else ("f32",)
    if hint not in offered:
        where = place.name if place else "this processor"
        raise EngineError(f"{artifact.engine} does not offer {hint} on {where}; it offers {', '.join(offered)}")
    kind, facts = getattr(import_module(module), name), bundle.manifest
    number = checked_threads(threads)
    asked = tuple(head.output for head in facts.heads) if outputs is None else outputs

    def opening(width: int | None) -> Engine:
        opened = kind(
            bundle,
            artifact,
            hint=hint,
            threads=number,
            streams=streams,
            place=place,
            width=width,
            beside=beside,
            outputs=asked,
        )
        return _headed(bundle, artifact, opened)

    def made(width: int | None = None) -> Engine:
        return ForkSafe(bundle, artifact_name, partial(opening, width))

    def rung(width: int) -> Engine:
        bundle.require_unchanged(artifact_name)  # of the first one: from now on
        return made(width)

    if artifact.shapes == "dynamic" and not (place and place.static):
        return made()
    from edgebert.engines.static_ladder import StaticLadder  # not above: most models need nothing of it

    return StaticLadder(
        artifact.engine, precision_of(artifact, hint), rung, max_length=facts.max_length,
        pad_token_id=facts.pad_token_id,
    )  # fmt: skip


def _headed(bundle: Bundle, artifact: Artifact, engine: Any) -> Engine:
    """The engine itself where its graph gives sentence vectors or none at all, else with a head that makes them."""
    if artifact.output == engine.output == OUTPUT or not engine.output:
        return engine  # type: ignore[no-any-return]
    from edgebert.pooling import Headed  # not above: our own graphs need nothing of it

    return Headed(engine, engine.output, bundle, bundle.path(artifact.files[0]))


def offered_hints(engine: str) -> tuple[Hint, ...]:
    """The hints that an installed engine offers on this processor, "f32" first."""
    if len(HINTS[engine]) == 1:
        return HINTS[engine]
    offered: tuple[Hint, ...] = import_module(ENGINES[engine][0]).offered_hints()
    return offered


def is_installed(engine: str) -> bool:
    """Whether the engine's package is there; it is not imported."""
    return find_spec(engine) is not None


def require_engine(engine: str) -> None:
    """Raises EngineError, with the command that installs it, unless `engine` is known and installed."""
    if engine not in ENGINES:
        raise EngineError(f"no engine {engine!r}; known are {', '.join(ENGINES)}")
    if not is_installed(engine):
        raise EngineError(f"the engine {engine!r} is not installed: pip install {INSTALL[engine]}")


__all__ = [
    "ENGINES", "ENGINE_ORDER", "HINTS", "INSTALL", "Engine", "Hint", "is_installed", "offered_hints", "open_engine",
    "require_engine",
]  # fmt: skip
