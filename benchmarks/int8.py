"""A bundle's int8 forms side by side with sentence-transformers' own int8 exports of the same model, in one run.

    python benchmarks/int8.py --data DATA --teacher MODEL --bundle BUNDLE --work FOLDER

Each encoder runs in a process of its own, in turns, on the sentences of the STS-B English test, with the same threads.
The peers' environments and exports are made in the work folder at the first run (2 GB) and used again. Cosines are to
torch fp32: over the test's sentences in batches of 32, and over texts of every length, alone: running text, and what is
degenerate, one word repeated and the empty text. Exit 1 when a peer does not run or a target is missed.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from common import Pairs, data_file, parser, write_json
from exports import SAMPLES, peer_subjects
from lengths import repeated_words, running_texts
from workers import Measured, Subject, measure

from edgebert.bundle import Bundle
from edgebert.processor import processor as facts
from edgebert.processor import processor_name
from edgebert.table import show
from edgebert.tokenizer import open_tokenizer
from edgebert.vectors import row_cosines

SINGLES = 100
ENGINES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
KEPT = {"openvino": 99.7, "onnxruntime": 99.5}  # % of the Spearman correlation of torch fp32
SPEED = {"openvino": 4.0, "onnxruntime": 2.0}  # times torch fp32
PEERS = {"openvino": "openvino", "onnxruntime": "onnx"}


@dataclass(frozen=True)
class Figures:
    """One encoder. `*_cosine`: to torch fp32; `kept`: % of its Spearman; `size_mb`: model files, in millions of bytes.

    `to_torch`: median over the rounds of its speed to that of the faster torch in the same round.
    """

    name: str
    engine: str
    sentences_s: float
    speeds: list[float]
    to_torch: float
    p50_ms: float
    spearman: float
    kept: float
    mean_cosine: float
    min_cosine: float
    running_cosine: float
    degenerate_cosine: float
    size_mb: float
    versions: dict[str, str]


def main() -> None:
    options = parser(__doc__, bundle=True, figures=True)
    options.add_argument("--work", type=Path, required=True, help="keeps the peers' environments and exports")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()
    pairs = Pairs.read(data_file(given.data, "stsb_en/test.jsonl.gz"))
    calibration = data_file(given.data, "sst2/train.jsonl.gz")
    teacher, bundle = Bundle.from_pretrained(given.teacher), Bundle.open(given.bundle)
    subjects = [*our_subjects(teacher, bundle), *peer_subjects(teacher, given.work, calibration)]
    lengths = range(3, teacher.manifest.max_length + 1)
    tokenizer = open_tokenizer(teacher)
    running = running_texts(pairs.texts, tokenizer, lengths)
    probes = [*running, *repeated_words(pairs.texts, tokenizer, lengths), ""]
    singles = pairs.texts[:: max(1, len(pairs.texts) // SINGLES)][:SINGLES]
    measured = measure(subjects, pairs.texts, singles, probes, threads=given.threads, rounds=given.rounds)
    found = figures(measured, pairs, len(running))
    print_table(found)
    print(
        f"{processor()}, {given.threads} threads; {len(pairs.texts)} sentences in batches of 32, {given.rounds} rounds"
    )
    print(f"openvino-qint8: their default configuration, {SAMPLES} sentences of SST-2's training split from a file")
    met = targets(found)
    run = {"processor": processor(), "threads": given.threads, "sentences": len(pairs.texts)}
    write_json(given.json, {**run, "encoders": [vars(f) for f in found], "targets": met})
    for text, ok in met.items():
        print("met   " if ok else "MISSED", text)
    sys.exit(0 if all(met.values()) else "a target is missed")


def our_subjects(teacher: Bundle, bundle: Bundle) -> list[Subject]:
    """The teacher in torch, and int8 and fp32 of both engines of the bundle."""
    weights = (teacher.root / "model.safetensors").stat().st_size
    made = [Subject("EdgeBERT torch fp32", teacher.source, "edgebert", "torch", weights)]
    for engine in ENGINES:
        for precision in ("int8", "fp32"):
            fitting = [a for a in bundle.manifest.artifacts.values() if (a.engine, a.precision) == (engine, precision)]
            if len(fitting) != 1:
                sys.exit(f"{bundle.source} has {len(fitting)} artifacts for {engine} {precision}; one is needed")
            size = sum(bundle.manifest.files[name].size for name in fitting[0].files)
            name = f"EdgeBERT {ENGINES[engine]} {precision}"
            made.append(Subject(name, bundle.source, "edgebert", engine, size, precision=precision))
    return made


def figures(measured: list[Measured], pairs: Pairs, running: int) -> list[Figures]:
    """The figures of every subject; the first one is the reference. running: how many probes are running text."""
    reference = measured[0]
    torch = max(
        (m for m in measured if m.subject.engine == "torch"), key=lambda m: statistics.median(m.speeds)
    )  # the faster one: a ratio to the slower would flatter
    score = pairs.spearman(reference.texts)
    found = []
    for m in measured:
        cosines, probes = row_cosines(m.texts, reference.texts), row_cosines(m.probes, reference.probes)
        spearman = pairs.spearman(m.texts)
        found.append(
            Figures(
                m.subject.name, m.subject.engine, statistics.median(m.speeds), m.speeds,
                ratio(m.speeds, torch.speeds), statistics.median(m.alone_ms), spearman, 100 * spearman / score,
                float(cosines.mean()), float(cosines.min()), float(probes[:running].min()),
                float(probes[running:].min()), m.subject.size / 1e6, m.versions,
            )
        )  # fmt: skip
    return found


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of the same rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def targets(found: list[Figures]) -> dict[str, bool]:
    """Each target in words with its numbers, and whether it is met."""
    met = {}
    for engine, name in ENGINES.items():
        own = next(f for f in found if f.name == f"EdgeBERT {name} int8")
        met[f"{name} int8 keeps {own.kept:.2f} % of fp32's Spearman, at least {KEPT[engine]} %"] = (
            own.kept >= KEPT[engine]
        )
        met[f"{name} int8 is {own.to_torch:.2f} times as fast as torch fp32, at least {SPEED[engine]}"] = (
            own.to_torch >= SPEED[engine]
        )
        for peer in (f for f in found if f.engine == PEERS[engine] and "sentence-transformers" in f.name):
            times = ratio(own.speeds, peer.speeds)
            met[f"{name} int8 is {times:.2f} times as fast as {peer.name}, at least 1"] = times >= 1
            met[
                f"{name} int8 is nearer to fp32 than {peer.name}: mean cosine {own.mean_cosine:.5f}, "
                f"theirs {peer.mean_cosine:.5f}"
            ] = own.mean_cosine > peer.mean_cosine
    return met


def print_table(found: list[Figures]) -> None:
    head = [
        "encoder", "sentences/s", "to torch", "p50 ms", "Spearman", "% kept", "mean cosine", "min", "running min",
        "degenerate min", "MB",
    ]  # fmt: skip
    rows = [
        [
            f.name, f"{f.sentences_s:.0f}", f"{f.to_torch:.2f}x", f"{f.p50_ms:.2f}", f"{f.spearman:.2f}",
            f"{f.kept:.2f}", f"{f.mean_cosine:.5f}",
            *(f"{c:.4f}" for c in (f.min_cosine, f.running_cosine, f.degenerate_cosine)), f"{f.size_mb:.1f}",
        ]
        for f in found
    ]  # fmt: skip
    show(head, rows)


def processor() -> str:
    """The processor's name where the system tells it, and what of int8 and bf16 it knows."""
    known = {"avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"}
    return " ".join([processor_name(), *sorted(known & set(facts().split()))])


if __name__ == "__main__":
    main()
