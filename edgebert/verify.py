"""Everything that can be wrong with a bundle on this machine, checked and named.

What holds is stamped into the user's cache, so that `edgebert.load` takes the fastest variant that was proven here.
On how many threads and in how many streams it runs, `edgebert.tuning` measures at the first load.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.devices import check_device
from edgebert.engines import is_installed
from edgebert.errors import BundleError
from edgebert.foreign import has_engine_files, with_engine_files
from edgebert.foreign_verify import compare_files, every_kind
from edgebert.golden import Golden, prove, read_golden, tokenizer_fault
from edgebert.hub import resolve
from edgebert.manifest import MANIFEST_NAME, read_manifest
from edgebert.placing import faster
from edgebert.progress import Progress
from edgebert.proof import Finding, prove_variants
from edgebert.stamps import Stamp, write_stamp
from edgebert.threads import checked_threads
from edgebert.tokenizer import open_tokenizer
from edgebert.variants import Variant, candidates

_TORCH = "torch-fp32"


@dataclass(frozen=True)
class Report:
    """All findings about one bundle. `chosen`: the variant that `edgebert.load` takes here, if any."""

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
    device: str = "auto",
) -> Report:
    """What holds and what fails in a bundle or package: files, tokenizer, and each artifact in its engine
    under each hint that the processor offers. Engine files without a manifest are compared with each other.

    full: every length instead of every width that the runtime pads to. threads: to time with, by default all.
    device: "auto" proves on the CPU and on every accelerator that is here, "cpu", "npu" and "gpu" on the CPU and these.
    Raises: BundleError when it is no bundle or its manifest cannot be read.
    """
    check_device(device, None)
    checked_threads(threads)
    path = resolve(name_or_path, revision=revision, pick=partial(every_kind, source=str(name_or_path)))
    if path.is_dir() and not (path / MANIFEST_NAME).exists() and has_engine_files(path):
        return Report(str(name_or_path), *compare_files(with_engine_files(name_or_path, path), threads, progress))
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
    found = prove_variants(bundle, golden, full=full, threads=threads, progress=progress or Progress(), device=device)
    for variant, finding in found.items() if sound else ():
        if finding.status in ("ok", "failed", "refused"):
            write_stamp(bundle, _stamp(variant, finding))
    good = {variant for variant, finding in found.items() if finding.status == "ok"}
    chosen = _chosen(bundle, good) if good and sound else None
    return Report(bundle.source, (*findings, *found.values()), chosen)


def _chosen(bundle: Bundle, good: set[Variant]) -> str | None:
    """The name of what `edgebert.load` takes of the variants that are right here, stamped before."""
    on_cpu = candidates(bundle)
    return next((v.name for v in [*faster(bundle, on_cpu)[0], *on_cpu] if v in good), None)


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


def _stamp(variant: Variant, finding: Finding) -> Stamp:
    seconds = None if finding.milliseconds is None else finding.milliseconds / 1e3
    return Stamp(
        variant.artifact, finding.status == "ok", finding.detail, seconds, thorough=True,
        hint=variant.hint, place=variant.place.identity if variant.place else "",
    )  # fmt: skip
