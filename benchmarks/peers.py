"""EdgeBERT's runtime side by side with its peers on one model: speed, single texts, cold starts, memory, padding.

    python benchmarks/peers.py --data DATA --teacher MODEL --bundle BUNDLE --work FOLDER [--only speed,alone]

The peers have the same weights, in sentence-transformers' own int8 exports, the same threads and texts cut at the same
length, each in a process of its own and, where versions demand it, an environment of its own, made in the work folder
at the first run. Each runs as its documentation has it: sentence-transformers in torch, ONNX and OpenVINO (default and
f32), fastembed in its batches of 256, optimum-intel's class with pooling by hand (default as texts come, f32 sorted by
length), and ONNX Runtime plainly, as texts come and sorted. Every one is first held against torch fp32: one that gives
other vectors is not the same model.

Texts: the sentences of the STS-B English test; "mixed", 5 to 200 words each (see `drawn.mixed_texts`); abstracts of
SciFact. Rounds are taken in turns; ratios are to the best int8 peer of each measure in this run, with 95 % intervals
from resampled rounds. Exit 1 when a peer does not run or a target is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from cold import cold_starts, imports
from common import Pairs, data_file, parser, write_json
from drawn import long_texts, mixed_texts, sentence_rows, short_texts
from exports import other_subjects, peer_subjects
from int8 import processor
from padding import padded_shares
from paired import paired_ratio
from verdicts import (
    ALONE,
    MIXED,
    Target,
    alone_targets,
    best,
    cold_targets,
    import_targets,
    padding_targets,
    speed_targets,
)  # fmt: skip
from workers import Subject, in_turns, say, serving, vectors_of

from edgebert.bundle import Bundle
from edgebert.table import show
from edgebert.texts import read_rows
from edgebert.tokenizer import open_tokenizer
from edgebert.vectors import row_cosines
from edgebert.worker import Worker

MEASURES = ("alone", "speed", "cold", "imports", "padding")
OURS = "EdgeBERT"
SAME_MODEL = 0.95  # mean cosine to torch fp32


def main() -> None:
    given = options()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] - a long run shows what it has
    calibration = data_file(given.data, "sst2/train.jsonl.gz")
    teacher = Bundle.from_pretrained(given.teacher)
    sets, singles = all_texts(teacher, given)
    peers = [*peer_subjects(teacher, given.work, calibration), *other_subjects(teacher, given.work, calibration)]
    subjects = [*our_subjects(given.bundle), *peers]
    rivals = [subject.name for subject in peers if subject.engine != "torch"]
    report: dict[str, Any] = {"processor": processor(), "threads": given.threads, "rounds": given.rounds}
    found: list[Target] = []
    with serving(subjects, {**sets, **singles}, threads=given.threads) as workers:
        report["encoders"] = {s.name: w.hello for s, w in zip(subjects, workers, strict=True)}
        report["mean_cosines"] = same_model(subjects, workers, sets)
        if "alone" in given.only:
            report["alone_ms"] = asked(subjects, workers, "alone", singles, given.rounds)
            found += alone_targets(report["alone_ms"], OURS, rivals)
            print_alone(report["alone_ms"])
        if "speed" in given.only:
            report["sentences_s"] = asked(subjects, workers, "batches", sets, given.rounds)
            found += speed_targets(report["sentences_s"], OURS, rivals)
            print_speeds(report["sentences_s"], rivals)
    engines = {name: hello["engine"] for name, hello in report["encoders"].items()}
    found += small_measures(given, report, subjects, engines, rivals, sets)
    conclude(given, report, found)


def options() -> argparse.Namespace:
    made = parser(__doc__, bundle=True, figures=True)
    made.add_argument("--work", type=Path, required=True, help="keeps the peers' environments and exports")
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--only", default=",".join(MEASURES), help="some of the measures, with commas")
    made.add_argument("--limit", type=int, help="so many texts of each set, for trying")
    given = made.parse_args()
    given.only = given.only.split(",")
    if unknown := [name for name in given.only if name not in MEASURES]:
        made.error(f"--only: no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    if given.rounds < 1:
        made.error(f"--rounds is {given.rounds}; it must be 1 or more")
    return given


def our_subjects(bundle: Path) -> list[Subject]:
    """`edgebert.load` as it comes, and each engine by name."""
    named = [Subject(f"{OURS} {engine}", str(bundle), "edgebert", engine, 0) for engine in ("openvino", "onnxruntime")]
    return [Subject(OURS, str(bundle), "edgebert", "auto", 0), *named]


def all_texts(teacher: Bundle, given: argparse.Namespace) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The sets that are encoded in batches, and those that are encoded one text at a time."""
    stsb = Pairs.read(data_file(given.data, "stsb_en/test.jsonl.gz")).texts
    rows = sentence_rows(data_file(given.data, "sentences_en/permissive.tsv.gz"))
    abstracts = [row["text"] for row in read_rows(data_file(given.data, "scifact/corpus.jsonl.gz"))]
    sets = {"STS-B": stsb, MIXED: mixed_texts(rows, 1000), "SciFact": abstracts[:: max(1, len(abstracts) // 500)][:500]}
    tokenizer, short, long = open_tokenizer(teacher), *ALONE
    singles = {short: short_texts(stsb, tokenizer, 200), long: long_texts(stsb, tokenizer, 100)}
    return ({name: texts[: given.limit] for name, texts in of.items()} for of in (sets, singles))  # type: ignore[return-value]


def same_model(
    subjects: Sequence[Subject], workers: Sequence[Worker], sets: Mapping[str, list[str]]
) -> dict[str, float]:
    """The least of the sets' mean cosines of every encoder with torch fp32. Ends the program where it is too small."""
    say("comparing vectors")
    vectors = [{name: vectors_of(worker, name) for name in sets} for worker in workers]
    reference = vectors[next(i for i, subject in enumerate(subjects) if subject.engine == "torch")]
    found = {}
    for subject, own in zip(subjects, vectors, strict=True):
        found[subject.name] = min(float(row_cosines(own[name], reference[name]).mean()) for name in sets)
        if found[subject.name] < SAME_MODEL:
            sys.exit(f"{subject.name} gives other vectors than torch fp32: mean cosine {found[subject.name]:.3f}")
    return found


def asked(
    subjects: Sequence[Subject], workers: Sequence[Worker], do: str, sets: Mapping[str, list[str]], rounds: int
) -> dict[str, dict[str, list[Any]]]:
    """set -> encoder -> what each round gave: sentences a second, or the milliseconds of every text."""
    found = {}
    for name in sets:
        say(f"{do}: {name}")
        answers = in_turns(workers, lambda w, name=name: w.ask({"do": do, "set": name}), rounds)  # type: ignore[misc]
        found[name] = {s.name: [next(iter(a.values())) for a in of] for s, of in zip(subjects, answers, strict=True)}
    return found


def small_measures(
    given: argparse.Namespace, report: dict[str, Any], subjects: Sequence[Subject], engines: Mapping[str, str],
    rivals: Sequence[str], sets: Mapping[str, list[str]],
) -> list[Target]:  # fmt: skip
    """Cold starts, imports and padding, as far as they are asked for; put into the report and printed."""
    found: list[Target] = []
    text, settings = sets["STS-B"][0], {"threads": given.threads, "rounds": given.rounds}
    if "cold" in given.only:
        cold = cold_starts(subjects, engines, text, **settings)
        report["cold"] = {name: vars(of) for name, of in cold.items()}
        found += cold_targets(cold, OURS, rivals)
        found += cold_targets(cold, f"{OURS} onnxruntime", rivals)  # what is documented for quick starts
        head = [
            "from a fresh process",
            "first vector ms",
            "bare imports ms",
            "added ms",
            "first MB",
            "bare MB",
            "added MB",
        ]
        show(head, [[name, *of.row()] for name, of in cold.items()])
    if "imports" in given.only:
        report["imports_s"] = imports(subjects[0], engines[OURS], text, **settings)
        found += import_targets(report["imports_s"])
        show(["imports", "ms"], [[n, f"{1e3 * np.median(s):.0f}"] for n, s in report["imports_s"].items()])
    if "padding" in given.only:
        report["padding"] = padded_shares(given.bundle, sets, threads=given.threads)
        found += padding_targets(report["padding"])
    return found


def print_speeds(speeds: Mapping[str, Mapping[str, list[float]]], rivals: Sequence[str]) -> None:
    """Sentences a second, and the ratio to the set's best int8 peer."""
    head, rows = ["sentences/s"], {name: [name] for of in speeds.values() for name in of}
    for name, of in speeds.items():
        peer = best({n: float(np.median(s)) for n, s in of.items()}, rivals, most=True)
        head += [name, "to best peer"]
        for encoder, values in of.items():
            rows[encoder] += [f"{np.median(values):.0f}", str(paired_ratio(values, of[peer]))]
    show(head, list(rows.values()))


def print_alone(alone: Mapping[str, Mapping[str, list[list[float]]]]) -> None:
    """Milliseconds of one text."""
    head, rows = ["one text, ms"], {name: [name] for of in alone.values() for name in of}
    for name, of in alone.items():
        head += [f"{name} p50", "p99"]
        for encoder, values in of.items():
            rows[encoder] += [f"{np.percentile(values, q):.2f}" for q in (50, 99)]
    show(head, list(rows.values()))


def conclude(given: argparse.Namespace, report: dict[str, Any], found: Sequence[Target]) -> None:
    """Versions and targets; exit 1 where one is missed."""
    for name, hello in report["encoders"].items():
        print(f"{name}: {hello['engine']}; {', '.join(f'{p} {v}' for p, v in hello['versions'].items())}")
    print(f"{processor()}, {given.threads} threads, {given.rounds} rounds" + (", a trial" if given.limit else ""))
    report["targets"] = [asdict(target) for target in found]
    write_json(given.json, report)
    for target in found:
        print("met   " if target.met else "MISSED", target.text)
    sys.exit(0 if all(target.met for target in found) else "a target is missed")


if __name__ == "__main__":
    main()
