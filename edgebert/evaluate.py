"""Scores of a model on labelled files: similarity pairs, classification, retrieval.

Similarity: correlation of cosines with people's scores (SentEval, Conneau and Kiela 2018, arXiv:1803.05449).
Classification: logistic regression on frozen vectors (the same). Retrieval: exact search by cosine over a corpus in
BEIR's layout (Thakur et al. 2021, arXiv:2104.08663).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.embedder import Embedder
from edgebert.errors import DataError, MissingExtraError
from edgebert.tasks.columns import TEXT, named, pair_columns
from edgebert.texts import no_column, read_rows
from edgebert.vectors import Vectors, row_cosines, similarity

_RUN_DEPTH = 100
_SAME = 1e-6
_QUERY_BLOCK = 256


@dataclass(frozen=True)
class Score:
    """One measured value. `data`: the files it was measured on, in words; `count`: pairs, texts or queries."""

    task: str
    metric: str
    value: float
    data: str
    count: int


def similarity_scores(model: Embedder, path: str | Path, columns: Sequence[str] | None = None) -> list[Score]:
    """Spearman and Pearson correlation of cosines with the scores in a file of text pairs.

    columns: first text, second text, score; by default text, text_pair and score, or as the columns of a task.
    Raises: DataError for missing columns, wrong values or fewer than 2 pairs.
    """
    stats = _require("scipy.stats", "scipy")
    first, second, wanted = _pairs(path, columns)
    cosines = row_cosines(model.encode(first), model.encode(second))
    if np.ptp(wanted) == 0:
        raise DataError(f"{path}: all {len(wanted)} scores are {wanted[0]}; a correlation needs different ones")
    if np.ptp(cosines) < _SAME:
        raise DataError(f"{path}: the model gives all {len(wanted)} pairs the same cosine; there is nothing to rank")
    return [
        Score("similarity", "spearman", float(stats.spearmanr(cosines, wanted).statistic), str(path), len(wanted)),
        Score("similarity", "pearson", float(stats.pearsonr(cosines, wanted).statistic), str(path), len(wanted)),
    ]


def classification_scores(
    model: Embedder, train: str | Path, test: str | Path, columns: Sequence[str] | None = None
) -> list[Score]:
    """Accuracy and macro-F1 on `test` of a logistic regression trained on the vectors of `train`.

    columns: text, label; by default so called, or as the columns of a task.
    Raises: DataError for missing columns, fewer than 2 classes, or a test label that is not in `train`.
    """
    linear, metrics = _require("sklearn.linear_model", "scikit-learn"), _require("sklearn.metrics", "scikit-learn")
    texts, labels = _labelled(train, columns)
    test_texts, test_labels = _labelled(test, columns)
    if len(set(labels)) < 2:
        raise DataError(f"{train} has {len(set(labels))} class; at least 2 are needed")
    if unknown := set(test_labels) - set(labels):
        raise DataError(f"{test} has the label {sorted(unknown)[0]!r}, which {train} has not")
    classifier = linear.LogisticRegression(max_iter=1000, random_state=0)
    classifier.fit(model.encode(texts), labels)
    guessed = classifier.predict(model.encode(test_texts))
    data, count = f"{test} (trained on {train})", len(test_labels)
    return [
        Score("classification", "accuracy", float(metrics.accuracy_score(test_labels, guessed)), data, count),
        Score(
            "classification", "macro-f1", float(metrics.f1_score(test_labels, guessed, average="macro")), data, count
        ),
    ]


def retrieval_scores(model: Embedder, folder: str | Path, split: str = "test") -> list[Score]:
    """nDCG@10 and recall@100 of exact search by cosine, over the queries that `split` has judgements for.

    As in BEIR: a document with the query's own id is left out, and judged documents that the corpus lacks count as not
    found.

    folder: BEIR's layout, gzip or not: corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/SPLIT.tsv
    (query-id, corpus-id, score); queries_SPLIT.jsonl and qrels_SPLIT.jsonl (query_id, doc_id, score) are read as well.
    Raises: DataError for a missing file or column, or judgements that name no known query and document.
    """
    ir = _require("ir_measures", "ir-measures")
    folder = Path(folder)
    documents = {key: _document(row) for key, row in _by_id(_file(folder, "corpus.jsonl"))}
    queries = {key: str(row["text"]) for key, row in _by_id(_file(folder, "queries.jsonl", f"queries_{split}.jsonl"))}
    judged = [j for j in _judgements(folder, split) if j[0] in queries]
    if not any(document in documents for _, document, _ in judged):
        raise DataError(f"{folder}: no judgement of the split {split!r} names a known query and a known document")
    asked = list(dict.fromkeys(query for query, _, _ in judged))
    vectors = model.encode_document(list(documents.values()))
    wanted = model.encode_query([queries[query] for query in asked])
    run = _search(asked, wanted, list(documents), vectors, ir)
    measures = [ir.nDCG @ 10, ir.R @ 100]
    found = ir.calc_aggregate(measures, [ir.Qrel(q, d, score) for q, d, score in judged], run)
    names = {"nDCG@10": "ndcg@10", "R@100": "recall@100"}
    return [
        Score(
            "retrieval", names[str(m)], float(found[m]), f"{folder} ({split}, {len(documents)} documents)", len(asked)
        )
        for m in measures
    ]


def _search(asked: list[str], wanted: Vectors, names: list[str], vectors: Vectors, ir: Any) -> list[Any]:
    """The best 100 documents of each query."""
    run, depth = [], min(_RUN_DEPTH, len(names))
    for start in range(0, len(asked), _QUERY_BLOCK):
        scores = similarity(wanted[start : start + _QUERY_BLOCK], vectors)
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        for row, columns in enumerate(best):
            query = asked[start + row]
            run += [ir.ScoredDoc(query, names[c], float(scores[row, c])) for c in columns if names[c] != query]
    return run


def _pairs(path: str | Path, columns: Sequence[str] | None) -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    first: list[str] = []
    second: list[str] = []
    scores: list[float] = []
    for number, row in enumerate(read_rows(path), start=1):
        names = columns or (*pair_columns(row), "score")
        a, b, score = (_cell(path, number, row, column) for column in names)
        first.append(_text(path, number, a))
        second.append(_text(path, number, b))
        try:
            scores.append(float(score))
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{path}: row {number} has the score {score!r:.80}; a number is needed") from None
        if not math.isfinite(scores[-1]):
            raise DataError(f"{path}: row {number} has the score {score!r:.80}; a finite number is needed")
    if len(scores) < 2:
        raise DataError(f"{path} has {len(scores)} pairs; at least 2 are needed")
    return first, second, np.array(scores)


def _labelled(path: str | Path, columns: Sequence[str] | None) -> tuple[list[str], list[str]]:
    texts, labels = [], []
    for number, row in enumerate(read_rows(path), start=1):
        text_column, label_column = columns or (named(row, TEXT), "label")
        texts.append(_text(path, number, _cell(path, number, row, text_column)))
        labels.append(str(_cell(path, number, row, label_column)))
    if not texts:
        raise DataError(f"{path} has no rows")
    return texts, labels


def _cell(path: str | Path, number: int, row: dict[str, Any], column: str) -> Any:
    if column not in row:
        raise no_column(f"{path}: row {number}", repr(column), row)
    return row[column]


def _text(path: str | Path, number: int, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{path}: row {number} holds {value!r:.80} where a text is needed")
    return value


def _file(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(f"{folder} has no {' or '.join(names)} (with or without .gz): BEIR's layout is needed")


def _by_id(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(read_rows(path), start=1):
        key = row.get("_id", row.get("id"))
        if key is None or not isinstance(row.get("text"), str):
            raise DataError(f"{path}: row {number} needs _id and text; it has {', '.join(map(repr, row))}")
        yield str(key), row


def _document(row: dict[str, Any]) -> str:
    return f"{row.get('title') or ''} {row['text']}".strip()


def _judgements(folder: Path, split: str) -> Iterator[tuple[str, str, int]]:
    if not re.fullmatch(r"[\w-]+", split):
        raise DataError(f"the split {split!r} is not a name such as test")
    path = _file(folder, f"qrels/{split}.tsv", f"qrels_{split}.jsonl")
    for number, row in enumerate(read_rows(path), start=1):
        query, document = row.get("query-id", row.get("query_id")), row.get("corpus-id", row.get("doc_id"))
        if query is None or document is None:
            raise DataError(f"{path}: row {number} needs query-id and corpus-id; it has {', '.join(map(repr, row))}")
        try:
            yield str(query), str(document), int(row.get("score", 1))
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{path}: row {number} has the score {row['score']!r}; a whole number is needed") from None


def _require(module: str, package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise MissingExtraError(package, "workshop", "edgebert evaluate") from None
