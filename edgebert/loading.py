"""Opening a model to use it: the fastest pair of engine and precision that is proven on this machine."""

from __future__ import annotations

import logging
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.embedder import Embedder, open_tokenizer
from edgebert.engines import ENGINES, Engine, is_installed, open_engine, require_engine
from edgebert.errors import BundleError, EngineError, RecipeError
from edgebert.golden import prove, read_golden, tokenizer_fault
from edgebert.stamps import Stamp, read_stamp, write_stamp
from edgebert.threads import checked_threads, usable_threads
from edgebert.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

PRECISIONS = ("int8", "fp32")  # in the order in which they are preferred
_ENGINE_ORDER = ("openvino", "onnxruntime")  # as long as nothing was timed here


def load(
    name_or_path: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    revision: str | None = None,
) -> Embedder:
    """The model `name_or_path` (a bundle, a package or a Hub id), ready to encode.

    engine: "auto", "onnxruntime" or "openvino"; precision: "auto", "int8" or "fp32". What is left to "auto" is int8
    before fp32, then the engine that `edgebert verify` found fastest here, else OpenVINO where it is installed.
    A pair that was never used here is first proven by the bundle's golden vectors; one that fails is refused.
    threads: by default what `edgebert verify` found best, else what this process may use.
    Raises: BundleError, RecipeError; EngineError when no pair of those asked for is installed and right.
    """
    check_options(("auto", *ENGINES), engine, precision, threads)
    bundle = Bundle.from_pretrained(name_or_path, revision=revision)
    return load_bundle(bundle, engine=engine, precision=precision, threads=threads)


def load_bundle(
    bundle: Bundle, *, engine: str = "auto", precision: str = "auto", threads: int | None = None
) -> Embedder:
    """See `load`: the same for a bundle that was found already, with options that were checked."""
    names = candidates(bundle, engine=engine, precision=precision)
    tokenizer = open_tokenizer(bundle)
    problems = []
    for name in names:
        try:
            return Embedder(bundle, _open_proven(bundle, name, tokenizer, threads), tokenizer=tokenizer)
        except EngineError as problem:
            problems.append(f"{name}: {problem}")
            logger.warning("%s: %s is refused: %s", bundle.source, name, problem)
    raise EngineError(f"{bundle.source}: nothing that was asked for works here. {'; '.join(problems)}")


def candidates(bundle: Bundle, *, engine: str = "auto", precision: str = "auto") -> list[str]:
    """The names of the artifacts that fit and whose engine is installed, the one to use first.

    Raises: EngineError when there is none.
    """
    artifacts = bundle.manifest.artifacts
    if not artifacts:
        raise EngineError(f"{bundle.source} has no files for an engine yet: run `edgebert quantize {bundle.source}`")
    if engine != "auto":
        require_engine(engine)
    fitting = [
        name
        for name, artifact in artifacts.items()
        if engine in ("auto", artifact.engine) and precision in ("auto", artifact.precision)
    ]
    if not fitting:
        raise EngineError(f"{bundle.source} has no artifact for {engine}-{precision}; it has {', '.join(artifacts)}")
    installed = [name for name in fitting if is_installed(artifacts[name].engine)]
    if not installed:
        require_engine(artifacts[fitting[0]].engine)
    timed = {name: stamp.seconds for name in installed if (stamp := read_stamp(bundle, name))}

    def rank(name: str) -> tuple[int, float, int]:
        artifact = artifacts[name]
        seconds = timed.get(name)
        order = _ENGINE_ORDER.index(artifact.engine)
        return PRECISIONS.index(artifact.precision), float("inf") if seconds is None else seconds, order

    return sorted(installed, key=rank)


def check_options(engines: tuple[str, ...], engine: str, precision: str, threads: int | None) -> None:
    """Raises RecipeError unless `engine` is one of `engines`, and precision and threads are possible ones."""
    choice("engine", engine, engines)
    choice("precision", precision, ("auto", *PRECISIONS))
    if threads is not None:
        checked_threads(threads)


def choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises RecipeError unless the option `name` has an allowed value."""
    if value not in allowed:
        raise RecipeError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def _open_proven(bundle: Bundle, name: str, tokenizer: Tokenizer, threads: int | None) -> Engine:
    """The artifact in its engine; at its first use here files are hashed and vectors compared with the golden ones.

    Raises: BundleError when files or the tokenizer do not match; EngineError when the vectors are wrong.
    """
    stamp = read_stamp(bundle, name)
    if threads is None and stamp is not None and stamp.threads is not None:
        threads = min(stamp.threads, usable_threads())
    if stamp is not None and not stamp.verified:
        raise EngineError(f"it failed on this machine before ({stamp.problem}); `edgebert verify` tries it again")
    if stamp is None:
        bundle.check()
    engine = open_engine(bundle, name, threads=threads)
    if stamp is None:
        golden = read_golden(bundle)
        if fault := tokenizer_fault(tokenizer, golden):
            engine.close()
            raise BundleError(f"{bundle.source}: {fault}: they do not match")
        fault = prove(engine, golden, bundle).fault(bundle.manifest.artifacts[name], golden.max_error)
        write_stamp(bundle, Stamp(name, verified=not fault, problem=fault))
        if fault:
            engine.close()
            raise EngineError(fault)
    return engine
