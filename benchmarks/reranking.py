"""Reranking scifact: what a pair scorer makes of the documents that the default embedder finds."""

from __future__ import annotations

import hashlib
import json

import ir_measures
import numpy as np
from numpy.typing import NDArray
from task_sets import RERANKED, Splits, documents, right_documents

import edgebert
from edgebert.tasks.pairs import PairScorer


class Reranking:
    """The default embedder's best documents for the queries of a split; "dev" are train queries that are held out.

    `similarities`: of query and document, shape (queries, RERANKED), the best first. `digest`: of which those are.
    """

    def __init__(self, of: Splits, split: str) -> None:
        self.right = right_documents(of, split)
        self.texts = documents(of["corpus"])
        asked = {row["id"]: row["text"] for row in of[f"queries_{'train' if split == 'dev' else split}"]}
        self.queries = [asked[name] for name in self.right]
        with edgebert.load("edgebert-mini-en", task="embedding") as embedder:
            alike = embedder.encode_query(self.queries) @ embedder.encode_document(list(self.texts.values())).T
        best = np.argsort(-alike, axis=1, kind="stable")[:, :RERANKED]
        names = list(self.texts)
        self.found = [[names[i] for i in row] for row in best]
        self.digest = hashlib.sha256(json.dumps([self.queries, self.found]).encode()).hexdigest()[:8]
        self.similarities = np.take_along_axis(alike, best, axis=1)

    def log_odds(self, model: PairScorer) -> NDArray[np.float64]:
        """The model's of each query and document found, shape (queries, RERANKED)."""
        pairs = [
            (query, self.texts[name]) for query, names in zip(self.queries, self.found, strict=True) for name in names
        ]
        return np.asarray(model.log_odds(pairs)).reshape(len(self.queries), -1)

    def ndcg(self, scores: NDArray[np.floating]) -> float:
        """nDCG@10 of the documents found in the order of those scores, shape (queries, RERANKED)."""
        run = {
            query: dict(zip(names, row.tolist(), strict=True))
            for query, names, row in zip(self.right, self.found, scores, strict=True)
        }
        return float(ir_measures.calc_aggregate([ir_measures.nDCG @ 10], self.right, run)[ir_measures.nDCG @ 10])
