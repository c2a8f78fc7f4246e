"""The examples of tasks do what they say, from a tiny base whose words are those of their made-up data."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import make_teacher, one_thread

import edgebert
from edgebert.quantize.parity import measure

__all__ = ["one_thread"]
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
TRAINED = ("sentiment", "sentiment_zh", "ner", "question_answering", "reranked_search")
WITHOUT_TORCH = (
    "import runpy, sys; sys.modules['torch'] = sys.modules['transformers'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for all of them: the models that come with EdgeBERT are proven once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("EDGEBERT_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


def example(name: str) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs an example's `main` with a tiny base, for so many epochs; all it makes lies in `tmp_path / "work"`."""
    # What runs engines for the gates does so in a process of its own, whose start takes longer than all it does here.
    monkeypatch.setattr("edgebert.quantize.search.measured", measure)
    monkeypatch.setattr("edgebert.quantize.reference._MOST_TIMED", 16)  # texts whose speed is told

    def started(module: ModuleType, *more: str, epochs: int, rate: str = "2e-3") -> Any:
        work = tmp_path / "work"
        module.write_data(work)
        text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(work.iterdir()))
        words = sorted(set(re.findall("[一-鿿，。！]|[^\\W\\d_一-鿿]+", text.lower())))
        base = make_teacher(tmp_path / "base", layers=2, words=words)
        options = ("--base", base, "--work", work, "--epochs", epochs, "--learning-rate", rate, *more)
        return module.main([str(one) for one in options])

    return started


def new_to(work: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows whose text is in no file of that folder."""
    known = {
        json.loads(line)["text"]
        for path in work.glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    return [row for row in rows if row["text"] not in known]


def share_right(bundle: Path, rows: list[dict[str, str]]) -> float:
    """The accuracy of the classifier `bundle`."""
    with edgebert.load(bundle, task="classify", precision="int8") as model:
        found = model.classify([row["text"] for row in rows])
    return sum(one.label == row["label"] for one, row in zip(found, rows, strict=True)) / len(rows)


def test_sentiment(run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, work = example("sentiment"), tmp_path / "work"
    assert run(module, "--layers", "1", epochs=4) > 0.95
    assert "accuracy on 150 reviews of dev.jsonl: " in capsys.readouterr().out
    unseen = new_to(work, module.reviews(400, seed=5))
    assert len(unseen) > 100
    assert share_right(work / "bundle", unseen) > 0.95
    layers = [
        json.loads((work / name / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
        for name in ("teacher", "student", "bundle")
    ]
    assert layers == [2, 1, 1]
    with edgebert.load(work / "bundle", task="classify") as model:
        clear, *_ = module.NEW
        assert model.classify(clear).label == "positive"
        assert [one.label for one in model.classify_all(clear, threshold=0.5)] == ["positive"]


def test_a_second_run_makes_nothing_anew_and_needs_no_torch(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, work = example("sentiment_zh"), tmp_path / "work"
    assert run(module, epochs=6, rate="3e-3") > 0.95
    first = capsys.readouterr().out
    unseen = new_to(work, module.reviews(500, seed=5))
    assert len(unseen) > 100
    assert share_right(work / "bundle", unseen) > 0.95
    labels = [line.split()[1] for line in first.splitlines()[:2]]
    assert labels == ["好评", "差评"]
    command = [sys.executable, "-c", WITHOUT_TORCH, str(EXAMPLES / "sentiment_zh.py"), "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    told, *rest = done.stdout.splitlines()
    assert told == f"{work / 'bundle'} was made before; remove the folders in {work} to make it anew"
    assert rest == first.splitlines()


def test_ner(run: Callable[..., Any]) -> None:
    module = example("ner")
    found = run(module, epochs=3)
    wanted = [
        [("Grace Berg", "PER"), ("Blue River Foods", "ORG"), ("Hong Kong", "LOC")],
        [("Ada Hopper", "PER"), ("Acme", "ORG"), ("New York", "LOC")],
    ]
    assert [[(tag.text, tag.label) for tag in tags] for tags in found] == wanted
    for text, tags in zip(module.NEW, found, strict=True):
        assert [(tag.start, tag.end) for tag in tags] == [
            (text.index(tag.text), text.index(tag.text) + len(tag.text)) for tag in tags
        ]


def test_question_answering(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    module = example("question_answering")
    found = run(module, epochs=5, rate="3e-3")
    context = module.long_context()
    *answered, unanswered = found.items()
    for question, answer in answered:
        wanted = module.FACTS[question][1][0]
        assert (answer.text, answer.start) == (wanted, context.index(wanted))
        assert context[answer.start : answer.end] == wanted
    assert unanswered[1].text == ""
    windows = re.search(r"read in (\d+) windows", capsys.readouterr().out)
    assert windows is not None and int(windows[1]) > 10


def test_reranked_search(run: Callable[..., Any]) -> None:
    module = example("reranked_search")
    results = run(module, epochs=6)
    assert len(results) == 2
    for found, ranked in results.values():
        assert sorted(found) == sorted(ranked)
        refused, by_vectors = ([" not " in one or " no " in one for one in documents] for documents in (ranked, found))
        assert refused == sorted(refused) != by_vectors  # all that say yes, then all that say no


def test_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("summary")
    found = module.main([])
    for language, off_topic in (("en", ("bakery", "aunt")), ("zh", ("面包", "姑妈"))):
        text, chosen = module.TEXTS[language], found[language]
        assert len(chosen) == 3
        assert all(text[one.start : one.end] == one.text for one in chosen)
        assert not any(word in one.text for one in chosen for word in off_topic)
    (tmp_path / "own.txt").write_text("Rain fell. The rain went on. Hens sleep.", encoding="utf-8")
    (own,) = module.main([str(tmp_path / "own.txt"), "--sentences", "1"]).values()
    assert len(own) == 1
    assert "1 sentences of a text of 40 characters" in capsys.readouterr().out


@pytest.mark.parametrize("name", TRAINED)
def test_own_files_are_used_as_they_are(name: str, tmp_path: Path) -> None:
    own = tmp_path / "train.jsonl"
    own.write_text("mine\n", encoding="utf-8")
    example(name).write_data(tmp_path)
    assert own.read_text(encoding="utf-8") == "mine\n"
    assert (tmp_path / "dev.jsonl").stat().st_size > 0
