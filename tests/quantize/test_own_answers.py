"""Without labelled examples a model's own answers in fp32 are what int8 must agree with."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Result
from helpers import make_teacher, sentences
from tasks import made

from edgebert.bundle import Bundle
from edgebert.distill.encoder import torch_embedder
from edgebert.distill.finetuning import Assignment, finetune
from edgebert.distill.recipe import Training
from edgebert.progress import Progress
from edgebert.quantize.own_answers import ENOUGH, own_answers
from edgebert.quantize.parity import Gates
from edgebert.tasks import as_task, task_named

Cli = Callable[..., Result]
TEXTS = sentences(4 * ENOUGH, seed=1, shortest=6)
PAIRS = [(f"{one} a {number}", other) for number, (one, other) in enumerate(itertools.pairwise(TEXTS))]
MANY = {"problem_type": "multi_label_classification"}


def named(*labels: str) -> dict[str, Any]:
    """A configuration with those labels."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


CASES: dict[str, tuple[str, dict[str, Any], str | None, list[Any]]] = {
    "a label": ("SequenceClassification", {"num_labels": 3}, None, TEXTS),
    "labels with blanks": ("SequenceClassification", named("good ", " bad", "a|b"), None, TEXTS),
    "several labels": ("SequenceClassification", {"num_labels": 3, **MANY}, None, TEXTS),
    "a number": ("SequenceClassification", {"num_labels": 1}, None, TEXTS),
    "a pair's label": ("SequenceClassification", {"num_labels": 3}, "pairs", PAIRS),
    "a pair's number": ("SequenceClassification", {"num_labels": 1}, "pairs", PAIRS),
    "tags": ("TokenClassification", named("O", "B-A", "I-A", "B-B", "I-B"), None, TEXTS),
    "tags of BMES": ("TokenClassification", named("O", "B-A", "M-A", "E-A", "S-A", "S-B "), None, TEXTS),
    "tags without O": ("TokenClassification", named("A", "B", "C"), None, TEXTS),
    "answers": ("QuestionAnswering", {}, None, PAIRS),
}


class Said(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("base") / "base", layers=1)


def model(base: Path, out: Path, case: str, seed: int = 1) -> Bundle:
    auto, config, task, _ = CASES[case]
    made.with_head(base, out, f"AutoModelFor{auto}", seed=seed, **config)
    return as_task(Bundle.from_pretrained(out), task)


@pytest.mark.parametrize("case", CASES)
def test_the_models_own_answers_are_right_and_anothers_are_not(base: Path, tmp_path: Path, case: str) -> None:
    one, other = (torch_embedder(model(base, tmp_path / str(seed), case, seed)) for seed in (1, 2))
    said = Said()
    own = own_answers(one, CASES[case][3], said)
    assert said.lines == []
    assert own is not None
    (right,) = own.told
    (same,), (changed,) = (own.answers(asked) for asked in (one, other))
    assert same.agreement(right) == pytest.approx(1)
    assert changed.agreement(right) < Gates().min_agreement


@pytest.mark.parametrize("case", CASES)
def test_too_little_text_and_text_of_another_kind_are_told(base: Path, tmp_path: Path, case: str) -> None:
    one, items = torch_embedder(model(base, tmp_path / "model", case)), CASES[case][3]
    wrong: list[Any] = TEXTS if items is PAIRS else PAIRS
    for few in (items[:3], wrong):
        said = Said()
        assert own_answers(one, few, said) is None
        (line,) = said.lines
        assert f"{ENOUGH} are needed; give more text" in line
        assert ("two texts in each row" in line) == (items is PAIRS)


def test_labels_that_rarely_hold_are_too_few(base: Path, tmp_path: Path) -> None:
    rare = made.with_head(base, tmp_path / "model", "AutoModelForSequenceClassification", num_labels=3, **MANY)
    with torch.no_grad():
        rare.classifier.bias -= 1000
    rare.save_pretrained(tmp_path / "model")
    said = Said()
    assert own_answers(torch_embedder(Bundle.from_pretrained(tmp_path / "model")), TEXTS, said) is None
    assert "there are 0 to text" in said.lines[0]


def test_odd_text_is_asked_and_what_cannot_be_is_left_out(base: Path, tmp_path: Path) -> None:
    tagger = torch_embedder(model(base, tmp_path / "tagger", "tags"))
    own = own_answers(tagger, [*TEXTS, "a \ud83d dog", "\U0001f600 dog 中文。", "a\0b\u2028c"], Progress())
    assert own is not None
    assert len(own.examples[0]) == len(TEXTS) + 3
    reader = torch_embedder(model(base, tmp_path / "reader", "answers"))
    own = own_answers(
        reader, [*PAIRS, ("dog " * 500, "too long a question"), ("", "a dog"), ("a dog?", " ")], Progress()
    )
    assert own is not None
    assert len(own.examples[0]) == len(PAIRS)


def test_heads_that_cannot_be_asked_do_not_keep_others_from_it(base: Path, tmp_path: Path) -> None:
    parts = {"classify": made.class_rows, "pairs": made.pair_rows}
    files = {name: made.write_rows(tmp_path / f"{name}.jsonl", rows(32, seed=1)) for name, rows in parts.items()}
    several = [Assignment(task_named(name), (str(path),), (str(path),), name) for name, path in files.items()]
    bundle = finetune(Bundle.from_pretrained(base), several, tmp_path / "out", Training(epochs=1, batch_size=16))
    one, said = torch_embedder(bundle), Said()
    own = own_answers(one, TEXTS, said)
    assert own is not None
    assert [len(examples) for examples in own.examples] == [len(TEXTS), 0]
    assert [answered.head.name for answered in own.answers(one)] == ["classify"]
    assert [answered.head.name for answered in own.told] == ["classify"]
    (line,) = said.lines
    assert line.startswith("the answers of 'pairs' are not compared with torch's: there are 0 to text")


def test_what_was_compared_is_told_and_stands_in_the_manifest(base: Path, tmp_path: Path, cli: Cli) -> None:
    source, texts = model(base, tmp_path / "model", "tags").root, tmp_path / "texts.jsonl"
    made.write_rows(texts, [{"text": text} for text in sentences(280, seed=3)])
    with texts.open("a") as file:
        file.write(json.dumps({"text": "a \ud83d dog"}) + "\n")
    given = ("--calibration", texts, "--samples", "100", "--min-cosine", "0.5", "--recipe", "outliers-8")
    done = cli("quantize", source, *given, "-o", tmp_path / "bundle", "--min-agreement", "0.9999", "--report",
               tmp_path / "report.html")  # fmt: skip
    assert done.code == 0, done.err
    quality = Bundle.open(tmp_path / "bundle").manifest.quality
    found = {one.artifact: one for one in quality if one.metric == "task_agreement"}
    assert set(found) == {"onnxruntime-int8", "openvino-int8"}
    assert all(
        one.data.endswith("texts of the calibration file that calibration did not see") for one in found.values()
    )
    told = ", ".join(f"{name} {one.value:.4f}" for name, one in found.items())
    assert f"answers, their agreement with torch fp32's: {told}" in done.out
    assert f"agreement with torch fp32&#x27;s: {told}" in (tmp_path / "report.html").read_text(encoding="utf-8")
    least = min(one.value for one in found.values())
    assert ("warning: int8 changes answers" in done.out) == (least < 0.9999)
    assert least < 1  # else the next says nothing
    refused = cli("quantize", source, *given, "-o", tmp_path / "other", "--min-retention", "1")
    assert refused.code == 1
    assert "of the agreement, at least 1.0 is needed" in refused.err
    assert not (tmp_path / "other").exists()
