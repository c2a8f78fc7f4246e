"""What cannot work is told before work is done, and odd text comes out as it went in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from helpers import make_teacher
from tasks.made import with_head

from edgebert import loading
from edgebert.bundle import Bundle
from edgebert.distill.course import Course
from edgebert.distill.encoder import TorchEngine, load_tokenizer
from edgebert.errors import DataError, RecipeError
from edgebert.tasks import task_named
from edgebert.tasks.multi import MultiTask
from edgebert.tasks.tag import Tagger


@pytest.fixture
def answerer(tmp_path: Path) -> Bundle:
    with_head(make_teacher(tmp_path / "base", layers=1), tmp_path / "model", "AutoModelForQuestionAnswering")
    return Bundle.from_pretrained(tmp_path / "model")


def test_numbers_all_the_same_are_told_before_training(answerer: Bundle) -> None:
    task = task_named("regress")
    examples = [task.example({"text": "a dog", "score": 3}, "row 1")] * 2
    head = task.head([*examples, task.example({"text": "a dog", "score": 4}, "row 2")])
    with pytest.raises(DataError, match="all 2 numbers are 3.0; a correlation needs different ones"):
        Course(answerer, [task], [head], [[]], [examples], [["dev.jsonl"]])


def test_one_text_is_no_question_to_a_head_of_two(answerer: Bundle) -> None:
    heads = (dataclasses.replace(answerer.manifest.heads[0], name="reader"),)
    bundle = dataclasses.replace(answerer, manifest=dataclasses.replace(answerer.manifest, heads=heads))
    with (
        MultiTask(bundle, TorchEngine(bundle), tokenizer=load_tokenizer(bundle)) as model,
        pytest.raises(RecipeError, match="the heads 'reader' are asked about two texts, not one: .* head="),
    ):
        model.predict("the dog")


def test_half_a_surrogate_pair_stays_an_escape(
    answerer: Bundle, tmp_path: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Echo(Tagger):
        def results(self, items: Any, **_: Any) -> list[dict[str, Any]]:
            return [{"text": item} for item in items]

    heads = (dataclasses.replace(answerer.manifest.heads[0], task="tag"),)
    tagger = dataclasses.replace(answerer, manifest=dataclasses.replace(answerer.manifest, heads=heads))
    made = Echo(tagger, TorchEngine(answerer), tokenizer=load_tokenizer(answerer))
    monkeypatch.setattr(loading, "load", lambda *_, **__: made)
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"text": "\\ud83d dog 😀"}\n', encoding="utf-8")
    done = cli("predict", "x", path, "-o", out)
    assert done.code == 0, done.err
    assert out.read_text(encoding="utf-8") == '{"text": "\\ud83d dog 😀"}\n'
    assert json.loads(out.read_text(encoding="utf-8"))["text"] == "\ud83d dog 😀"
