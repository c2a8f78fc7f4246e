"""What spreading outlier channels over int8 columns costs and gains, beside the float product, by the same recipe.

    python benchmarks/split_outliers.py --data DATA --bundle BUNDLE --test stsb_en/test.jsonl.gz [--recipe outliers-8]

Both graphs are made anew from the bundle's fp32 file, calibrated with --text, and compared with that file on the
sentences of the test: cosines, Spearman correlation kept. Then both run in turns on random tokens, batches of 32.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from common import Pairs, data_file, parser

from edgebert.batching import pad
from edgebert.bundle import Bundle
from edgebert.engines import open_engine
from edgebert.engines.base import Engine
from edgebert.manifest import Artifact
from edgebert.quantize.calibration import calibration
from edgebert.quantize.context import Context
from edgebert.quantize.export import export_openvino
from edgebert.quantize.passes.split_outliers import SplitOutliers
from edgebert.quantize.recipe import Recipe, find_recipe
from edgebert.table import show
from edgebert.texts import read_texts
from edgebert.tokenizer import Tokenizer, open_tokenizer
from edgebert.vectors import Vectors, row_cosines

LENGTHS = (24, 128)


def main() -> None:
    options = parser(__doc__, teacher=False, bundle=True)
    options.add_argument("--test", required=True, help="such as stsb_en/test.jsonl.gz")
    options.add_argument("--text", default="sentences_en/permissive.tsv.gz", help="of the data folder, for calibration")
    options.add_argument("--recipe", default="outliers-8")
    options.add_argument("--rounds", type=int, default=15)
    given = options.parse_args()
    bundle, recipe = Bundle.open(given.bundle), find_recipe(given.recipe)
    without = tuple(one for one in recipe.passes if not isinstance(one, SplitOutliers))
    texts = read_texts([data_file(given.data, given.text)])
    pairs = Pairs.read(data_file(given.data, given.test))
    tokenizer = open_tokenizer(bundle)
    with tempfile.TemporaryDirectory() as name:
        both = {"split": recipe, "float": dataclasses.replace(recipe, passes=without)}
        built = build(bundle, both, texts, Path(name))
        engines = {key: open_engine(built, key, threads=1) for key in built.manifest.artifacts}
        lengths = [min(length, bundle.manifest.max_length) for length in LENGTHS]
        times = timed({key: engine for key, engine in engines.items() if "fp32" not in key}, lengths, given.rounds)
        exact = vectors(engines["onnxruntime-fp32"], tokenizer, bundle, pairs)
        rows = []
        for key, cells in times.items():
            found = vectors(engines[key], tokenizer, bundle, pairs)
            cosines, kept = row_cosines(found, exact), 100 * pairs.spearman(found) / pairs.spearman(exact)
            rows.append([key, f"{kept:.2f}", f"{cosines.mean():.5f}", f"{cosines.min():.5f}", *cells])
    show(["outliers", "% kept", "mean cosine", "min", *(f"ms, 32 x {length}" for length in lengths)], rows)


def build(bundle: Bundle, recipes: Mapping[str, Recipe], texts: Iterable[str], folder: Path) -> Bundle:
    """The bundle with the int8 files of each recipe in both engines, beside its fp32 ones."""
    from edgebert.distill.encoder import load_tokenizer

    fp32 = bundle.manifest.artifacts["onnxruntime-fp32"]
    rows = calibration(texts, load_tokenizer(bundle), max_length=bundle.manifest.max_length, samples=200).rows
    exported = Path(shutil.copy(bundle.path(fp32.files[0]), folder / "fp32.onnx"))
    context = Context(exported, rows, fp32.inputs, bundle.manifest.pad_token_id, folder)
    artifacts = {"onnxruntime-fp32": dataclasses.replace(fp32, files=(exported.name,))}
    for name, recipe in recipes.items():
        path = folder / f"{name}.onnx"
        onnx.save(recipe.run(context), path)
        export_openvino(path, path.with_suffix(".xml"), "int8", fp32.inputs)
        artifacts[f"{name}, ONNX Runtime"] = Artifact("onnxruntime", "int8", (path.name,), fp32.inputs)
        artifacts[f"{name}, OpenVINO"] = Artifact("openvino", "int8", (f"{name}.xml", f"{name}.bin"), fp32.inputs)
    return dataclasses.replace(bundle, root=folder, manifest=dataclasses.replace(bundle.manifest, artifacts=artifacts))


def vectors(engine: Engine, tokenizer: Tokenizer, bundle: Bundle, pairs: Pairs) -> Vectors:
    """Shape: (sentences, dimension). One sentence at a time, so that nothing of it depends on a batch."""
    prompt = bundle.manifest.prompts.get("query", "")
    rows = [tuple(one.ids[: bundle.manifest.max_length]) for one in tokenizer([prompt + text for text in pairs.texts])]
    return np.concatenate([engine.embed(*pad([row], bundle.manifest.pad_token_id)) for row in rows])


def timed(engines: Mapping[str, Engine], lengths: Iterable[int], rounds: int) -> dict[str, list[str]]:
    """The least and the median of each engine's milliseconds at each length, in turns."""
    cells: dict[str, list[str]] = {name: [] for name in engines}
    for length in lengths:
        ids = np.random.default_rng(0).integers(5, 100, (32, length))
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(1 + rounds):
            for name, engine in engines.items():
                start = time.perf_counter()
                engine.embed(ids, np.ones_like(ids))
                times[name].append(1e3 * (time.perf_counter() - start))
        for name, found in times.items():
            cells[name].append(f"{min(found[1:]):.1f} ({statistics.median(found[1:]):.1f})")
    return cells


if __name__ == "__main__":
    main()
