"""Quality of 3-layer students of MiniLM-L6 and of their int8 forms on the STS-B English test, over several seeds.

    python benchmarks/student.py --data DATA --teacher MODEL --work FOLDER

Students and bundles stay in the work folder; what is there is not made again. Nothing is tuned on the test split.
Exit 1 when a target is missed: median 80.4 after at most 30 minutes, int8 at 99.5 % (OpenVINO) and 99 % (ONNX Runtime).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from common import data_file, parser, similarity

from edgebert.bundle import Bundle
from edgebert.table import show

SENTENCES = 60_000
TARGET, OPENVINO, ONNXRUNTIME, MINUTES = 80.4, 0.995, 0.99, 30.0


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = options.parse_args()
    corpus = data_file(given.data, "sentences_en/permissive.tsv.gz")
    test = data_file(given.data, "stsb_en/test.jsonl.gz")
    rows = [["teacher", "", *_row(similarity(given.teacher, test))]]
    scores, kept, minutes = [], {"openvino": [], "onnxruntime": []}, []
    for seed in given.seeds:
        student, bundle = _made(given.work, seed, given.teacher, corpus)
        score = similarity(student, test)
        scores.append(score)
        minutes.append(Bundle.open(student).manifest.lineage["training_seconds"] / 60)
        rows.append([f"student, seed {seed}", f"{minutes[-1]:.1f}", *_row(score)])
        for engine in kept:
            found = similarity(bundle, test, engine=engine, precision="int8")
            kept[engine].append(found / score)
            rows.append([f"  {engine} int8", "", *_row(found), f"{100 * found / score:.2f}"])
    show(
        ["STS-B English test", "training minutes", "Spearman x 100", "% of its fp32"],
        [row + [""] * (4 - len(row)) for row in rows],
    )
    median = statistics.median(scores)
    worst = {engine: min(ratios) for engine, ratios in kept.items()}
    print(f"median of {len(scores)} seeds: {median:.2f}; least kept by int8: {json.dumps(worst)}")
    ok = median >= TARGET and worst["openvino"] >= OPENVINO and worst["onnxruntime"] >= ONNXRUNTIME
    sys.exit(0 if ok and statistics.median(minutes) <= MINUTES else "a target is missed")


def _made(work: Path, seed: int, teacher: str, corpus: Path) -> tuple[Path, Path]:
    student, bundle = work / f"student-seed{seed}", work / f"int8-seed{seed}"
    common = [sys.executable, "-m", "edgebert"]
    if not student.exists():
        size = ["--max-sentences", str(SENTENCES), "--seed", str(seed)]
        subprocess.run([*common, "distill", teacher, "--corpus", corpus, *size, "-o", student], check=True)
    if not bundle.exists():
        subprocess.run([*common, "quantize", student, "--calibration", corpus, "-o", bundle], check=True)
    return student, bundle


def _row(score: float) -> list[str]:
    return [f"{score:.2f}"]


if __name__ == "__main__":
    main()
