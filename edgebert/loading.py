"""Opening a model to use it: the fastest variant that is proven on this machine, on the device that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from edgebert.bundle import Bundle, is_bundle
from edgebert.cache import switched_off
from edgebert.devices import Placement, check_device
from edgebert.engines import ENGINES, Engine
from edgebert.errors import EngineError, RecipeError
from edgebert.kept_plans import read_plan, write_plan
from edgebert.plan import Layout, Plan, default_plan, one_layout
from edgebert.processor import processor_name
from edgebert.stamps import any_placed, read_stamp
from edgebert.tasks import opened_as
from edgebert.threads import checked_threads
from edgebert.tokenizer import TokenizerSoon
from edgebert.variants import PRECISIONS, Variant, Wish, candidates, require_artifact, require_runnable

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edgebert.embedder import Embedder
    from edgebert.tasks.answer import QuestionAnswerer
    from edgebert.tasks.classify import Classifier
    from edgebert.tasks.multi import MultiTask
    from edgebert.tasks.pairs import PairScorer
    from edgebert.tasks.regress import Regressor
    from edgebert.tasks.tag import Tagger

logger = logging.getLogger(__name__)


class Options(TypedDict, total=False):
    """Those of `load`, for the overloads."""

    engine: str
    precision: str
    device: str
    fallback: bool | None
    threads: int | None
    memory_mb: float | None
    tune: bool
    artifact: str | None
    revision: str | None
    head: str | None


@overload
def load(name_or_path: str | Path, *, task: Literal["embedding"], **options: Unpack[Options]) -> Embedder: ...
@overload
def load(name_or_path: str | Path, *, task: Literal["classify"], **options: Unpack[Options]) -> Classifier: ...
@overload
def load(name_or_path: str | Path, *, task: Literal["regress"], **options: Unpack[Options]) -> Regressor: ...
@overload
def load(name_or_path: str | Path, *, task: Literal["pairs"], **options: Unpack[Options]) -> PairScorer: ...
@overload
def load(name_or_path: str | Path, *, task: Literal["tag"], **options: Unpack[Options]) -> Tagger: ...
@overload
def load(name_or_path: str | Path, *, task: Literal["answer"], **options: Unpack[Options]) -> QuestionAnswerer: ...
@overload
def load(name_or_path: str | Path, *, task: Literal["multi"], **options: Unpack[Options]) -> MultiTask: ...
@overload
def load(name_or_path: str | Path, *, task: str | None = None, **options: Unpack[Options]) -> Any: ...
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
    task: str | None = None,
    head: str | None = None,
) -> Any:
    """The model `name_or_path` (a bundle, a package or a Hub id), ready to use.

    The object is that of the model's task: `Embedder`, `Classifier`, `Regressor`, `PairScorer`, `Tagger`,
    `QuestionAnswerer` or `MultiTask`.
    task: another one that one of its heads can do, "pairs" of a classifier of pairs, or "embedding" of any model.
    head: the only one of several that is meant, by its name.

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
    if memory_mb is not None:
        from edgebert.memory import check_budget

        check_budget(memory_mb)
    bundle = _found(name_or_path, engine=engine, precision=precision, artifact=artifact, revision=revision)
    return load_bundle(
        bundle, engine=engine, precision=precision, device=device, fallback=fallback, threads=threads,
        memory_mb=memory_mb, tune=tune, artifact=artifact, task=task, head=head,
    )  # fmt: skip


@dataclass(frozen=True)
class _Resources:
    """kind: of the runtime object. threads, memory_mb, tune: see `load`. before: resident memory before anything was
    opened, in MB, where there is a budget."""

    kind: type[Any]
    threads: int
    memory_mb: float | None
    tune: bool
    before: float | None


def load_bundle(
    bundle: Bundle, *, engine: str = "auto", precision: str = "auto", device: str = "auto",
    fallback: bool | None = None, threads: int | None = None, memory_mb: float | None = None, tune: bool = True,
    artifact: str | None = None, task: str | None = None, head: str | None = None,
) -> Any:  # fmt: skip
    """See `load`: the same for a bundle that was found already, with options that were checked."""
    kind, bundle = opened_as(bundle, task, head)
    given = _Resources(kind, checked_threads(threads), memory_mb, tune, _resident(memory_mb))
    fitting: list[Variant] = []
    if device in ("auto", "cpu") or fallback:
        fitting = candidates(bundle, engine=engine, precision=precision, artifact=artifact)
    else:
        require_runnable(bundle, engine)
        require_artifact(bundle, artifact)
    tokenizer = TokenizerSoon(bundle)
    elsewhere, gone = _elsewhere(bundle, fitting, device, Wish(engine, precision, artifact))
    placement = Placement("cpu", "", "", device)
    found, problems = _first(bundle, elsewhere, tokenizer, given, placement)
    if found is not None:
        return found
    if reason := "; ".join([*gone, *problems]):
        if not (device == "auto" if fallback is None else fallback):
            from edgebert.placing import nowhere

            raise EngineError(nowhere(bundle, device, reason))
        logger.warning("%s falls back to the CPU: %s", bundle.source, reason)
    found, problems = _first(bundle, fitting, tokenizer, given, replace(placement, reason=reason))
    if found is None:
        raise EngineError(f"{bundle.source}: nothing that was asked for works here. {'; '.join(problems)}")
    return found


def _found(
    name_or_path: str | Path, *, engine: str, precision: str, artifact: str | None, revision: str | None
) -> Bundle:
    """The model of that name, files of other makers as artifacts."""
    if revision is None and is_bundle(name_or_path):
        return Bundle.from_pretrained(name_or_path)
    from edgebert.foreign import open_runnable

    return open_runnable(name_or_path, Wish(engine, precision, artifact), revision=revision)


def _elsewhere(bundle: Bundle, fitting: Sequence[Variant], device: str, wish: Wish) -> tuple[list[Variant], list[str]]:
    """What is tried before the CPU's `fitting`, and why there is nothing where there should be."""
    if device == "cpu" or (device == "auto" and not any_placed()):
        return [], []
    from edgebert.placing import asked_for, faster

    if device == "auto":
        return faster(bundle, fitting, wish)
    return asked_for(bundle, device, wish)


def _resident(memory_mb: float | None) -> float | None:
    if memory_mb is None:
        return None
    from edgebert.memory import resident_mb

    return resident_mb()


def _first(
    bundle: Bundle, fitting: Sequence[Variant], tokenizer: TokenizerSoon, given: _Resources, placement: Placement
) -> tuple[Any, list[str]]:
    """The first of the variants that opens and is right, None where none is; and what was wrong with those before."""
    problems: list[str] = []
    for variant in fitting:
        try:
            opened = _open_proven(bundle, variant, tokenizer, given.threads)
            return _opened(bundle, variant, opened, tokenizer, given, placement), problems
        except EngineError as problem:
            problems.append(f"{variant.name}: {problem}")
            logger.warning("%s: %s is refused: %s", bundle.source, variant.name, problem)
    return None, problems


def _opened(
    bundle: Bundle, variant: Variant, opened: Engine, tokenizer: TokenizerSoon, given: _Resources, placement: Placement
) -> Any:
    """What runs `opened` by the plan that fits; a ladder of fixed shapes takes one text after the other."""

    def reopen(layout: Layout) -> Engine:
        bundle.require_unchanged(variant.artifact)
        return variant.open(bundle, threads=layout.threads, streams=layout.streams)

    alone = variant.place is not None or bundle.manifest.artifacts[variant.artifact].shapes == "static"
    if given.memory_mb is not None:
        from edgebert.memory import plan_within

        tokenizer.read().within_budget()  # now, as it takes memory too
        if bundle.manifest.heads:
            _ = tokenizer.read().whole
        plan = plan_within(given.memory_mb, bundle, opened, given.threads, given.before)
    elif alone:
        plan = one_layout(given.threads)
    else:
        plan = _plan(bundle, variant, opened, reopen, given)
    place = variant.place
    device, name = (place.kind, place.full_name) if place else ("cpu", processor_name())
    there = replace(placement, device=device, engine=opened.name, precision=opened.precision, full_name=name)
    return given.kind(
        bundle, opened, tokenizer=tokenizer.read(), hint=variant.hint, plan=plan, reopen=None if alone else reopen,
        placement=there, unproven=variant.artifact if bundle.is_foreign else "",
    )  # fmt: skip


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
        from edgebert.golden import read_golden
        from edgebert.tuning import tuned

        try:
            plan = tuned(opened, reopen, bundle, read_golden(bundle), threads)
        except EngineError as problem:
            logger.warning("%s: it is not tuned, all runs in one layout: %s", bundle.source, problem)
            return one_layout(threads)
        write_plan(bundle, variant.artifact, variant.hint, threads, plan)
        from edgebert.memory import give_back

        give_back()  # what proving and measuring took, a multiple of what running takes
    return plan


def _open_proven(bundle: Bundle, variant: Variant, tokenizer: TokenizerSoon, threads: int) -> Engine:
    """The variant in its engine; at its first use here files are hashed and vectors compared with the golden ones.

    Raises: BundleError when files or the tokenizer do not match; EngineError when the vectors are wrong.
    """
    if bundle.is_foreign:
        from edgebert.foreign import open_foreign

        return open_foreign(bundle, variant, threads)
    stamp = read_stamp(bundle, variant.artifact, variant.hint, variant.place)
    if stamp is not None and not stamp.verified:
        raise EngineError(f"it failed on this machine before ({stamp.problem}); `edgebert verify` tries it again")
    if stamp is not None:
        return variant.open(bundle, threads=threads, beside=tokenizer.begin)
    from edgebert.proving import open_first  # not above, as all that a later load does not need

    return open_first(bundle, variant, tokenizer.read(), threads)
