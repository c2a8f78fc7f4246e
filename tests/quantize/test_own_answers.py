"""Without labelled examples a model's own answers in fp32 are what int8 must agree with."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
from helpers import make_teacher, sentences
from tasks import made

from edgebert.bundle import Bundle
from edgebert.distill.encoder import torch_embedder
from edgebert.progress import Progress
from edgebert.quantize.own_answers import ENOUGH, own_answers
from edgebert.quantize.parity import Gates
from edgebert.quantize.stage import Options, quantize
from edgebert.tasks import as_task

TEXTS = sentences(2 * ENOUGH, seed=1, shortest=6)
PAIRS = [(f"{one} a {number}", other) for number, (one, other) in enumerate(itertools.pairwise(TEXTS))]
TAGS = {0: "O", 1: "B-A", 2: "I-A", 3: "B-B", 4: "I-B"}
MANY = {"problem_type": "multi_label_classification"}
CASES: dict[str, tuple[str, dict[str, Any], str | None, list[Any]]] = {
    "a label": ("SequenceClassification", {"num_labels": 3}, None, TEXTS),
    "several labels": ("SequenceClassification", {"num_labels": 3, **MANY}, None, TEXTS),
    "a number": ("SequenceClassification", {"num_labels": 1}, None, TEXTS),
    "a pair's label": ("SequenceClassification", {"num_labels": 3}, "pairs", PAIRS),
    "a pair's number": ("SequenceClassification", {"num_labels": 1}, "pairs", PAIRS),
    "tags": ("TokenClassification", {"id2label": TAGS, "label2id": {v: k for k, v in TAGS.items()}}, None, TEXTS),
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
    said, items = Said(), CASES[case][3]
    gate, judged = own_answers(one, items, tmp_path, said)
    assert said.lines == []
    assert gate is not None
    assert judged.score == pytest.approx(1)
    assert gate.judge(one).agreement(judged) == pytest.approx(1)
    changed = gate.judge(other).agreement(judged)
    assert changed is not None
    assert changed < Gates().min_agreement


@pytest.mark.parametrize("case", CASES)
def test_too_little_text_and_text_of_another_kind_are_told(base: Path, tmp_path: Path, case: str) -> None:
    one, items = torch_embedder(model(base, tmp_path / "model", case)), CASES[case][3]
    wrong: list[Any] = TEXTS if items is PAIRS else PAIRS
    for few in (items[:3], wrong):
        said = Said()
        gate, judged = own_answers(one, few, tmp_path, said)
        assert gate is None
        assert judged.answers == ()
        (line,) = said.lines
        assert line.startswith("vectors are compared with torch's, answers are not: on the text that calibration does")
        assert f"{ENOUGH} are needed" in line


def test_what_was_compared_stands_in_the_manifest(base: Path, tmp_path: Path) -> None:
    texts, options = sentences(280, seed=3), Options(samples=100, gates=Gates(0.5, 0.5, 0.5))
    bundle, findings = quantize(model(base, tmp_path / "model", "tags"), texts, tmp_path / "bundle", options)
    found = {one.artifact: one for one in bundle.manifest.quality if one.metric == "task_agreement"}
    assert set(found) == {"onnxruntime-int8", "openvino-int8"}
    for name, one in found.items():
        answers = findings.measured[name].answers
        assert answers is not None
        assert one.value == round(answers, 6)
        assert one.value >= 0.5
        assert one.data.endswith("texts of the calibration file that calibration did not see")
    assert not [one for one in bundle.manifest.quality if one.metric == "task_retention"]
    assert not list(bundle.root.rglob("answers-*"))
    unasked = dataclasses.replace(options, gates=Gates(0.5, 0.5, 0.0))
    _, findings = quantize(model(base, tmp_path / "other", "tags"), texts, tmp_path / "unasked", unasked)
    assert findings.measured["onnxruntime-int8"].answers is None
