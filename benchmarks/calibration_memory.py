"""Peak memory of a calibration: export, statistics of so many texts, the default recipe's graph.

    python benchmarks/calibration_memory.py --data DATA --teacher MODEL [--samples 2000]

Measured in a process of its own without torch's model in memory. Exit 1 above 3 GB.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from common import data_file, parser

from edgebert.bench import peak_memory_mb
from edgebert.bundle import Bundle
from edgebert.texts import read_texts

TARGET_MB = 3000.0


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--samples", type=int, nargs="+", default=[200, 2000])
    given = options.parse_args()
    corpus = data_file(given.data, "sentences_en/permissive.tsv.gz")
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with spawn.Pool(1) as pool:
            pool.apply(export, (given.teacher, path))
        peaks = []
        for samples in given.samples:
            with spawn.Pool(1) as pool:
                rows, seconds, peak = pool.apply(calibrate, (given.teacher, path, corpus, samples))
            peaks.append(peak)
            print(f"{samples} texts ({rows} rows with the made-up ones): {seconds:.0f} s, peak memory {peak:.0f} MB")
    sys.exit(0 if max(peaks) < TARGET_MB else f"above {TARGET_MB:.0f} MB")


def export(teacher: str, path: Path) -> None:
    """Writes the teacher as ONNX."""
    from edgebert.distill.encoder import load_encoder
    from edgebert.quantize.export import export_onnx

    bundle = Bundle.from_pretrained(teacher)
    export_onnx(load_encoder(bundle), bundle.manifest.architecture, path)


def calibrate(teacher: str, path: Path, corpus: Path, samples: int) -> tuple[int, float, float]:
    """Rows, seconds and the process's peak memory in MB."""
    from edgebert.quantize.calibration import calibration
    from edgebert.quantize.context import Context
    from edgebert.quantize.export import graph_inputs
    from edgebert.quantize.recipe import DEFAULT, RECIPES
    from edgebert.tokenizer import open_tokenizer

    manifest = Bundle.from_pretrained(teacher).manifest
    texts = itertools.islice(read_texts([corpus]), 0, 60 * samples, 60)
    tokenizer = open_tokenizer(Bundle.from_pretrained(teacher))
    rows = calibration(texts, tokenizer, max_length=manifest.max_length, samples=samples).rows
    inputs = graph_inputs(manifest.architecture)
    start = time.perf_counter()
    RECIPES[DEFAULT].run(Context(path, rows, inputs, manifest.pad_token_id, path.parent))
    return len(rows), time.perf_counter() - start, peak_memory_mb()


if __name__ == "__main__":
    main()
