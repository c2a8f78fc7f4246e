"""Search compact vectors in a vector store, USearch: int8 codes by their dot product, sign bits by Hamming distance.

    pip install edgebert usearch
    python examples/vector_store.py MODEL "what to look for" [--texts FILE] [-k 3]

MODEL is a bundle, a package or a Hub id. FILE holds one text a line; without it a few made-up ones are searched. The int8
index is searched as it is. The binary one gives four times as many candidates, which are ranked again by the codes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

import edgebert
from edgebert.compact import BinaryVectors, Int8Vectors
from edgebert.scores import scores

TEXTS = [
    "Hold the button for ten seconds to reset the router.",
    "The battery lasts about nine hours on one charge.",
    "Water the tomatoes early in the morning.",
    "A late train means the fare is paid back.",
    "Bread rises faster in a warm kitchen.",
    "The museum is closed on Mondays.",
    "Cats sleep for most of the day.",
    "Back up the photos before you change the phone.",
]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model")
    options.add_argument("query")
    options.add_argument("--texts", type=Path)
    options.add_argument("-k", type=int, default=3)
    given = options.parse_args()
    texts = given.texts.read_text(encoding="utf-8").splitlines() if given.texts else TEXTS
    with edgebert.load(given.model) as encoder:
        int8, binary = (encoder.encode_document(texts, precision=p) for p in ("int8", "binary"))
        query, signs = (encoder.encode_query(given.query, precision=p) for p in ("int8", "binary"))
    print(f"int8, {int8.dimension} bytes a text")
    show(texts, *by_codes(store(int8), query, given.k))
    print(f"binary, {binary.bits.shape[1]} bytes a text, ranked again by int8")
    show(texts, *by_signs(store(binary), signs, query, int8, given.k))


def store(vectors: Int8Vectors | BinaryVectors) -> Index:
    """A new index of `vectors` under the keys 0, 1, 2 ...; `Index.save` and `Index.restore` keep it in a file."""
    if isinstance(vectors, Int8Vectors):
        index, rows = Index(ndim=vectors.dimension, metric="ip", dtype="i8"), vectors.codes
    else:
        index, rows = Index(ndim=vectors.dimension, metric="hamming", dtype="b1"), vectors.bits
    index.add(np.arange(len(vectors)), rows)
    return index


def by_codes(index: Index, query: Int8Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Keys and cosines of the k nearest: USearch's distance is 1 - dot product, a code's unit is the scale."""
    found = index.search(query.codes, k)
    return found.keys.astype(np.int64), ((1 - found.distances) * query.scale**2).astype(np.float32)


def by_signs(
    index: Index, signs: BinaryVectors, query: Int8Vectors, documents: Int8Vectors, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Keys and cosines of the k nearest among the 4 * k whose signs differ least from the query's."""
    keys = index.search(signs.bits, 4 * k).keys.astype(np.int64)
    cosines = scores(query, documents[keys])[0]
    order = np.argsort(-cosines, kind="stable")[:k]
    return keys[order], cosines[order]


def show(texts: list[str], keys: NDArray[np.int64], cosines: NDArray[np.float32]) -> None:
    """Prints the texts found."""
    for key, cosine in zip(keys, cosines, strict=True):
        print(f"  {cosine:.3f}  {texts[key]}")


if __name__ == "__main__":
    main()
