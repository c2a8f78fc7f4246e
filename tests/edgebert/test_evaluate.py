"""Scores on labelled files, with vectors whose scores can be worked out by hand."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import edgebert
from edgebert.embedder import Embedder
from edgebert.errors import DataError
from edgebert.evaluate import classification_scores, retrieval_scores, similarity_scores
from edgebert.tasks.columns import PAIRS


class Known:
    """A model whose vectors are written down; a text it does not know is an error."""

    def __init__(self, vectors: Mapping[str, Sequence[float]]) -> None:
        self.vectors = vectors

    def encode(self, texts: Sequence[str]) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([self.vectors[text] for text in texts], np.float32)

    encode_query = encode_document = encode


def known(**vectors: Sequence[float]) -> Embedder:
    return cast(Embedder, Known(vectors))


def angle(degrees: float) -> tuple[float, float]:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


COMPASS = known(east=angle(0), north=angle(90), west=angle(180), near=angle(30), far=angle(120), half=angle(60))


@pytest.mark.parametrize("names", [(first, second) for second, first in PAIRS.items()])
def test_similarity_is_the_correlation_of_cosines_with_scores(names: tuple[str, str], tmp_path: Path) -> None:
    pairs = [("east", "near", 5), ("east", "half", 4), ("east", "north", 3), ("east", "far", 1), ("east", "west", 2)]
    path = jsonl(tmp_path / "pairs.jsonl", [{names[0]: a, names[1]: b, "score": s} for a, b, s in pairs])
    spearman, pearson = similarity_scores(COMPASS, path)
    # Ranks by cosine 5 4 3 2 1, by score 5 4 3 1 2: 1 - 6 * 2 / (5 * 24).
    assert spearman.value == pytest.approx(0.9)
    cosines, scores = [3**0.5 / 2, 0.5, 0, -0.5, -1], [5, 4, 3, 1, 2]
    assert pearson.value == pytest.approx(np.corrcoef(cosines, scores)[0, 1], abs=1e-6)
    assert (spearman.task, spearman.metric, pearson.metric) == ("similarity", "spearman", "pearson")
    assert (spearman.count, spearman.data) == (5, str(path))


def test_similarity_columns_can_be_named_and_scores_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("l,r,gold,score\neast,near,1.5,9\neast,north,1,8\neast,west,0.5,7.5\n")
    spearman, _ = similarity_scores(COMPASS, tmp_path / "pairs.csv", ("l", "r", "gold"))
    assert spearman.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": "east", "other": "near", "score": 1}] * 2,
            "row 1 has no column 'text_pair'; it has 'text', 'other'",
        ),
        ([{"text": "east", "text_pair": "near"}] * 2, "row 1 has no column 'score'; it has 'text', 'text_pair'"),
        ([{"text": "east", "text_pair": "near", "score": "high"}], "row 1 has the score 'high'; a number is needed"),
        ([{"text": "east", "text_pair": "near", "score": None}], "row 1 has the score None; a number is needed"),
        ([{"text": "east", "text_pair": 5, "score": 1}], "row 1 holds 5 where a text is needed"),
        ([{"text": "east", "text_pair": "near", "score": 1}], "has 1 pairs; at least 2 are needed"),
        ([{"text": "east", "text_pair": "near", "score": "nan"}] * 2, "row 1 has the score 'nan'; a finite number is"),
        (
            [{"text": "east", "text_pair": "near", "score": 1}] * 2,
            "all 2 scores are 1.0; a correlation needs different",
        ),
        ([], "has 0 pairs"),
    ],
)
def test_pairs_that_cannot_be_used_are_named(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(DataError, match=message) as caught:
        similarity_scores(COMPASS, path)
    assert str(path) in str(caught.value)


def test_classification_counts_what_the_regression_gets_right(tmp_path: Path) -> None:
    rows = [("east", "e"), ("west", "w")] * 10
    train = jsonl(tmp_path / "train.jsonl", [{"sentence": text, "label": label} for text, label in rows])
    test = jsonl(
        tmp_path / "test.jsonl",
        [{"text": t, "label": v} for t, v in [("near", "e"), ("half", "e"), ("far", "w"), ("west", "e")]],
    )
    accuracy, f1 = classification_scores(COMPASS, train, test)
    # e: precision 2/2, recall 2/3; w: precision 1/2, recall 1/1.
    assert accuracy.value == pytest.approx(3 / 4)
    assert f1.value == pytest.approx((0.8 + 2 / 3) / 2)
    assert (accuracy.metric, f1.metric, accuracy.count) == ("accuracy", "macro-f1", 4)
    assert accuracy.data == f"{test} (trained on {train})"


def test_classification_columns_can_be_named_and_labels_may_be_numbers(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", [{"t": "east", "y": 0}, {"t": "west", "y": 1}])
    (tmp_path / "test.tsv").write_text("t\ty\nnear\t0\nfar\t1\n")
    accuracy, _ = classification_scores(COMPASS, train, tmp_path / "test.tsv", ("t", "y"))
    assert accuracy.value == 1


def test_classification_refuses_what_cannot_be_learned(tmp_path: Path) -> None:
    both = jsonl(tmp_path / "both.jsonl", [{"text": "east", "label": "e"}, {"text": "west", "label": "w"}])
    one = jsonl(tmp_path / "one.jsonl", [{"text": "east", "label": "e"}] * 3)
    new = jsonl(tmp_path / "new.jsonl", [{"text": "north", "label": "n"}])
    bare = jsonl(tmp_path / "bare.jsonl", [{"text": "north"}])
    empty = jsonl(tmp_path / "empty.jsonl", [])
    for train, test, message in (
        (one, both, "one.jsonl has 1 class; at least 2 are needed"),
        (both, new, "new.jsonl has the label 'n', which .*both.jsonl has not"),
        (both, bare, "bare.jsonl: row 1 has no column 'label'; it has 'text'"),
        (empty, both, "empty.jsonl has no rows"),
    ):
        with pytest.raises(DataError, match=message):
            classification_scores(COMPASS, train, test)


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Two queries, four documents, judgements of the split test."""
    folder = tmp_path / "beir"
    jsonl(
        folder / "corpus.jsonl",
        [
            {"_id": "d1", "title": "", "text": "near"},
            {"_id": "d2", "title": "very", "text": "half"},
            {"_id": "d3", "text": "north"},
            {"_id": "d4", "text": "west"},
        ],
    )
    jsonl(
        folder / "queries.jsonl",
        [{"_id": "q1", "text": "east"}, {"_id": "q2", "text": "up"}, {"_id": "q3", "text": "x"}],
    )
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t1\nq2\td3\t1\nq2\td4\t1\n")
    return folder


SEARCH = known(
    **{"near": angle(30), "very half": angle(60), "north": angle(90), "west": angle(180), "east": angle(0),
       "up": angle(91)}
)  # fmt: skip
# q1 finds d1 d2 d3 d4: its document comes second. q2 finds d3 d2 d1 d4: its two come first and last.
FIRST = 1 / math.log2(3)
SECOND = (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3))


def test_retrieval_is_scored_as_worked_out_by_hand(beir: Path) -> None:
    ndcg, recall = retrieval_scores(SEARCH, beir)
    assert ndcg.value == pytest.approx((FIRST + SECOND) / 2)
    assert recall.value == 1
    assert (ndcg.metric, recall.metric, ndcg.count) == ("ndcg@10", "recall@100", 2)
    assert ndcg.data == f"{beir} (test, 4 documents)"


def test_retrieval_reads_packed_files_and_the_other_layout(beir: Path) -> None:
    wanted = [score.value for score in retrieval_scores(SEARCH, beir)]
    for name in ("corpus.jsonl", "queries.jsonl"):
        (beir / f"{name}.gz").write_bytes(gzip.compress((beir / name).read_bytes()))
        (beir / name).unlink()
    assert [score.value for score in retrieval_scores(SEARCH, beir)] == pytest.approx(wanted)
    (beir / "queries.jsonl.gz").rename(beir / "queries_dev.jsonl.gz")
    (beir / "qrels" / "test.tsv").unlink()
    judged = [("q1", "d2"), ("q2", "d3"), ("q2", "d4")]
    jsonl(beir / "qrels_dev.jsonl", [{"query_id": q, "doc_id": d, "score": 1} for q, d in judged])
    assert [score.value for score in retrieval_scores(SEARCH, beir, "dev")] == pytest.approx(wanted)


def test_recall_goes_down_to_the_hundredth_document(tmp_path: Path) -> None:
    documents = {f"text {i}": angle(i / 2) for i in range(150)}
    jsonl(tmp_path / "corpus.jsonl", [{"_id": f"d{i}", "text": text} for i, text in enumerate(documents)])
    jsonl(tmp_path / "queries.jsonl", [{"_id": "q", "text": "query"}])
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td0\t1\nq\td99\t1\nq\td100\t1\n")
    ndcg, recall = retrieval_scores(known(query=angle(-1), **documents), tmp_path)
    assert recall.value == pytest.approx(2 / 3)
    assert ndcg.value == pytest.approx(1 / (1 + 1 / math.log2(3) + 1 / 2))


def test_retrieval_names_what_a_folder_lacks(beir: Path, tmp_path: Path) -> None:
    def refuses(message: str, split: str = "test") -> None:
        with pytest.raises(DataError, match=message):
            retrieval_scores(SEARCH, beir, split)

    refuses(r"has no qrels/dev.tsv or qrels_dev.jsonl \(with or without .gz\): BEIR's layout", "dev")
    refuses(r"the split '../test' is not a name such as test", "../test")
    judgements = beir / "qrels" / "test.tsv"
    judgements.write_text("query-id\tcorpus-id\tscore\nq1\td9\t1\n")
    refuses("no judgement of the split 'test' names a known query and a known document")
    judgements.write_text("query-id\tcorpus-id\tscore\nq1\td1\thigh\n")
    refuses("row 1 has the score 'high'; a whole number is needed")
    judgements.write_text("query\tdocument\nq1\td1\n")
    refuses("row 1 needs query-id and corpus-id; it has 'query', 'document'")
    jsonl(beir / "queries.jsonl", [{"_id": "q1", "body": "east"}])
    refuses("queries.jsonl: row 1 needs _id and text; it has '_id', 'body'")
    (beir / "corpus.jsonl").unlink()
    refuses(r"has no corpus.jsonl")


def test_the_command_line_scores_all_three(
    tiny_bundle: Path, beir: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    pairs = jsonl(
        tmp_path / "pairs.jsonl",
        [{"text": "the dog", "text_pair": b, "score": s} for b, s in [("the dog", 5), ("a dog", 4), ("no water", 1)]],
    )
    labelled = jsonl(tmp_path / "labelled.jsonl", [{"text": "dog", "label": "a"}, {"text": "water", "label": "w"}] * 5)
    arguments = ["--similarity", pairs, "--classification", labelled, labelled, "--retrieval", beir]
    options = ["--engine", "onnxruntime", "--precision", "fp32", "--threads", 1]
    result = cli("evaluate", tiny_bundle, *arguments, *options, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["model"], found["engine"]) == (str(tiny_bundle), "onnxruntime fp32")
    metrics = {f"{score['task']} {score['metric']}": score["value"] for score in found["scores"]}
    assert [*metrics] == [
        "similarity spearman", "similarity pearson", "classification accuracy", "classification macro-f1",
        "retrieval ndcg@10", "retrieval recall@100",
    ]  # fmt: skip
    assert metrics["classification accuracy"] == 1
    assert metrics["retrieval recall@100"] == 1
    assert all(-1 <= value <= 1 for value in metrics.values())
    table = cli("evaluate", tiny_bundle, *arguments, *options)
    shown = [line.split() for line in table.out.splitlines()]
    assert ["similarity", "spearman", f"{metrics['similarity spearman']:.4f}", "3", str(pairs)] in shown
    assert table.out.splitlines()[-1] == f"model: {tiny_bundle} by onnxruntime fp32"


def test_the_command_line_names_wrong_columns(
    tiny_bundle: Path, tmp_path: Path, refused: Callable[..., str], cli: Callable[..., Any]
) -> None:
    pairs = jsonl(tmp_path / "pairs.jsonl", [{"text": "east", "text_pair": "near", "score": 1}] * 2)
    options = ["--similarity", pairs, "--engine", "onnxruntime", "--similarity-columns"]
    refused("evaluate", tiny_bundle, *options, "text,body,score", says="row 1 has no column 'body'")
    result = cli("evaluate", tiny_bundle, *options, "text,body")
    assert result.code == 2
    assert "3 column names separated by commas are needed, not 'text,body'" in result.err
    assert cli("evaluate", tiny_bundle).code == 2


def test_a_file_that_is_not_there_is_named(tiny_bundle: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    missing = tmp_path / "absent.jsonl"
    for option in (["--similarity", missing], ["--classification", missing, missing]):
        refused("evaluate", tiny_bundle, *option, "--engine", "onnxruntime", says=f"no such file: {missing}")
    refused(
        "evaluate", tiny_bundle, "--retrieval", tmp_path, "--engine", "onnxruntime", says=f"{tmp_path} has no corpus"
    )


def test_pairs_that_the_model_cannot_tell_apart_are_an_error_and_no_nan(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "same.csv").write_text("text,text_pair,score\nthe dog,a cat,1\nthe dog,a cat,2\n", encoding="utf-8")
    with edgebert.load(tiny_bundle) as model, pytest.raises(DataError, match="all 2 pairs the same cosine"):
        similarity_scores(model, tmp_path / "same.csv")


def test_a_wrong_number_of_threads_is_refused_for_torch_too(
    tiny_teacher: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "pairs.csv").write_text("text,text_pair,score\na,b,1\n", encoding="utf-8")
    refused("evaluate", tiny_teacher, "--similarity", tmp_path / "pairs.csv", "--threads", 0, says="threads is 0")
