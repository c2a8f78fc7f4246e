"""What compact vectors keep of a model's retrieval: nDCG@10 on SciFact's test queries, by exact search.

    python benchmarks/vector_codes.py --data DATA --bundle BUNDLE

The corpus is embedded once; int8, binary and truncated forms are made from the same float32 vectors. Nothing is tuned
on the test queries. Exit 1 when at the full dimension int8 keeps less than 99 % of float32, or binary rescored with
float vectors less than 97 %.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from common import data_file, parser, write_json

import edgebert
from edgebert.compact import to_binary, to_int8
from edgebert.nearest import Found, search
from edgebert.table import show
from edgebert.texts import read_rows
from edgebert.vectors import Vectors

DEPTH = 11  # one more than is scored: a document with the query's own id is left out, as in BEIR
TARGETS = {"int8": 0.99, "binary, float rescoring": 0.97}


@dataclass(frozen=True)
class Kept:
    """nDCG@10 of one form of the vectors, its share of float32's at the full dimension, bytes a document searched."""

    form: str
    dimension: int
    ndcg: float
    kept: float
    bytes: int


def main() -> None:
    options = parser(__doc__, teacher=False, bundle=True, figures=True)
    options.add_argument("--dims", type=int, nargs="*", default=[256, 128, 64], help="truncated dimensions besides")
    options.add_argument("--threads", type=int)
    given = options.parse_args()
    documents = {row["id"]: row for row in read_rows(data_file(given.data, "scifact/corpus.jsonl.gz"))}
    queries = {row["id"]: row["text"] for row in read_rows(data_file(given.data, "scifact/queries_test.jsonl.gz"))}
    judged = list(read_rows(data_file(given.data, "scifact/qrels_test.jsonl.gz")))
    with edgebert.load(given.bundle, threads=given.threads) as encoder:
        corpus = encoder.encode_document(
            [f"{row.get('title') or ''} {row['text']}".strip() for row in documents.values()]
        )
        asked = encoder.encode_query(list(queries.values()))
        ran = encoder.runs
    found = measured(asked, corpus, list(queries), list(documents), judged, given.dims)
    rows = [[k.form, str(k.dimension), f"{k.ndcg:.4f}", f"{100 * k.kept:.2f}", str(k.bytes)] for k in found]
    show(["SciFact test", "dim", "nDCG@10", "% kept", "bytes"], rows)
    print(f"{len(queries)} queries, {len(documents)} documents; {given.bundle.name} by {ran}")
    write_json(given.json, [asdict(k) for k in found])
    sys.exit("; ".join(missed(found)) or 0)


def measured(
    asked: Vectors, corpus: Vectors, queries: list[str], documents: list[str], judged: list[dict[str, Any]],
    dims: list[int],
) -> list[Kept]:  # fmt: skip
    """Every form at the full dimension and at `dims`. Shape: asked (queries, dim), corpus (documents, dim)."""
    kept: list[Kept] = []
    for dim in [corpus.shape[1], *dims]:
        for form, size, found in forms(asked[:, :dim], corpus[:, :dim]):
            score = ndcg(found, queries, documents, judged)
            kept.append(Kept(form, dim, score, score / (kept[0].ndcg if kept else score), size))
    return kept


def forms(asked: Vectors, corpus: Vectors) -> Iterator[tuple[str, int, Found]]:
    """Each form's name, bytes a document that the search goes through, and what it finds."""
    dim, int8, binary = corpus.shape[1], to_int8(corpus), to_binary(corpus)
    yield "float32", 4 * dim, search(asked, corpus, DEPTH)
    yield "int8", dim, search(to_int8(asked), int8, DEPTH)
    yield "binary", binary.bits.shape[1], search(asked, binary, DEPTH)
    yield "binary, float rescoring", binary.bits.shape[1], search(asked, binary, DEPTH, rescore=corpus)
    yield "binary, int8 rescoring", binary.bits.shape[1], search(asked, binary, DEPTH, rescore=int8)


def ndcg(found: Found, queries: list[str], documents: list[str], judged: list[dict[str, Any]]) -> float:
    """nDCG@10 of what was found."""
    import ir_measures as ir

    run = [
        ir.ScoredDoc(query, documents[number], -float(rank))
        for query, numbers in zip(queries, found.indices, strict=True)
        for rank, number in enumerate(numbers)
        if documents[number] != query
    ]
    qrels = [ir.Qrel(row["query_id"], row["doc_id"], int(row["score"])) for row in judged]
    return float(ir.calc_aggregate([ir.nDCG @ 10], qrels, run)[ir.nDCG @ 10])


def missed(found: list[Kept]) -> list[str]:
    """The targets that are not met, in words."""
    full = found[0].dimension
    return [
        f"{k.form} keeps {k.kept:.4f} of float32's nDCG@10, at least {TARGETS[k.form]}"
        for k in found
        if k.dimension == full and k.kept < TARGETS.get(k.form, 0.0)
    ]


if __name__ == "__main__":
    main()
