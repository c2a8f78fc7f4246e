"""Opening a model to use it: the fastest variant that is proven on this machine, on the device that is asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.cache import switched_off
from edgebert.devices import Placement, check_device
from edgebert.embedder import Embedder, open_tokenizer
from edgebert.engine_files import Wish
from edgebert.engines import ENGINE_ORDER, ENGINES, Engine, is_installed, require_engine
from edgebert.engines.static_ladder import StaticLadder
from edgebert.errors import BundleError, EngineError, RecipeError
from edgebert.foreign import foreign_candidates, is_foreign, open_foreign, open_runnable
from edgebert.golden import read_golden, tokenizer_fault
from edgebert.memory import check_budget, plan_within, resident_mb
from edgebert.placing import asked_for, faster, nowhere
from edgebert.plan import Layout, Plan, default_plan, one_layout
from edgebert.probes import prove_widths
from edgebert.processor import processor_name
from edgebert.stamps import Stamp, machine_key, read_stamp, seconds, write_stamp
from edgebert.threads import checked_threads
from edgebert.tokenizer import Tokenizer
from edgebert.tuning import read_plan, tuned, write_plan
from edgebert.variants import PRECISIONS, Variant, is_faster, known_variants

logger = logging.getLogger(__name__)


def load(
    name_or_path: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    fallback: bool | None = None,
    threads: int | None = None,
    memory_mb: float | None = None,
    tune: bool = True,
    artifact: str | None = None,
    revision: str | None = None,
) -> Embedder:
    """The model `name_or_path` (a bundle, a package or a Hub id), ready to encode.

    engine: "auto", "onnxruntime" or "openvino"; precision: "auto", "int8", "fp32", or "bf16" or "fp16", an fp32 file
    computed so where OpenVINO offers it on this processor. What is left to "auto" is int8 before fp32, then the
    variant that `edgebert verify` found fastest here, else OpenVINO where it is installed. Float parts are computed in
    f32 unless `edgebert verify` proved here that less is right and clearly faster, or it was asked for; "fp32" is f32.
    What was never used here is first proven by the bundle's golden vectors at every width; what fails is refused.
    A Hugging Face folder or repository with ONNX or OpenVINO files and no manifest is run without proof: an fp32 file,
    or an int8 one made for this processor where precision is "int8".
    device: "cpu", "npu" or "gpu"; "auto" is the CPU unless `edgebert verify` proved another device right here and
    clearly faster. fallback: whether the CPU may stand in for a device that is not there, fails or is wrong, with a
    warning; by default yes for "auto" and no for a device that was asked for. `Embedder.placement` says what came out.
    threads: by default what this process may use: cgroup, affinity and OMP_NUM_THREADS.
    memory_mb: the most that model and work may take, in MB; runs get smaller, and what cannot fit is refused.
    tune: at the first load measure how texts run fastest here (`edgebert.tuning`); False: the usual way.
    artifact: the one to run by its name: of a bundle's manifest, or a file such as "onnx/model_qint8_arm64.onnx".
    Raises: BundleError, RecipeError; BudgetError when memory_mb is too little; EngineError when nothing that was asked
    for is installed, offered and right.
    """
    check_options(("auto", *ENGINES), engine, precision, threads)
    check_device(device, fallback)
    check_budget(memory_mb)
    bundle = open_runnable(name_or_path, Wish(engine, precision, artifact), revision=revision)
    return load_bundle(
        bundle, engine=engine, precision=precision, device=device, fallback=fallback, threads=threads,
        memory_mb=memory_mb, tune=tune, artifact=artifact,
    )  # fmt: skip


class _Soon:
    """A tokenizer that is read while the engine opens its model: each takes about as long as the other."""

    def __init__(self, bundle: Bundle) -> None:
        self._found: Tokenizer | None = None
        self._problem: BaseException | None = None
        self._reader = threading.Thread(target=self._read, args=(bundle,), name="edgebert-tokenizer", daemon=True)
        self._reader.start()

    def read(self) -> Tokenizer:
        """The tokenizer.

        Raises: BundleError, see `open_tokenizer`.
        """
        self._reader.join()
        if self._problem is not None:
            raise self._problem
        assert self._found is not None
        return self._found

    def _read(self, bundle: Bundle) -> None:
        try:
            self._found = open_tokenizer(bundle)
        except BaseException as problem:  # noqa: BLE001 - raised where it is read
            self._problem = problem


@dataclass(frozen=True)
class _Resources:
    """threads, memory_mb, tune: see `load`. before: resident memory before anything was opened, in MB,
    where there is a budget."""

    threads: int
    memory_mb: float | None
    tune: bool
    before: float | None


def load_bundle(
    bundle: Bundle, *, engine: str = "auto", precision: str = "auto", device: str = "auto",
    fallback: bool | None = None, threads: int | None = None, memory_mb: float | None = None, tune: bool = True,
    artifact: str | None = None,
) -> Embedder:  # fmt: skip
    """See `load`: the same for a bundle that was found already, with options that were checked."""
    before = None if memory_mb is None else resident_mb()
    given = _Resources(checked_threads(threads), memory_mb, tune, before)
    if device in ("auto", "cpu") or fallback:
        fitting = candidates(bundle, engine=engine, precision=precision, artifact=artifact)
    else:
        fitting = _require(bundle, engine)
    tokenizer = _Soon(bundle)
    if device == "auto":
        elsewhere, gone = faster(bundle, fitting, engine=engine, precision=precision)
    else:
        elsewhere, gone = asked_for(bundle, device, engine=engine, precision=precision)
    placement = Placement("cpu", "", "", device)
    found, problems = _first(bundle, elsewhere, tokenizer, given, placement)
    if found is not None:
        return found
    if reason := "; ".join([*gone, *problems]):
        if not (device == "auto" if fallback is None else fallback):
            raise EngineError(nowhere(bundle, device, reason))
        logger.warning("%s falls back to the CPU: %s", bundle.source, reason)
    found, problems = _first(bundle, fitting, tokenizer, given, replace(placement, reason=reason))
    if found is None:
        raise EngineError(f"{bundle.source}: nothing that was asked for works here. {'; '.join(problems)}")
    return found


def _first(
    bundle: Bundle, fitting: Sequence[Variant], tokenizer: _Soon, given: _Resources, placement: Placement
) -> tuple[Embedder | None, list[str]]:
    """The first of the variants that opens and is right, None where none is; and what was wrong with those before."""
    problems: list[str] = []
    for variant in fitting:
        try:
            opened = _open_proven(bundle, variant, tokenizer, given.threads)
            return _embedder(bundle, variant, opened, tokenizer, given, placement), problems
        except EngineError as problem:
            problems.append(f"{variant.name}: {problem}")
            logger.warning("%s: %s is refused: %s", bundle.source, variant.name, problem)
    return None, problems


def _embedder(
    bundle: Bundle, variant: Variant, opened: Engine, tokenizer: _Soon, given: _Resources, placement: Placement
) -> Embedder:
    """What runs `opened` by the plan that fits; a ladder of fixed shapes takes one text after the other."""

    as_proven = machine_key(bundle, variant.artifact, variant.hint)

    def reopen(layout: Layout) -> Engine:
        require_unchanged(bundle, variant, as_proven)
        return variant.open(bundle, threads=layout.threads, streams=layout.streams)

    alone = variant.place is not None or isinstance(opened, StaticLadder)
    if given.memory_mb is not None:
        plan = plan_within(given.memory_mb, bundle, opened, given.threads, given.before)
    elif alone:
        plan = one_layout(given.threads)
    else:
        plan = _plan(bundle, variant, opened, reopen, given)
    place = variant.place
    device, name = (place.kind, place.full_name) if place else ("cpu", processor_name())
    there = replace(placement, device=device, engine=opened.name, precision=opened.precision, full_name=name)
    return Embedder(
        bundle, opened, tokenizer=tokenizer.read(), hint=variant.hint, plan=plan, reopen=None if alone else reopen,
        placement=there, unproven=variant.artifact if is_foreign(bundle) else "",
    )  # fmt: skip


def candidates(
    bundle: Bundle, *, engine: str = "auto", precision: str = "auto", artifact: str | None = None
) -> list[Variant]:
    """What fits on the CPU and whose engine is installed, the one to use first.

    Raises: EngineError when there is none.
    """
    _require(bundle, engine)
    artifacts = bundle.manifest.artifacts
    if is_foreign(bundle):
        return foreign_candidates(bundle, Wish(engine, precision, artifact))
    if artifact not in (None, *artifacts):
        raise EngineError(f"{bundle.source} has no artifact {artifact!r}; it has {', '.join(artifacts)}")
    fitting = [
        variant
        for variant in known_variants(bundle)
        if engine in ("auto", variant.engine)
        and precision in ("auto", variant.precision)
        and artifact in (None, variant.artifact)
    ]
    if not fitting:
        half = f"; {precision} is an fp32 artifact in OpenVINO" if precision in ("bf16", "fp16") else ""
        what = f"{engine}-{precision}" + (f" named {artifact}" if artifact else "")
        raise EngineError(f"{bundle.source} has no artifact for {what}; it has {', '.join(artifacts)}{half}")
    installed = [variant for variant in fitting if is_installed(variant.engine)]
    if not installed:
        require_engine(fitting[0].engine)
    asked = [v for v in installed if v.hint == "f32" or v.precision == precision != "int8" or is_faster(bundle, v)]
    return sorted(asked, key=lambda variant: _rank(bundle, variant))


def _require(bundle: Bundle, engine: str) -> list[Variant]:
    """Nothing to run, if there could be something.

    Raises: EngineError when there are no files, or the engine that was asked for is not installed.
    """
    if not bundle.manifest.artifacts:
        raise EngineError(f"{bundle.source} has no files for an engine yet: run `edgebert quantize {bundle.source}`")
    if engine != "auto":
        require_engine(engine)
    return []


def _rank(bundle: Bundle, variant: Variant) -> tuple[bool, float, int]:
    """Sorts int8 first, then what was timed here, fastest first, then the rest."""
    stamp = read_stamp(bundle, variant.artifact, variant.hint)
    return variant.precision != "int8", seconds(stamp), ENGINE_ORDER.index(variant.engine)


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
    bundle: Bundle, variant: Variant, opened: Engine, reopen: Callable[[Layout], Engine], given: _Resources
) -> Plan:
    """What was measured here before, or is now; without golden texts to measure with, the default."""
    threads = given.threads
    if threads == 1 or not given.tune or switched_off("EDGEBERT_TUNE") or bundle.manifest.golden is None:
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


def _open_proven(bundle: Bundle, variant: Variant, tokenizer: _Soon, threads: int) -> Engine:
    """The variant in its engine; at its first use here files are hashed and vectors compared with the golden ones.

    Raises: BundleError when files or the tokenizer do not match; EngineError when the vectors are wrong.
    """
    if is_foreign(bundle):
        return open_foreign(bundle, variant, threads)
    stamp = read_stamp(bundle, variant.artifact, variant.hint, variant.place)
    if stamp is not None and not stamp.verified:
        raise EngineError(f"it failed on this machine before ({stamp.problem}); `edgebert verify` tries it again")
    if stamp is None:
        tokenizer.read()  # what is wrong there is told more plainly than by a hash
        bundle.check()
    engine = variant.open(bundle, threads=threads)
    if stamp is None:
        golden = read_golden(bundle)
        if fault := tokenizer_fault(tokenizer.read(), golden):
            engine.close()
            raise BundleError(f"{bundle.source}: {fault}: they do not match")
        artifact = bundle.manifest.artifacts[variant.artifact]
        worst = prove_widths(engine, golden, bundle, quick=variant.hint == "f32" and variant.place is None)
        fault = worst.fault(artifact, golden.max_error, variant.hint)
        where = variant.place.identity if variant.place else ""
        write_stamp(bundle, Stamp(variant.artifact, not fault, fault, hint=variant.hint, place=where))
        if fault:
            engine.close()
            raise EngineError(fault)
        if isinstance(engine, StaticLadder):
            engine.release()  # what its texts need is compiled again, the rest never
    return engine
