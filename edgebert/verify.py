"""Everything that can be wrong with a bundle on this machine, checked and named.

What holds is stamped into the user's cache, so that `edgebert.load` takes the fastest pair of engine and precision that
was proven here, with the best number of threads.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgebert.bundle import Bundle
from edgebert.embedder import open_tokenizer
from edgebert.engines import INSTALL, Engine, is_installed, open_engine
from edgebert.engines.base import Vectors
from edgebert.errors import BundleError, EngineError
from edgebert.golden import Golden, Worst, prove, read_golden, tokenizer_fault
from edgebert.hub import resolve
from edgebert.loading import candidates
from edgebert.manifest import Manifest, read_manifest
from edgebert.probes import KINDS, Probe, golden_probes, length_probes, probe_ids
from edgebert.progress import Progress
from edgebert.stamps import Stamp, write_stamp
from edgebert.threads import checked_threads, usable_threads

_TIMED_TOKENS = 32
_TIMED_BATCH = 32
_MARGIN = 1.25
_TORCH = "torch-fp32"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. `ordinary`, `degenerate`: least cosine to fp32; milliseconds: one text alone."""

    what: str
    status: Literal["ok", "failed", "not installed", "not run"]
    detail: str = ""
    ordinary: float | None = None
    degenerate: float | None = None
    milliseconds: float | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Report:
    """All findings about one bundle. `chosen`: the artifact that `edgebert.load` takes here, if any."""

    source: str
    findings: tuple[Finding, ...]
    chosen: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed and something runs here."""
        runs = self.chosen is not None or any(f.what == _TORCH and f.status == "ok" for f in self.findings)
        return runs and all(f.status != "failed" for f in self.findings)


def verify(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    full: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """What holds and what fails in a bundle or package: files, tokenizer, and each artifact in its engine.

    full: every length instead of every width that the runtime pads to. threads: instead of finding the best number.
    Raises: BundleError when it is no bundle or its manifest cannot be read.
    """
    checked_threads(threads)
    path = resolve(name_or_path, revision=revision)
    if path.is_file():
        from edgebert.package import unpack

        path = unpack(path)
    bundle = Bundle(path, read_manifest(path), str(name_or_path))
    artifacts = bundle.manifest.artifacts
    try:
        bundle.check()
        Bundle.open(path)
        golden = read_golden(bundle) if artifacts or bundle.manifest.golden else None
    except BundleError as problem:
        not_run = tuple(Finding(name, "not run", "the files are damaged") for name in artifacts)
        return Report(bundle.source, (Finding("files", "failed", str(problem)), *not_run))
    findings = [Finding("files", "ok", f"{len(bundle.manifest.files)} files as the manifest says")]
    if golden is None:
        findings.append(Finding("artifacts", "failed", "there are none yet: run `edgebert quantize`"))
        return Report(bundle.source, tuple(findings))
    findings.append(_tokenizer(bundle, golden))
    if not artifacts:
        return Report(bundle.source, (*findings, _torch(bundle, golden)))
    sound = findings[-1].status == "ok"
    found = _artifacts(bundle, golden, full=full, threads=threads, progress=progress or Progress())
    for finding in found if sound else ():
        if finding.status in ("ok", "failed"):
            write_stamp(bundle, _stamp(finding))
    good = {f.what for f in found if f.status == "ok"}
    chosen = next((name for name in candidates(bundle) if name in good), None) if good and sound else None
    return Report(bundle.source, (*findings, *found), chosen)


def _tokenizer(bundle: Bundle, golden: Golden) -> Finding:
    try:
        fault = tokenizer_fault(open_tokenizer(bundle), golden)
    except BundleError as problem:
        fault = str(problem)
    detail = fault or f"the ids of {len(golden.cases)} golden texts"
    return Finding("tokenizer", "failed" if fault else "ok", detail)


def _torch(bundle: Bundle, golden: Golden) -> Finding:
    """The model of a bundle that has no engine files yet, in torch where that is installed."""
    if not is_installed("torch"):
        return Finding(_TORCH, "not installed", "pip install 'edgebert[workshop]', or quantize it: `edgebert quantize`")
    from edgebert.distill.encoder import TorchEngine

    try:
        worst = prove(TorchEngine(bundle), golden, bundle)
    except BundleError as problem:
        return Finding(_TORCH, "failed", str(problem))
    ordinary, degenerate = worst.cosine.get("ordinary"), worst.cosine.get("degenerate")
    right = all(cosine >= 1 - golden.max_error for cosine in worst.cosine.values())
    detail = "no engine files yet: run `edgebert quantize`" if right else "the vectors differ from the golden ones"
    return Finding(_TORCH, "ok" if right else "failed", detail, ordinary, degenerate)


def _artifacts(bundle: Bundle, golden: Golden, *, full: bool, threads: int | None, progress: Progress) -> list[Finding]:
    """One finding an artifact. One engine is open at a time, so that memory is one model's."""
    artifacts = bundle.manifest.artifacts
    probes = _probes(bundle, golden, full=full)
    found: dict[str, Finding] = {}
    worst: dict[str, Worst] = {}
    answers: dict[str, list[Vectors]] = {}
    for name, artifact in artifacts.items():
        if not is_installed(artifact.engine):
            found[name] = Finding(name, "not installed", f"pip install {INSTALL[artifact.engine]}")
            continue
        progress.start(f"check {name}", len(probes))
        try:
            with contextlib.closing(open_engine(bundle, name, threads=threads)) as engine:
                worst[name] = prove(engine, golden, bundle)
                answers[name] = [_answer(engine, probe, bundle, progress) for probe in probes]
        except EngineError as problem:
            found[name] = Finding(name, "failed", str(problem))
    for name in answers:
        reference = _reference(bundle, name, worst, answers, golden)
        for i, probe in enumerate(probes):
            known = probe.reference if probe.reference is not None else (reference[i] if reference else None)
            if known is not None:
                worst[name].add(answers[name][i], known, probe.kinds, probe.where)
        found[name] = _judged(bundle, name, worst[name], golden, threads)
    return [found[name] for name in artifacts]


def _probes(bundle: Bundle, golden: Golden, *, full: bool) -> list[Probe]:
    """Made-up inputs where an fp32 artifact can answer for them, golden ones where no second one checks the first."""
    artifacts, max_length = bundle.manifest.artifacts.values(), bundle.manifest.max_length
    references = sum(a.precision == "fp32" and is_installed(a.engine) for a in artifacts)
    probes = list(length_probes(golden.cases, max_length, every=full)) if references else []
    return probes if references > 1 else [*probes, *golden_probes(golden, max_length)]


def _answer(engine: Engine, probe: Probe, bundle: Bundle, progress: Progress) -> Vectors:
    vectors = probe.run(engine, bundle.manifest.pad_token_id)
    progress.advance()
    return vectors


def _reference(
    bundle: Bundle, name: str, worst: dict[str, Worst], answers: dict[str, list[Vectors]], golden: Golden
) -> list[Vectors] | None:
    """The answers of another artifact, in fp32 and right on the golden cases; None when there is none."""
    for other, artifact in bundle.manifest.artifacts.items():
        right = other in answers and not worst[other].fault(artifact, golden.max_error)
        if artifact.precision == "fp32" and other != name and right:
            return answers[other]
    return None


def _judged(bundle: Bundle, name: str, worst: Worst, golden: Golden, threads: int | None) -> Finding:
    fault = worst.fault(bundle.manifest.artifacts[name], golden.max_error)
    finding = Finding(
        name, "failed" if fault else "ok", fault, worst.cosine.get("ordinary"), worst.cosine.get("degenerate")
    )
    if fault:
        return finding
    seconds, best = _fastest(bundle, name, golden, threads)
    return replace(finding, milliseconds=seconds * 1e3, threads=best)


def _fastest(bundle: Bundle, name: str, golden: Golden, threads: int | None) -> tuple[float, int]:
    """Seconds for one text of middling length, and the number of threads that is best for one text and a batch."""
    manifest = bundle.manifest
    length = min(_TIMED_TOKENS, manifest.max_length)
    ids = probe_ids(golden.cases, "ordinary", length)
    one, batch = Probe((ids,), KINDS[:1], length), Probe((ids,) * _TIMED_BATCH, KINDS[:1] * _TIMED_BATCH, length)
    most = usable_threads()
    numbers = {threads} if threads else {n for n in (1, 2, 4, 8, 16, 32, 64) if n < most} | {most}
    times: dict[int, tuple[float, float]] = {}
    for number in numbers:
        with contextlib.closing(open_engine(bundle, name, threads=number)) as engine:
            times[number] = (_seconds(engine, one, manifest, 20), _seconds(engine, batch, manifest, 3))
    # All threads unless fewer are clearly better: a machine that is busy now makes fewer look good.
    best = min(times, key=lambda number: times[number][0] * times[number][1] * (1.0 if number == most else _MARGIN))
    return times[best][0], best


def _seconds(engine: Engine, probe: Probe, manifest: Manifest, runs: int) -> float:
    """The median of some runs, after a few that warm it up."""
    times = []
    for _ in range(runs + max(2, runs // 4)):
        start = time.perf_counter()
        probe.run(engine, manifest.pad_token_id)
        times.append(time.perf_counter() - start)
    return statistics.median(times[-runs:])


def _stamp(finding: Finding) -> Stamp:
    seconds = None if finding.milliseconds is None else finding.milliseconds / 1e3
    return Stamp(finding.what, finding.status == "ok", finding.detail, seconds, finding.threads, thorough=True)
