"""What int8 keeps of a model's quality: Spearman correlation on a file of sentence pairs, and cosine to torch fp32.

    python benchmarks/retention.py --data DATA --bundle BUNDLE --test stsb_en/test.jsonl.gz

The test is a file of the data folder with the columns text, text_pair and score. A model with a prompt "query" gets it
before both sentences, as e5 wants it where a test is symmetric; others get their default. Exit 1 when one of the
bundle's int8 artifacts keeps less than --min-retention, or is farther from fp32 than --min-mean-cosine.
"""

from __future__ import annotations

import sys

from common import Pairs, data_file, parser

from edgebert.bundle import Bundle
from edgebert.models import open_model
from edgebert.table import show
from edgebert.vectors import Vectors, row_cosines

QUERY = "query"


def main() -> None:
    options = parser(__doc__, teacher=False, bundle=True)
    options.add_argument("--test", required=True, help="such as stsb_en/test.jsonl.gz")
    options.add_argument("--min-retention", type=float, default=0.995)
    options.add_argument("--min-mean-cosine", type=float, default=0.99)
    options.add_argument("--threads", type=int)
    given = options.parse_args()
    pairs = Pairs.read(data_file(given.data, given.test))
    bundle = Bundle.open(given.bundle)
    int8 = {name: a for name, a in bundle.manifest.artifacts.items() if a.precision == "int8"}
    if not int8:
        sys.exit(f"{given.bundle} has no int8 artifact: run `edgebert quantize` first")
    prompt_name = QUERY if QUERY in bundle.manifest.prompts else bundle.manifest.default_prompt_name
    prompt = bundle.manifest.prompts[prompt_name] if prompt_name else ""
    reference = vectors(bundle, pairs, "torch", "fp32", prompt, given.threads)
    score = pairs.spearman(reference)
    rows = [["torch fp32", f"{score:.2f}", "", "", "", f"{_weights(bundle) / 1e6:.1f}"]]
    missed = []
    for name, artifact in int8.items():
        found = vectors(bundle, pairs, artifact.engine, "int8", prompt, given.threads)
        cosines, kept = row_cosines(found, reference), pairs.spearman(found) / score
        size = sum(bundle.manifest.files[file].size for file in artifact.files) / 1e6
        rows.append(
            [
                name, f"{pairs.spearman(found):.2f}", f"{100 * kept:.2f}", f"{cosines.mean():.5f}",
                f"{cosines.min():.5f}", f"{size:.1f}",
            ]
        )  # fmt: skip
        if kept < given.min_retention:
            missed.append(f"{name} keeps {kept:.4f} of the Spearman correlation, at least {given.min_retention}")
        if cosines.mean() < given.min_mean_cosine:
            missed.append(f"{name} has a mean cosine of {cosines.mean():.5f}, at least {given.min_mean_cosine}")
    show([given.test, "Spearman x 100", "% kept", "mean cosine", "min cosine", "MB"], rows)
    print(f"{len(pairs.scores)} pairs; " + (f"prompt {prompt_name}: {prompt!r}" if prompt_name else "no prompt"))
    sys.exit("; ".join(missed) or 0)


def vectors(bundle: Bundle, pairs: Pairs, engine: str, precision: str, prompt: str, threads: int | None) -> Vectors:
    """The vectors of all sentences in one form of the model. Shape: (sentences, dimension)."""
    with open_model(bundle.root, engine=engine, precision=precision, threads=threads) as encoder:
        return encoder.encode(pairs.texts, prompt=prompt)


def _weights(bundle: Bundle) -> int:
    return bundle.manifest.files["model.safetensors"].size


if __name__ == "__main__":
    main()
