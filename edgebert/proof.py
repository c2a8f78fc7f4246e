"""How near to fp32 and how fast every variant of a bundle is on this machine, one after the other."""

from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import dataclass, replace
from typing import Literal

from edgebert.bundle import Bundle
from edgebert.engines import INSTALL, Engine, is_installed
from edgebert.engines.base import Vectors
from edgebert.errors import EngineError
from edgebert.golden import Golden, Worst, prove
from edgebert.manifest import Manifest
from edgebert.placing import placed
from edgebert.probes import KINDS, Probe, golden_probes, length_probes, probe_ids
from edgebert.progress import Progress
from edgebert.variants import Variant, variants

_TIMED_TOKENS = 32


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. `ordinary`, `degenerate`: least cosine to fp32; milliseconds: one text alone.

    "refused": wrong under a hint or on a device that is never taken unless it is right, so nothing is wrong with the
    bundle.
    """

    what: str
    status: Literal["ok", "failed", "refused", "not installed", "not run"]
    detail: str = ""
    ordinary: float | None = None
    degenerate: float | None = None
    milliseconds: float | None = None


def prove_variants(
    bundle: Bundle, golden: Golden, *, full: bool, threads: int | None, progress: Progress, device: str = "auto"
) -> dict[Variant, Finding]:
    """One finding a variant. One engine is open at a time, so that memory is one model's.

    device: "auto" is the CPU and every accelerator that is here; another one leaves the other accelerators out.
    """
    probes = _probes(bundle, golden, full=full)
    listed = [*variants(bundle), *placed(bundle, device)]
    found: dict[Variant, Finding] = {}
    worst: dict[Variant, Worst] = {}
    answers: dict[Variant, list[Vectors]] = {}
    for variant in listed:
        if not is_installed(variant.engine):
            found[variant] = Finding(variant.name, "not installed", f"pip install {INSTALL[variant.engine]}")
            continue
        progress.start(f"check {variant.name}", len(probes))
        try:
            with contextlib.closing(variant.open(bundle, threads=threads)) as engine:
                worst[variant] = prove(engine, golden, bundle)
                answers[variant] = [_answer(engine, probe, bundle, progress) for probe in probes]
        except EngineError as problem:
            found[variant] = Finding(variant.name, _bad(variant), str(problem))
    _compare(bundle, golden, probes, worst, answers)
    for variant in answers:
        plain = found.get(_plain(bundle, variant))
        found[variant] = _judged(bundle, variant, worst[variant], golden, threads, plain)
    return {variant: found[variant] for variant in listed}


def _plain(bundle: Bundle, variant: Variant) -> Variant:
    """The same artifact under f32 on the CPU."""
    precision = bundle.manifest.artifacts[variant.artifact].precision
    return replace(variant, precision=precision, hint="f32", place=None)


def _probes(bundle: Bundle, golden: Golden, *, full: bool) -> list[Probe]:
    """Golden inputs, which torch has answered, and made-up ones where an fp32 artifact can answer for them."""
    probes = list(golden_probes(golden, bundle.manifest.max_length))
    if any(a.precision == "fp32" and is_installed(a.engine) for a in bundle.manifest.artifacts.values()):
        probes += length_probes(golden.cases, bundle.manifest.max_length, every=full)
    return probes


def _answer(engine: Engine, probe: Probe, bundle: Bundle, progress: Progress) -> Vectors:
    vectors = probe.run(engine, bundle.manifest.pad_token_id)
    progress.advance()
    return vectors


def _compare(
    bundle: Bundle, golden: Golden, probes: list[Probe], worst: dict[Variant, Worst],
    answers: dict[Variant, list[Vectors]],
) -> None:  # fmt: skip
    """Adds every answer to its variant's worst: by torch's vectors, and by another variant that these prove right.

    A reference is in fp32 under f32. Who is one is settled first: two that differ must not acquit each other.
    """
    for variant, vectors in answers.items():
        for probe, found in zip(probes, vectors, strict=True):
            if probe.reference is not None:
                worst[variant].add(found, probe.reference, probe.kinds, probe.where)
    right = [v for v in answers if v.precision == "fp32" and not _fault(bundle, v, worst[v], golden)]
    for variant, vectors in answers.items():
        if (other := next((v for v in right if v != variant), None)) is None:
            continue
        for probe, found, known in zip(probes, vectors, answers[other], strict=True):
            if probe.reference is None:
                worst[variant].add(found, known, probe.kinds, probe.where)


def _fault(bundle: Bundle, variant: Variant, worst: Worst, golden: Golden) -> str:
    return worst.fault(bundle.manifest.artifacts[variant.artifact], golden.max_error, variant.hint)


def _bad(variant: Variant) -> Literal["failed", "refused"]:
    return "failed" if variant.hint == "f32" and variant.place is None else "refused"


def _judged(
    bundle: Bundle, variant: Variant, worst: Worst, golden: Golden, threads: int | None, plain: Finding | None
) -> Finding:
    """plain: what was found of the same artifact under f32 on the CPU, None where that is the variant itself."""
    fault = _fault(bundle, variant, worst, golden)
    cosines = worst.cosine.get("ordinary"), worst.cosine.get("degenerate")
    if fault:
        return Finding(variant.name, _bad(variant), fault, *cosines)
    if plain is not None and plain.milliseconds is not None:
        milliseconds = plain.milliseconds * _ratio(bundle, variant, golden, threads)
    else:
        milliseconds = _alone(bundle, variant, golden, threads) * 1e3
    return Finding(variant.name, "ok", "", *cosines, milliseconds=milliseconds)


def _alone(bundle: Bundle, variant: Variant, golden: Golden, threads: int | None) -> float:
    """Seconds for one text of middling length."""
    with contextlib.closing(variant.open(bundle, threads=threads)) as engine:
        return _seconds(engine, _middling(bundle, golden), bundle.manifest, 20)


def _ratio(bundle: Bundle, variant: Variant, golden: Golden, threads: int | None) -> float:
    """How long one text takes under the hint to under f32, in turns: a busy machine must not choose between them."""
    one = _middling(bundle, golden)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(contextlib.closing(variant.open(bundle, threads=threads)))
        under_f32 = _plain(bundle, variant).open(bundle, threads=threads)
        plain = stack.enter_context(contextlib.closing(under_f32))
        turns = [[_seconds(e, one, bundle.manifest, 5) for e in (engine, plain)] for _ in range(10)]
    return statistics.median(hinted / known for hinted, known in turns)


def _middling(bundle: Bundle, golden: Golden) -> Probe:
    length = min(_TIMED_TOKENS, bundle.manifest.max_length)
    return Probe((probe_ids(golden.cases, "ordinary", length),), KINDS[:1], length)


def _seconds(engine: Engine, probe: Probe, manifest: Manifest, runs: int) -> float:
    """The median of some runs, after a few that warm it up."""
    times = []
    for _ in range(runs + max(2, runs // 4)):
        start = time.perf_counter()
        probe.run(engine, manifest.pad_token_id)
        times.append(time.perf_counter() - start)
    return statistics.median(times[-runs:])
