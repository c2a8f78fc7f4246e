"""Search compact vectors in a vector store, Faiss: int8 codes by their dot product, sign bits by Hamming distance.

    pip install edgebert faiss-cpu
    python examples/vector_store.py MODEL "what to look for" [--texts FILE] [-k 3]

MODEL is a bundle, a package or a Hub id. FILE holds one text a line; without it a few made-up ones are searched. The
int8 index is searched as it is. The binary one gives four times as many candidates, ranked again by the codes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import edgebert
from edgebert.compact import BinaryVectors, Int8Vectors
from edgebert.scores import scores

ROWS = 8192  # given to the store at a time
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


def store(vectors: Int8Vectors | BinaryVectors) -> Any:
    """A new index of `vectors` under the numbers 0, 1, 2 ...

    `faiss.write_index` and `faiss.write_index_binary` keep it in a file.
    """
    if isinstance(vectors, BinaryVectors):
        signs = faiss.IndexBinaryFlat(8 * vectors.bits.shape[1])  # the bits that fill the last byte are 0 everywhere
        signs.add(vectors.bits)
        return signs
    kind = faiss.ScalarQuantizer.QT_8bit_direct_signed  # a byte a component, the code itself
    index = faiss.IndexScalarQuantizer(vectors.dimension, kind, faiss.METRIC_INNER_PRODUCT)
    for start in range(0, len(vectors), ROWS):
        index.add(vectors.codes[start : start + ROWS].astype(np.float32))  # Faiss takes the whole numbers as floats
    return index


def by_codes(index: Any, query: Int8Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Numbers and cosines of the k nearest: the store's score is the dot product of the codes."""
    dots, numbers = index.search(query.codes[None].astype(np.float32), min(k, index.ntotal))
    return numbers[0], dots[0] * np.float32(query.scale**2)


def by_signs(
    index: Any, signs: BinaryVectors, query: Int8Vectors, documents: Int8Vectors, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Numbers and cosines of the k nearest among the 4 * k whose signs differ least from the query's."""
    _, candidates = index.search(signs.bits[None], min(4 * k, index.ntotal))
    found = scores(query, documents[candidates[0]])[0]
    order = np.argsort(-found, kind="stable")[:k]
    return candidates[0][order], found[order]


def show(texts: list[str], numbers: NDArray[np.int64], cosines: NDArray[np.float32]) -> None:
    """Prints the texts found."""
    for number, cosine in zip(numbers, cosines, strict=True):
        print(f"  {cosine:.3f}  {texts[number]}")


if __name__ == "__main__":
    main()
