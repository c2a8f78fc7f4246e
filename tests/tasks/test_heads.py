"""Heads in torch: stateless, with weights of their own, and of models that have one."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import Result
from helpers import make_teacher, sentences
from safetensors.torch import load_file, save_file
from tasks.made import with_head, write_rows

import edgebert
from edgebert import tasks
from edgebert.bundle import Bundle
from edgebert.distill.encoder import TorchEngine, load_encoder, load_tokenizer
from edgebert.distill.temperature import fit_temperature
from edgebert.errors import BundleError
from edgebert.golden import _HeadError
from edgebert.manifest import Head
from edgebert.quantize.parity import measure
from edgebert.tasks import regress, task_named
from edgebert.tasks.classify import Classifier
from edgebert.tasks.reading import Row
from edgebert.tasks.task import Lesson


@pytest.fixture
def model(tmp_path: Path) -> Path:
    auto = "AutoModelForSequenceClassification"
    with_head(make_teacher(tmp_path / "base", layers=1), tmp_path / "model", auto, num_labels=3)
    return tmp_path / "model"


def test_several_threads_ask_one_head(model: Path) -> None:
    bundle, texts = Bundle.from_pretrained(model), sentences(60)
    with Classifier(bundle, TorchEngine(bundle), tokenizer=load_tokenizer(bundle)) as classifier:
        wanted = [classifier.classify(text) for text in texts]
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: [classifier.classify(text) for text in texts], range(4)):
                assert [one.label for one in found] == [one.label for one in wanted]
                assert np.allclose([one.score for one in found], [one.score for one in wanted], atol=1e-5)


def test_a_head_without_weights_is_none(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("classifier")}
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BundleError, match="has no weights of its head .classifier.bias, classifier.weight., though"):
        load_encoder(Bundle.from_pretrained(model))


def test_a_model_of_sentence_transformers_gives_vectors_whatever_was_trained_last(tmp_path: Path) -> None:
    base = make_teacher(tmp_path / "base", layers=1)
    trained = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    trained.config.architectures = ["BertForSequenceClassification"]
    trained.config.save_pretrained(base)
    manifest = Bundle.from_pretrained(base).manifest
    assert (manifest.task, manifest.heads) == ("embedding", ())


@pytest.mark.parametrize(("turned", "told"), [(2, ""), (4, "answers 4 of 49 golden cases otherwise")])
def test_a_few_answers_turned_around_are_a_fault(turned: int, told: str) -> None:
    right = [np.array([5.0, -5.0], np.float32) if i % 2 else np.array([-5.0, 5.0], np.float32) for i in range(49)]
    error = _HeadError(Head("a", "classify", "text", ("x", "y")), right)
    for i, answer in enumerate(right):
        error.add(answer[::-1] if i < turned else answer, answer)
    assert told in error.fault(0.1)
    assert bool(told) == bool(error.fault(0.1))


def test_numbers_that_are_nearly_one_may_differ_a_little() -> None:
    golden = [np.array([3.0 + 1e-4 * i], np.float32) for i in range(9)]
    error = _HeadError(Head("a", "regress", "text"), golden)
    for one in golden:
        error.add(one + np.float32(0.001), one)
    assert error.fault(0.1) == ""
    error.add(golden[0] + 1, golden[0])
    assert "from its golden answers" in error.fault(0.1)


@pytest.mark.parametrize("count", [80, 800])
def test_examples_without_a_mistake_do_not_make_all_sure(count: int) -> None:
    head = Head("a", "classify", "text", ("x", "y"))
    lessons = [Lesson(Row([2, 3], [0, 0]), np.asarray(i % 2)) for i in range(count)]
    logits = [np.array([1.0, -1.0] if i % 2 == 0 else [-1.0, 1.0], np.float32) for i in range(count)]
    temperature = fit_temperature(task_named("classify"), head, lessons, logits)
    sure = float(torch.softmax(torch.tensor([1.0, -1.0]) / temperature, 0)[0])
    assert sure == pytest.approx(1 - 0.5 / (count + 2), abs=3e-4)


def test_a_task_is_added_in_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Result]
) -> None:
    """A module with a runtime object and its task, named in `KINDS`: all commands know it then."""

    class Rater(regress.Regressor):
        what = "rater"

        def stars(self, text: str) -> str:
            """From one to five."""
            return "*" * min(5, max(1, round(self.predict(text))))

    class Stars(regress.Regress):
        name, runtime = "stars", Rater
        pipeline, call = "text-classification", 'model.stars("some text")'

    module: Any = types.ModuleType("stars_task")
    module.Rater, module.TASK = Rater, Stars()
    monkeypatch.setitem(sys.modules, "stars_task", module)
    monkeypatch.setattr("edgebert.quantize.search.measured", measure)  # in this process, which has the module
    monkeypatch.setattr(tasks, "KINDS", {**tasks.KINDS, "stars": ("stars_task", "Rater")})
    base = make_teacher(tmp_path / "base", layers=1)
    rows = [{"text": text, "score": 1 + 4 * ("dog" in text)} for text in sentences(200, seed=1)]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    out, bundle = tmp_path / "out", tmp_path / "bundle"
    done = cli(
        "finetune", base, "--task", "stars", "--train", file, "--dev", file, "--epochs", "2", "--max-length", "16",
        "-o", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    done = cli("quantize", out, "--calibration", file, "--min-agreement", "0", "--samples", "16", "-o", bundle)
    assert done.code == 0, done.err
    assert 'model.stars("some text")' in (bundle / "README.md").read_text(encoding="utf-8")
    with edgebert.load(bundle, precision="fp32") as model:
        assert set(model.stars("the dog")) == {"*"}
    done = cli("predict", bundle, file, "--precision", "fp32")
    assert done.code == 0, done.err
    assert done.out.count("score") == 200
