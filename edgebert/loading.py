"""Opening a model to use it: the fastest variant that is proven on this machine."""

from __future__ import annotations

import logging
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.embedder import Embedder, open_tokenizer
from edgebert.engines import ENGINES, Engine, is_installed, require_engine
from edgebert.errors import BundleError, EngineError, RecipeError
from edgebert.golden import read_golden, tokenizer_fault
from edgebert.memory import check_budget, plan_within, resident_mb
from edgebert.plan import Layout, Plan, default_plan, one_layout
from edgebert.probes import prove_widths
from edgebert.runner import Reopen
from edgebert.stamps import Stamp, machine_key, read_stamp, write_stamp
from edgebert.threads import checked_threads
from edgebert.tokenizer import Tokenizer
from edgebert.tuning import read_plan, tuned, tuning_is_on, write_plan
from edgebert.variants import PRECISIONS, Variant, is_faster, known_variants

logger = logging.getLogger(__name__)

_ENGINE_ORDER = ("openvino", "onnxruntime")  # as long as nothing was timed here


def load(
    name_or_path: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    memory_mb: float | None = None,
    tune: bool = True,
    revision: str | None = None,
) -> Embedder:
    """The model `name_or_path` (a bundle, a package or a Hub id), ready to encode.

    engine: "auto", "onnxruntime" or "openvino"; precision: "auto", "int8", "fp32", or "bf16" or "fp16", an fp32 file
    computed so where OpenVINO offers it on this processor. What is left to "auto" is int8 before fp32, then the
    variant that `edgebert verify` found fastest here, else OpenVINO where it is installed. Float parts are computed in
    f32 unless `edgebert verify` proved here that less is right and clearly faster, or it was asked for; "fp32" is f32.
    What was never used here is first proven by the bundle's golden vectors at every width; what fails is refused.
    threads: by default what this process may use: cgroup, affinity and OMP_NUM_THREADS.
    memory_mb: the most that model and work may take, in MB; runs get smaller, and what cannot fit is refused.
    tune: at the first load measure how texts run fastest here (`edgebert.tuning`); False: the usual way.
    Raises: BundleError, RecipeError; BudgetError when memory_mb is too little; EngineError when nothing that was asked
    for is installed, offered and right.
    """
    check_options(("auto", *ENGINES), engine, precision, threads)
    check_budget(memory_mb)
    bundle = Bundle.from_pretrained(name_or_path, revision=revision)
    return load_bundle(bundle, engine=engine, precision=precision, threads=threads, memory_mb=memory_mb, tune=tune)


def load_bundle(
    bundle: Bundle, *, engine: str = "auto", precision: str = "auto", threads: int | None = None,
    memory_mb: float | None = None, tune: bool = True,
) -> Embedder:  # fmt: skip
    """See `load`: the same for a bundle that was found already, with options that were checked."""
    number = checked_threads(threads)
    before = resident_mb()
    fitting = candidates(bundle, engine=engine, precision=precision)
    tokenizer = open_tokenizer(bundle)
    problems = []
    for variant in fitting:
        try:
            opened = _open_proven(bundle, variant, tokenizer, number)
        except EngineError as problem:
            problems.append(f"{variant.name}: {problem}")
            logger.warning("%s: %s is refused: %s", bundle.source, variant.name, problem)
            continue

        as_proven = machine_key(bundle, variant.artifact, variant.hint)

        def reopen(layout: Layout, variant: Variant = variant, as_proven: str = as_proven) -> Engine:
            require_unchanged(bundle, variant, as_proven)
            return variant.open(bundle, threads=layout.threads, streams=layout.streams)

        if memory_mb is not None:
            plan = plan_within(memory_mb, bundle, opened, number, before)
        else:
            plan = _plan(bundle, variant, opened, reopen, number, tune=tune)
        return Embedder(bundle, opened, tokenizer=tokenizer, hint=variant.hint, plan=plan, reopen=reopen)
    raise EngineError(f"{bundle.source}: nothing that was asked for works here. {'; '.join(problems)}")


def candidates(bundle: Bundle, *, engine: str = "auto", precision: str = "auto") -> list[Variant]:
    """What fits and whose engine is installed, the one to use first.

    Raises: EngineError when there is none.
    """
    artifacts = bundle.manifest.artifacts
    if not artifacts:
        raise EngineError(f"{bundle.source} has no files for an engine yet: run `edgebert quantize {bundle.source}`")
    if engine != "auto":
        require_engine(engine)
    fitting = [
        variant
        for variant in known_variants(bundle)
        if engine in ("auto", variant.engine) and precision in ("auto", variant.precision)
    ]
    if not fitting:
        half = f"; {precision} is an fp32 artifact in OpenVINO" if precision in ("bf16", "fp16") else ""
        raise EngineError(
            f"{bundle.source} has no artifact for {engine}-{precision}; it has {', '.join(artifacts)}{half}"
        )
    installed = [variant for variant in fitting if is_installed(variant.engine)]
    if not installed:
        require_engine(fitting[0].engine)
    asked = [v for v in installed if v.hint == "f32" or v.precision == precision != "int8" or is_faster(bundle, v)]
    return sorted(asked, key=lambda variant: _rank(bundle, variant))


def _rank(bundle: Bundle, variant: Variant) -> tuple[bool, float, int]:
    """Sorts int8 first, then what was timed here, fastest first, then the rest."""
    stamp = read_stamp(bundle, variant.artifact, variant.hint)
    seconds = float("inf") if stamp is None or stamp.seconds is None else stamp.seconds
    return variant.precision != "int8", seconds, _ENGINE_ORDER.index(variant.engine)


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


def _plan(
    bundle: Bundle, variant: Variant, opened: Engine, reopen: Reopen, threads: int, *, tune: bool
) -> Plan:  # fmt: skip
    """What was measured here before, or is now; without golden texts to measure with, the default."""
    if threads == 1 or not tune or not tuning_is_on() or bundle.manifest.golden is None:
        return default_plan(threads)
    plan = read_plan(bundle, variant.artifact, variant.hint, threads)
    if plan is None:
        try:
            plan = tuned(opened, reopen, bundle, read_golden(bundle), threads)
        except EngineError as problem:
            logger.warning("%s: it is not tuned, all runs in one layout: %s", bundle.source, problem)
            return one_layout(threads)
        write_plan(bundle, variant.artifact, variant.hint, threads, plan)
    return plan


def require_unchanged(bundle: Bundle, variant: Variant, as_proven: str) -> None:
    """Raises EngineError when the files are no longer those whose `machine_key` was `as_proven`."""
    try:
        same = machine_key(bundle, variant.artifact, variant.hint) == as_proven
    except OSError:
        same = False
    if not same:
        raise EngineError(f"{bundle.source} was changed or removed while it was in use: load it again")


def _open_proven(bundle: Bundle, variant: Variant, tokenizer: Tokenizer, threads: int) -> Engine:
    """The variant in its engine; at its first use here files are hashed and vectors compared with the golden ones.

    Raises: BundleError when files or the tokenizer do not match; EngineError when the vectors are wrong.
    """
    stamp = read_stamp(bundle, variant.artifact, variant.hint)
    if stamp is not None and not stamp.verified:
        raise EngineError(f"it failed on this machine before ({stamp.problem}); `edgebert verify` tries it again")
    if stamp is None:
        bundle.check()
    engine = variant.open(bundle, threads=threads)
    if stamp is None:
        golden = read_golden(bundle)
        if fault := tokenizer_fault(tokenizer, golden):
            engine.close()
            raise BundleError(f"{bundle.source}: {fault}: they do not match")
        artifact = bundle.manifest.artifacts[variant.artifact]
        worst = prove_widths(engine, golden, bundle, quick=variant.hint == "f32")
        fault = worst.fault(artifact, golden.max_error, variant.hint)
        write_stamp(bundle, Stamp(variant.artifact, verified=not fault, problem=fault, hint=variant.hint))
        if fault:
            engine.close()
            raise EngineError(fault)
    return engine
