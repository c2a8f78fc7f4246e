"""Size and quality of a model whose vocabulary was trimmed to a text, on a file of sentence pairs.

    python benchmarks/trimming.py --data DATA --teacher MODEL --test stsb_en/test.jsonl.gz --keep 9500
    python benchmarks/trimming.py --data DATA --teacher MODEL --test stsb_zh/test.jsonl.gz --chinese --coverage 0.9995

The text is a sample of `sentences_en/permissive.tsv.gz` without three of its sources, of which data sets are made, and
with --chinese as many lines at most of `sentences_zh/sharealike_or_permissive.tsv.gz`. Vectors are those of torch in
fp32. A model with a prompt "query" gets it before both sentences. Exit 1 when less than --min-smaller of the files is
saved, or less than --min-retention of the Spearman correlation kept.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from common import Pairs, data_file, parser, write_json

from edgebert.bundle import Bundle
from edgebert.distill.readings import describe
from edgebert.distill.trim import trim
from edgebert.models import open_model
from edgebert.table import show
from edgebert.texts import read_rows
from edgebert.vectors import row_cosines

LEFT_OUT = ("scifact_abstracts", "banking77", "clinc150")
QUERY = "query"


def main() -> None:
    options = parser(__doc__, figures=True)
    options.add_argument("--test", required=True, help="such as stsb_en/test.jsonl.gz")
    options.add_argument("--chinese", action="store_true", help="Chinese text too")
    options.add_argument("--sentences", type=int, default=200_000, help="of each language at most")
    options.add_argument("--keep", type=int)
    options.add_argument("--coverage", type=float)
    options.add_argument("--min-smaller", type=float, default=0.35)
    options.add_argument("--min-retention", type=float, default=0.995)
    options.add_argument("--threads", type=int)
    given = options.parse_args()
    pairs = Pairs.read(data_file(given.data, given.test))
    names = ["sentences_en/permissive.tsv.gz"]
    names += ["sentences_zh/sharealike_or_permissive.tsv.gz"] if given.chinese else []
    teacher = Bundle.from_pretrained(given.teacher)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = [_sample(data_file(given.data, name), folder / f"{i}.txt", given.sentences)
                  for i, name in enumerate(names)]  # fmt: skip
        made = trim(teacher, corpus, folder / "trimmed", keep=given.keep, coverage=given.coverage)
        facts = made.manifest.lineage["vocabulary"]
        print(describe(facts))
        before, after = (_vectors(model, pairs, given.threads) for model in (given.teacher, made.root))
        sizes = [_size(teacher.root), _size(made.root)]
    scores = [pairs.spearman(vectors) for vectors in (before, after)]
    smaller, kept = 1 - sizes[1] / sizes[0], scores[1] / scores[0]
    cosine = float(row_cosines(before, after).mean())
    show(
        [given.test, "tokens", "MB", "Spearman x 100", "% kept", "mean cosine"],
        [["before", str(facts["tokens_before"]), f"{sizes[0] / 1e6:.1f}", f"{scores[0]:.2f}", "", ""],
         ["trimmed", str(facts["tokens"]), f"{sizes[1] / 1e6:.1f}", f"{scores[1]:.2f}", f"{100 * kept:.2f}",
          f"{cosine:.4f}"]],
    )  # fmt: skip
    print(f"{100 * smaller:.1f} % smaller")
    write_json(given.json, {"vocabulary": facts, "bytes": sizes, "spearman": scores, "mean_cosine": cosine})
    sys.exit(0 if smaller >= given.min_smaller and kept >= given.min_retention else "a target is missed")


def _sample(source: Path, path: Path, count: int) -> Path:
    """Writes `count` lines of `source`, always the same ones, to `path`."""
    lines = [str(row["text"]) for row in read_rows(source) if row["source"] not in LEFT_OUT]
    random.Random(0).shuffle(lines)
    path.write_text("".join(f"{line}\n" for line in lines[:count]), encoding="utf-8")
    return path


def _vectors(model: str | Path, pairs: Pairs, threads: int | None):
    with open_model(str(model), engine="torch", precision="fp32", threads=threads) as encoder:
        prompts = encoder.bundle.manifest.prompts
        return encoder.encode(pairs.texts, prompt=prompts.get(QUERY))


def _size(folder: Path) -> int:
    """The bytes that a program needs of the model: weights, configuration and tokenizer."""
    names = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
    return sum((folder / name).stat().st_size for name in names if (folder / name).exists())


if __name__ == "__main__":
    main()
