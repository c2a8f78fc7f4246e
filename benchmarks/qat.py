"""What quantization-aware training is worth: students with and without it, their int8 forms, and what int8 loses.

    python benchmarks/qat.py --data DATA --teacher MODEL --work FOLDER [--sentences N] [--layers 3 2] [--shares 0 0.25]

The same student, text and seed for every share; 0 is plain training. Students and bundles stay in the work folder; what
is there is not made again. Scores are Spearman x 100 on STS-B English: on the dev split, by which the default share may
be chosen, or with `--split test` on the test split, which chooses nothing. Cosines to torch fp32 are those that
`edgebert quantize` proved, over every length, on ordinary and degenerate text; the recipe is the one it took.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common import data_file, parser, similarity

from edgebert.bundle import Bundle
from edgebert.table import show

ENGINES = ("openvino", "onnxruntime")
HEAD = ["student", "share", "minutes", "fp32", "engine", "int8", "% of fp32"]
HEAD += ["cosine mean", "min", "degenerate min", "recipe"]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--sentences", type=int, default=20_000)
    options.add_argument("--epochs", type=float, default=3.0)
    options.add_argument("--layers", type=int, nargs="+", default=[3, 2])
    options.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.25])
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--split", choices=["dev", "test"], default="dev")
    given = options.parse_args()
    corpus = data_file(given.data, "sentences_en/permissive.tsv.gz")
    pairs = data_file(given.data, f"stsb_en/{given.split}.jsonl.gz")
    given.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for layers, seed, share in ((n, s, q) for n in given.layers for s in given.seeds for q in given.shares):
        name = f"{layers}-layer-{given.sentences}x{given.epochs:g}-seed{seed}-qat{share:g}"
        recipe = f"[student]\nlayers = {layers}\n[data]\nmax_sentences = {given.sentences}\n"
        recipe += f"[training]\nepochs = {given.epochs}\nseed = {seed}\nqat = {share}\n"
        student, bundle = _made(given.work, name, given.teacher, corpus, recipe)
        rows += [[f"{layers}-layer, seed {seed}", f"{share:g}", *cells] for cells in _rows(student, bundle, pairs)]
    print(f"STS-B English, {given.split} split")
    show(HEAD, rows)


def _made(work: Path, name: str, teacher: str, corpus: Path, recipe: str) -> tuple[Path, Path]:
    student, bundle, recipe_file = work / f"student-{name}", work / f"int8-{name}", work / f"{name}.toml"
    common = [sys.executable, "-m", "edgebert"]
    recipe_file.write_text(recipe, encoding="utf-8")
    if not student.exists():
        given = ["--corpus", corpus, "--recipe", recipe_file, "-o", student]
        subprocess.run([*common, "distill", teacher, *given], check=True)
    if not bundle.exists():
        subprocess.run([*common, "quantize", student, "--calibration", corpus, "-o", bundle], check=True)
    return student, bundle


def _rows(student: Path, bundle: Path, pairs: Path) -> list[list[str]]:
    """One row an engine: minutes and fp32 score of the student, its int8's score, share kept, cosines, recipe."""
    lineage, artifacts = Bundle.open(student).manifest.lineage, Bundle.open(bundle).manifest.artifacts
    plain, rows = similarity(student, pairs), []
    for engine in ENGINES:
        artifact, int8 = artifacts[f"{engine}-int8"], similarity(bundle, pairs, engine=engine, precision="int8")
        parity = artifact.parity
        assert parity is not None
        cosines = (parity.ordinary_mean, parity.ordinary_min, parity.degenerate_min)
        cells = [f"{lineage['training_seconds'] / 60:.1f}", f"{plain:.2f}", engine, f"{int8:.2f}"]
        cells += [f"{100 * int8 / plain:.2f}", *(f"{cosine:.4f}" for cosine in cosines)]
        rows.append([*cells, str(artifact.recipe["name"])])
    return rows


if __name__ == "__main__":
    main()
