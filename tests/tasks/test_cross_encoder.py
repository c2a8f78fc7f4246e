"""Cross-encoders as the Hub has them, with one label whose probability is the score, can be scored and taught from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result
from helpers import assert_refused, make_teacher
from tasks import made

from edgebert.bundle import Bundle
from edgebert.distill.course import reader_of
from edgebert.distill.encoder import torch_embedder
from edgebert.quantize.task_gate import TaskGate
from edgebert.tasks import as_task, task_named

Cli = Callable[..., Result]
RECIPE = """[student]
layers = 1

[training]
epochs = 0.2
batch_size = 16

[task]
epochs = 1
labels = 1.0
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    base = make_teacher(tmp_path / "base", layers=2)
    made.with_head(base, tmp_path / "model", "AutoModelForSequenceClassification", num_labels=1)
    return tmp_path / "model"


def rows(count: int, *, seed: int) -> list[dict[str, Any]]:
    return [row | {"label": int(row["label"] == "animal")} for row in made.pair_rows(count, seed=seed)]


def test_labels_of_0_and_1_and_scores_say_the_same(model: Path, tmp_path: Path, cli: Cli) -> None:
    examples = rows(40, seed=1)
    labelled = made.write_rows(tmp_path / "labelled.jsonl", examples)
    told = [{"text": r["text"], "text_pair": r["text_pair"], "score": float(r["label"])} for r in examples]
    scored = made.write_rows(tmp_path / "scored.jsonl", told)
    found = [cli("evaluate", model, "--task", "pairs", "--labelled", path, "--json") for path in (labelled, scored)]
    assert [one.code for one in found] == [0, 0]
    one, other = (json.loads(done.out)["scores"] for done in found)
    assert [score["metric"] for score in one] == ["spearman", "pearson"]
    assert [score["value"] for score in one] == [score["value"] for score in other]
    opened = torch_embedder(as_task(Bundle.from_pretrained(model), "pairs"))
    assert TaskGate("task", (str(labelled),)).judge(opened).score == pytest.approx(one[0]["value"])


def test_a_student_learns_from_it_and_from_the_labels(model: Path, tmp_path: Path, cli: Cli) -> None:
    corpus = made.write_rows(tmp_path / "corpus.jsonl", rows(96, seed=1))
    dev = made.write_rows(tmp_path / "dev.jsonl", rows(40, seed=2))
    recipe, out = tmp_path / "recipe.toml", tmp_path / "student"
    recipe.write_text(RECIPE, encoding="utf-8")
    done = cli("distill", model, "--task", "pairs", "--corpus", corpus, "--dev", dev, "--recipe", recipe, "-o", out)
    assert done.code == 0, done.err
    assert "spearman" in {one.metric for one in Bundle.open(out).manifest.quality}


def test_targets_are_probabilities(model: Path) -> None:
    bundle, task = as_task(Bundle.from_pretrained(model), "pairs"), task_named("pairs")
    (head,) = bundle.manifest.heads
    examples = [task.example(row, "a row") for row in rows(8, seed=1)]
    lessons = task.lessons(reader_of(bundle), examples, head)
    assert np.array_equal([one.target for one in lessons], [[float(one.target)] for one in examples])


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"label": "yes"}, ("row 3 has the label 'yes'", "a score, or a label of 0 or 1")),
        ({"score": 3.0}, ("row 3 has the score 3.0", "within 0 to 1")),
    ],
)
def test_what_is_no_probability_is_refused(
    model: Path, tmp_path: Path, cli: Cli, row: dict[str, Any], parts: tuple[str, ...]
) -> None:
    examples = rows(40, seed=2)
    examples[2] = {"text": "a dog", "text_pair": "a cat", **row}
    dev, out = made.write_rows(tmp_path / "dev.jsonl", examples), tmp_path / "student"
    assert_refused(
        cli("distill", model, "--task", "pairs", "--corpus", dev, "--dev", dev, "-o", out), out, "dev.jsonl", *parts
    )
