"""How near the engine files of a folder without manifest come to each other.

There are no golden vectors, so this proves less than `edgebert verify` proves of a bundle: on some fixed texts every
file is compared with an fp32 one, by torch where that and the weights are here, else by the first fp32 file that runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgebert.bundle import Bundle
from edgebert.embedder import Embedder
from edgebert.engine_files import EngineFile, choose, known_files, parts
from edgebert.engines import INSTALL, is_installed
from edgebert.engines.base import Vectors
from edgebert.errors import BundleError, EngineError
from edgebert.foreign import dense_weights, engine_files, foreign_candidates, has_weights, open_foreign
from edgebert.golden import MIN_COSINE, MIN_COSINE_HALF
from edgebert.progress import Progress
from edgebert.proof import Finding
from edgebert.tokenizer import open_tokenizer
from edgebert.variants import Variant, Wish
from edgebert.vectors import row_cosines

_LEAST = {"fp32": 1 - 1e-4, "fp16": MIN_COSINE_HALF}  # others as an int8 artifact of a bundle
_TEXTS = (
    "How do I reset the router to its factory settings?",
    "The cat sat on the mat.",
    "A quick brown fox jumps over the lazy dog near the river bank.",
    "Invoices are due within thirty days; late payment is charged at 1.5 % a month.",
    "He opened the window, looked at the rain for a while, and went back to his book.",
    "The library is open from nine to five, except on public holidays and on the first Monday of every month.",
    "Water boils at 100 °C at sea level, and at a lower temperature in the mountains, where the pressure is less.",
    "今天天气很好，我们一起去公园散步吧。",
    "请问怎样恢复路由器的出厂设置？",
    "To be, or not to be, that is the question: whether it is nobler in the mind to suffer the slings and arrows of "
    "outrageous fortune, or to take arms against a sea of troubles and by opposing end them.",
)


def every_kind(folder: Path, names: Sequence[str], *, source: str) -> tuple[str, ...]:
    """What of a repository is compared: the fp32 and the int8 file that would be taken, of each installed engine."""
    files, chosen = known_files(names), list[str]()
    for engine in dict.fromkeys(file.engine for file in files if is_installed(file.engine)):
        for precision in ("fp32", "int8"):
            with contextlib.suppress(EngineError):  # it has none of that kind
                chosen += parts(choose(files, Wish(engine, precision), source)[0], names)
    return (*chosen, *dense_weights(folder, names)) if chosen else ()


def compare_files(
    bundle: Bundle, threads: int | None, progress: Progress | None
) -> tuple[tuple[Finding, ...], str | None]:
    """A finding for every engine file, and the one that `edgebert.load` takes unasked, None when nothing is right."""
    progress = progress or Progress()
    files = sorted(engine_files(bundle), key=lambda file: file.precision != "fp32")
    progress.start("compare", len(files))
    reference, by = _torch(bundle, threads)
    findings = []
    for file in files:
        finding, vectors = _finding(bundle, file, threads, reference, by)
        findings.append(finding)
        if reference is None and vectors is not None and file.precision == "fp32":
            reference, by = vectors, file.name
        progress.advance()
    good = {finding.what for finding in findings if finding.status == "ok"}
    with contextlib.suppress(EngineError):  # none is taken unasked
        return tuple(findings), next((v.name for v in foreign_candidates(bundle, Wish()) if v.name in good), None)
    return tuple(findings), None


def _finding(
    bundle: Bundle, file: EngineFile, threads: int | None, reference: Vectors | None, by: str
) -> tuple[Finding, Vectors | None]:
    if not is_installed(file.engine):
        return Finding(file.name, "not installed", f"pip install {INSTALL[file.engine]}"), None
    try:
        engine = open_foreign(bundle, Variant(file.name, file.engine, file.precision), threads)
        with Embedder(bundle, engine, tokenizer=open_tokenizer(bundle)) as encoder:
            vectors = encoder.encode(_TEXTS, prompt="", normalize_embeddings=False)
    except (EngineError, BundleError) as problem:
        return Finding(file.name, "failed", str(problem)), None
    if reference is None:
        return Finding(
            file.name, "ok", f"{file.precision}; it runs, and nothing here tells whether it is right"
        ), vectors
    worst, least = float(row_cosines(vectors, reference).min()), _LEAST.get(file.precision, MIN_COSINE["ordinary"])
    if not worst >= least:
        detail = f"{file.precision}; cosine {worst:.6f} to {by}, at least {least:.6g} is needed"
        return Finding(file.name, "failed", detail, worst), vectors
    return Finding(file.name, "ok", f"{file.precision}; compared with {by} on {len(_TEXTS)} texts", worst), vectors


def _torch(bundle: Bundle, threads: int | None) -> tuple[Vectors | None, str]:
    """The vectors by torch where it is installed and the weights are here."""
    if not (has_weights(bundle.root) and is_installed("torch") and is_installed("transformers")):
        return None, ""
    from edgebert.distill.encoder import torch_embedder

    with torch_embedder(bundle, threads=threads) as encoder:
        return np.asarray(encoder.encode(_TEXTS, prompt="", normalize_embeddings=False)), "torch"
