"""What a task gate asks for, and that nonsense is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import sentences

from edgebert.bundle import Bundle
from edgebert.distill.encoder import torch_embedder
from edgebert.embedder import Embedder
from edgebert.errors import DataError, RecipeError
from edgebert.quantize.task_gate import TaskGate


@pytest.fixture(scope="module")
def model(tiny_teacher: Path) -> Embedder:
    """The tiny teacher in torch."""
    return torch_embedder(Bundle.from_pretrained(tiny_teacher))


def pairs_file(folder: Path, model: Embedder, *, sign: int = 1) -> str:
    """Pairs whose scores are the model's own similarities, or their opposite."""
    one, other = sentences(40), sentences(40, seed=1)
    cosines = sign * (model.encode(one) * model.encode(other)).sum(axis=1)
    rows = [
        {"sentence1": a, "sentence2": b, "score": float(score)} for a, b, score in zip(one, other, cosines, strict=True)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("accuracy",), "metric is 'accuracy'; it must be one of agreement, similarity, classification, retrieval"),
        (("agreement", (), 1.1), "min_retention is 1.1; it must be within 0 to 1"),
        (("agreement", (), float("nan")), "min_retention is nan; it must be within 0 to 1"),
        (
            ("agreement", ("a",)),
            "the metric 'agreement' needs no --eval file: it is measured on the calibration text; 1",
        ),
        (("similarity", ()), "the metric 'similarity' needs one file of text pairs with scores; 0 were given"),
        (
            ("classification", ("a",)),
            "needs two files of labelled texts: the one to train on, then the one to test on; 1",
        ),
        (("retrieval", ("a", "b")), "needs one folder in BEIR's layout; 2 were given"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        TaskGate(*arguments)
    assert message in str(raised.value)


def test_a_file_that_is_not_there_is_named(model: Embedder, tmp_path: Path) -> None:
    gate = TaskGate("similarity", (str(tmp_path / "none.tsv"),))
    with pytest.raises(DataError, match="none.tsv"):
        gate.judge(model)


def test_the_score_is_that_of_the_evaluation(model: Embedder, tmp_path: Path) -> None:
    gate = TaskGate("similarity", (pairs_file(tmp_path, model),))
    assert gate.reference(model).score == pytest.approx(1.0)
    assert gate.data.endswith("pairs.jsonl")


def test_a_score_that_is_not_above_zero_leaves_nothing_to_keep(model: Embedder, tmp_path: Path) -> None:
    gate = TaskGate("similarity", (pairs_file(tmp_path, model, sign=-1),))
    with pytest.raises(
        DataError, match="the model's own similarity on .*pairs.jsonl is -1.0000: there is nothing to keep"
    ):
        gate.reference(model)


def test_agreement_has_no_score_of_its_own(model: Embedder) -> None:
    assert TaskGate().judge(model).score is None
    assert TaskGate().reference(model).score is None
    assert TaskGate().data == "texts of the calibration file that calibration did not see"
    assert np.isfinite(TaskGate().min_retention)
