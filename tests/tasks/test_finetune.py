"""`edgebert finetune`: every task learns what made data say, and bad data is refused in one line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result
from helpers import assert_refused, make_teacher, sentences
from tasks import made

import edgebert
from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_encoder
from edgebert.distill.finetuning import balanced
from edgebert.engines import open_engine
from edgebert.errors import RecipeError
from edgebert.golden import prove, read_golden
from edgebert.manifest import Head
from edgebert.quantize.parity import Gates
from edgebert.quantize.recipe import find_recipe
from edgebert.quantize.stage import Options, quantize
from edgebert.quantize.task_gate import TaskGate
from edgebert.tasks import task_named
from edgebert.tasks.reading import Row
from edgebert.tasks.scoring import OneHead, files_of
from edgebert.tasks.task import Lesson

Cli = Callable[..., Result]
Rows = Callable[..., list[dict[str, Any]]]
FAST = ("--learning-rate", "3e-3", "--epochs", "6", "--batch-size", "16")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("base") / "base", layers=2)


def files(folder: Path, rows: Rows, count: int = 400) -> tuple[str, ...]:
    """Options with a train and a dev file."""
    folder.mkdir(exist_ok=True)
    train = made.write_rows(folder / "train.jsonl", rows(count, seed=1))
    dev = made.write_rows(folder / "dev.jsonl", rows(80, seed=2))
    return "--train", str(train), "--dev", str(dev)


@pytest.mark.parametrize(
    ("task", "rows", "metric", "least"),
    [
        ("classify", made.class_rows, "accuracy", 0.95),
        ("classify", made.multi_rows, "f1", 0.95),
        ("tag", made.tag_rows, "f1", 0.9),
        ("answer", made.answer_rows, "f1", 0.8),
        ("regress", made.number_rows, "spearman", 0.8),
        ("pairs", made.pair_rows, "accuracy", 0.9),
    ],
)
def test_a_task_is_learnt(
    base: Path,
    tmp_path: Path,
    cli: Cli,
    task: str,
    rows: Callable[..., list[dict[str, Any]]],
    metric: str,
    least: float,
) -> None:
    out = tmp_path / "out"
    done = cli("finetune", base, "--task", task, *files(tmp_path / "data", rows), "-o", out, *FAST)
    assert done.code == 0, done.err
    bundle = Bundle.open(out)
    assert bundle.manifest.task == task
    assert bundle.manifest.quality[0].metric == metric
    assert bundle.manifest.quality[0].value >= least
    assert bundle.manifest.quality[0].data == "80 examples of dev.jsonl"
    assert f"{metric}: " in done.out
    (head,) = bundle.manifest.heads
    assert head.temperature == 1 if task == "regress" else 0.15 < head.temperature < 5
    assert (out.parent / "out.training.csv").read_text(encoding="utf-8").startswith(f"step,loss,{metric},")


def test_numbers_of_pairs_are_learnt(base: Path, tmp_path: Path, cli: Cli) -> None:
    def rows(count: int, *, seed: int) -> list[dict[str, Any]]:
        texts = sentences(count, seed=seed)
        return [
            {"text": s, "text_pair": t, "score": float(bool(made.ANIMALS & set(made.words_of(t))))}
            for s, t in zip(texts, texts[1:] + texts[:1], strict=True)
        ]

    out = tmp_path / "out"
    done = cli("finetune", base, "--task", "pairs", *files(tmp_path / "data", rows), "-o", out, *FAST)
    assert done.code == 0, done.err
    (spearman, _) = Bundle.open(out).manifest.quality
    assert spearman.metric == "spearman"
    assert spearman.value > 0.8


def test_what_was_learnt_runs_without_torch_and_as_it_was_measured(base: Path, tmp_path: Path, cli: Cli) -> None:
    data = files(tmp_path / "data", made.tag_rows)
    assert cli("finetune", base, "--task", "tag", *data, "-o", tmp_path / "out", *FAST).code == 0
    quantize(Bundle.open(tmp_path / "out"), sentences(60), tmp_path / "bundle", Options(samples=40))
    examples = task_named("tag").read([tmp_path / "data" / "dev.jsonl"])
    learnt = Bundle.open(tmp_path / "out").manifest.quality[0].value
    for precision, least in (("fp32", learnt - 1e-6), ("int8", learnt - 0.03)):
        with edgebert.load(tmp_path / "bundle", precision=precision, task="tag") as tagger:
            assert task_named("tag").scores(tagger, examples)["f1"] >= least
            assert tagger.tag("the dog walks under the city.")[0].label == "ANIMAL"
    out = tmp_path / "found.jsonl"
    lines = tmp_path / "lines.txt"
    lines.write_text("the dog walks under the city.\n\nthe river\n", encoding="utf-8")
    done = cli("predict", tmp_path / "bundle", lines, "-o", out)
    assert done.code == 0, done.err
    found = [json.loads(line)["tags"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert [[tag["text"] for tag in tags] for tags in found] == [["dog", "city"], [], ["river"]]


def test_what_learnt_that_there_is_no_answer_says_so(base: Path, tmp_path: Path, cli: Cli) -> None:
    def rows(count: int, *, seed: int) -> list[dict[str, Any]]:
        found = made.answer_rows(count, seed=seed)
        for row in found[::2]:
            animal = row["answers"][0]["text"]
            row |= {"context": row["context"].replace(animal, "man"), "answers": []}
        return [row for row in found if row["answers"] or not made.ANIMALS & set(made.words_of(row["context"]))]

    data = files(tmp_path / "data", rows)
    done = cli("finetune", base, "--task", "answer", *data, "--max-length", 24, "-o", tmp_path / "out", *FAST)
    assert done.code == 0, done.err
    model = Bundle.open(tmp_path / "out")
    assert model.manifest.max_length == 24
    assert model.manifest.heads[0].may_be_none
    quantize(model, sentences(60), tmp_path / "bundle", Options(samples=40))
    found = cli("predict", tmp_path / "bundle", tmp_path / "data" / "dev.jsonl", "--precision", "fp32")
    texts = [json.loads(line)["text"] for line in found.out.splitlines()]
    wanted = [row["answers"][0]["text"] if row["answers"] else "" for row in rows(80, seed=2)]
    assert sum(a == b for a, b in zip(texts, wanted, strict=True)) > 0.9 * len(wanted)
    assert texts.count("") > 0.2 * len(texts)
    with edgebert.load(tmp_path / "bundle", precision="fp32", task="answer") as reader:
        blank = next(row for row in rows(80, seed=2) if not row["answers"])
        assert reader.answer(blank["question"], blank["context"]).text == ""
        assert reader.answer(blank["question"], blank["context"], may_be_none=False).text != ""


def test_several_tasks_share_one_encoder(base: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "tasks.toml").write_text(
        "".join(
            f'[[tasks]]\nname = "{name}"\ntask = "{task}"\ntrain = ["{name}/train.jsonl"]\ndev = ["{name}/dev.jsonl"]\n'
            for name, task in (("mood", "classify"), ("things", "tag"))
        ),
        encoding="utf-8",
    )
    files(tmp_path / "mood", made.class_rows)
    files(tmp_path / "things", made.tag_rows)
    out = tmp_path / "out"
    done = cli("finetune", base, "--task", "multi", "--tasks", tmp_path / "tasks.toml", "-o", out, *FAST)
    assert done.code == 0, done.err
    manifest = Bundle.open(out).manifest
    assert manifest.task == "multi"
    assert [head.name for head in manifest.heads] == ["mood", "things"]
    quality = {q.metric: q.value for q in manifest.quality}
    assert quality["mood_accuracy"] > 0.9
    assert quality["things_f1"] > 0.85
    quantize(Bundle.open(out), sentences(60), tmp_path / "bundle", Options(samples=40))
    with edgebert.load(tmp_path / "bundle", task="multi") as model:
        said = model.predict("the dog walks under the city.")
        long = model.predict("the dog walks under the city. " * 60)["things"]
    assert said["mood"].label == "animal"  # type: ignore[union-attr]
    assert [tag.text for tag in said["things"]] == ["dog", "city"]  # type: ignore[union-attr]
    places = [(tag.start, tag.end) for tag in long]  # type: ignore[union-attr]
    assert places == sorted(set(places))  # what two windows share is found once
    wanted = {(30 * i + start, 30 * i + end) for i in range(60) for start, end in ((4, 7), (24, 28))}
    assert len(wanted & set(places)) >= 114
    assert len(set(places) - wanted) <= 6  # it was trained on short texts
    with edgebert.load(tmp_path / "bundle", task="tag") as tagger:
        assert [head.name for head in tagger.heads] == ["things"]
        assert [tag.text for tag in tagger.tag("the dog walks under the city.")] == ["dog", "city"]
    with edgebert.load(tmp_path / "bundle", task="classify") as classifier:
        assert classifier.classify("the dog walks under the city.").label == "animal"
    with pytest.raises(RecipeError, match="is made for the task 'multi' and cannot do 'answer'"):
        edgebert.load(tmp_path / "bundle", task="answer")
    dev = [f"{name}={tmp_path / name / 'dev.jsonl'}" for name in ("mood", "things")]
    gate = TaskGate("task", tuple(dev), 0.97)
    _, found = quantize(Bundle.open(out), sentences(60), tmp_path / "gated", Options(samples=40, task=gate))
    done = cli("evaluate", tmp_path / "gated", "--precision", "int8", "--labelled", dev[0], "--labelled", dev[1])
    assert done.code == 0, done.err
    assert "mood accuracy" in done.out
    assert "things f1" in done.out
    assert all(one.retention >= 0.97 for name, one in found.measured.items() if "int8" in name)
    with pytest.raises(RecipeError, match="the head 'things' has no file of labelled examples"):
        files_of(manifest.heads, dev[:1])


def test_one_head_of_several_is_proven_as_all_were_though_another_reads_two_texts(
    base: Path, tmp_path: Path, cli: Cli
) -> None:
    parts = (
        ("things", "tag", made.tag_rows),
        ("after", "pairs", made.pair_rows),
        ("mood", "classify", made.class_rows),
    )
    lines = []
    for name, task, rows in parts:
        files(tmp_path / name, rows)
        lines.append(f'[[tasks]]\nname = "{name}"\ntask = "{task}"\n')
        lines.append(f'train = ["{name}/dev.jsonl"]\ndev = ["{name}/dev.jsonl"]\n')
    (tmp_path / "tasks.toml").write_text("".join(lines), encoding="utf-8")
    out = tmp_path / "out"
    few = ("--epochs", "1", "--max-length", "48")
    done = cli("finetune", base, "--task", "multi", "--tasks", tmp_path / "tasks.toml", "-o", out, *few)
    assert done.code == 0, done.err
    options = Options(samples=40, recipe=find_recipe("weight-only"), gates=Gates(0.0, 0.0, 0.0))
    quantize(Bundle.open(out), sentences(60), tmp_path / "bundle", options)
    golden = Bundle.open(tmp_path / "bundle").manifest.golden
    assert golden is not None
    assert golden.two_texts
    text, other = sentences(2, seed=9)
    with edgebert.load(tmp_path / "bundle", precision="fp32", task="multi") as model:
        said: dict[str, Any] = dict(model.predict(text))
    with edgebert.load(tmp_path / "bundle", precision="fp32", task="tag") as tagger:
        assert [(tag.start, tag.label) for tag in tagger.tag(text)] == [(t.start, t.label) for t in said["things"]]
    with edgebert.load(tmp_path / "bundle", precision="fp32", task="classify", head="mood") as classifier:
        assert classifier.classify(text).score == pytest.approx(said["mood"].score, abs=1e-4)
    with edgebert.load(tmp_path / "bundle", precision="fp32", task="pairs") as scorer:
        assert scorer.classify_pairs([(text, other)])[0].label in ("animal", "none")


def test_a_head_is_proven_by_what_it_must_answer(base: Path, tmp_path: Path, cli: Cli) -> None:
    made.with_head(base, tmp_path / "model", "AutoModelForSequenceClassification", num_labels=3)
    quantize(Bundle.from_pretrained(tmp_path / "model"), sentences(60), tmp_path / "bundle", Options(samples=40))
    bundle = Bundle.open(tmp_path / "bundle")
    golden, artifact = read_golden(bundle), bundle.manifest.artifacts["onnxruntime-fp32"]
    assert len(golden.logits[0]) == len(golden.cases)
    with contextlib.closing(open_engine(bundle, "onnxruntime-fp32")) as engine:
        right = prove(engine, golden, bundle)
        assert right.fault(artifact, golden.max_error) == ""
        assert right.heads[0].mean < 1e-4

        class Swapped(OneHead):
            def answer(self, *inputs: Any) -> Any:
                return tuple(logits[:, ::-1] for logits in self.engine.answer(*inputs))

        class OnceWrong(OneHead):
            def answer(self, *inputs: Any) -> Any:
                (logits,) = self.engine.answer(*inputs)
                return (logits * np.nan if tuple(inputs[0][0]) == tuple(golden.cases[0].input_ids) else logits,)

        wrong = prove(Swapped(engine, 0), golden, bundle).fault(artifact, golden.max_error)
        once = prove(OnceWrong(engine, 0), golden, bundle).fault(bundle.manifest.artifacts["openvino-int8"], 0.1)
    assert wrong.startswith("the head 'classify' is ")
    assert "at most 0.001 is allowed" in wrong
    assert "is inf from its golden answers" in once


def test_an_interrupted_run_goes_on_to_the_same_model(
    base: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:

    from edgebert.distill import training

    data = files(tmp_path / "data", made.class_rows)
    command = ("finetune", base, "--task", "classify", *data, "--work", tmp_path / "work", *FAST)
    assert cli(*command, "-o", tmp_path / "whole").code == 0
    step = training.Figures.on_step_end

    def stop(self: training.Figures, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 70:
            self.interrupted = True
        step(self, args, state, control, **more)

    monkeypatch.setattr(training.Figures, "on_step_end", stop)
    assert cli(*command, "-o", tmp_path / "broken").code == 130
    assert not (tmp_path / "broken").exists()
    monkeypatch.setattr(training.Figures, "on_step_end", step)
    assert cli(*command, "-o", tmp_path / "broken").code == 0
    one, other = (load_encoder(Bundle.open(tmp_path / name)).state_dict() for name in ("whole", "broken"))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-5


def test_one_in_a_thousand_is_found_with_weights(base: Path, tmp_path: Path, cli: Cli) -> None:
    texts = sentences(14000, seed=1)
    common = [{"text": text, "label": "none"} for text in texts if not made.ANIMALS & set(made.words_of(text))]
    rare = [{"text": text, "label": "dog"} for text in texts if "dog" in made.words_of(text)]
    train = made.write_rows(tmp_path / "train.jsonl", [*common[:4995], *rare[:5]])
    dev = made.write_rows(tmp_path / "dev.jsonl", [*common[6000:6100], *rare[40:80]])
    done = cli("finetune", base, "--task", "classify", "--train", train, "--dev", dev, "-o", tmp_path / "out",
               "--learning-rate", "1e-3", "--epochs", "6", "--batch-size", "16", "--class-weights")  # fmt: skip
    assert done.code == 0, done.err
    quality = {one.metric: one.value for one in Bundle.open(tmp_path / "out").manifest.quality}
    assert quality["f1"] > 0.8  # of both labels alike; without weights all are "none", 0.42


def test_weights_make_labels_count_alike() -> None:
    rows, head = [Row([2, 3], [0, 0])] * 10, Head("a", "classify", "text", ("x", "y"))
    lessons = [Lesson(row, np.asarray(int(i == 0))) for i, row in enumerate(rows)]
    weights = balanced(lessons, head)
    assert weights is not None
    assert weights.tolist() == pytest.approx([10 / 18, 5.0])
    many = Head("a", "classify", "text", ("x", "y"), multi_label=True)
    lessons = [Lesson(row, np.array([1.0, i == 0], np.float32)) for i, row in enumerate(rows)]
    weights = balanced(lessons, many)
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.001, 9.0])
    assert balanced(lessons, Head("a", "regress", "text")) is None


A, B = {"text": "a dog.", "label": "x"}, {"text": "a cat.", "label": "y"}


@pytest.mark.parametrize(
    ("task", "train", "dev", "words"),
    [
        ("classify", [A, A], [A], ("all 2 examples have the label 'x'", "at least two labels are needed")),
        ("classify", [A, {"text": "b"}], [A], ("train.jsonl: row 2 has no column 'label'", "it has 'text'")),
        ("classify", [A, {"text": "b", "label": None}], [A], ("row 2, column 'label' holds None", "a label is needed")),
        ("classify", [A, B], [{"text": "a", "label": "z"}], ("dev.jsonl: row 1", "the label 'z'", "x, y")),
        ("classify", [A, {"text": "b", "labels": ["y"]}], [A], ("row 2", "'label' and others 'labels'")),
        ("classify", [{"text": 3, "label": "x"}, B], [A], ("row 1, column 'text' holds 3", "a text is needed")),
        ("regress", [{"text": "a", "score": "much"}], [A], ("row 1, column 'score' holds 'much'", "a number within")),
        ("pairs", [A, B], [A], ("row 1 has no column 'text_pair'",)),
        ("tag", [{"tokens": ["a", "b"], "tags": ["O"]}], [A], ("row 1 has 2 tokens and 1 tags",)),
        ("tag", [{"tokens": ["a"], "tags": ["O"]}], [A], ("all tags", "nothing to find")),
        (
            "tag", [{"text": "a dog", "entities": [{"start": 2, "end": 9, "label": "X"}]}], [A],
            ("row 1: the entity", "outside the text, which has 5 characters"),
        ),
        (
            "answer", [{"question": "a?", "context": "the dog", "answers": [{"text": "cat", "answer_start": 4}]}], [A],
            ("row 1: the answer 'cat' does not stand at 4", "'dog'"),
        ),
        (
            "answer", [{"question": "a?", "context": " ", "answers": []}], [A],
            ("row 1: the context is ' '", "not blank"),
        ),
        (
            "answer", [{"question": " ", "context": "the dog", "answers": []}], [A],
            ("row 1: the question is ' '", "not blank"),
        ),
    ],
)  # fmt: skip
def test_bad_examples_are_refused(
    base: Path, tmp_path: Path, cli: Cli, task: str, train: list[dict[str, Any]], dev: list[dict[str, Any]],
    words: tuple[str, ...],
) -> None:  # fmt: skip
    one = made.write_rows(tmp_path / "train.jsonl", train)
    other = made.write_rows(tmp_path / "dev.jsonl", dev)
    done = cli("finetune", base, "--task", task, "--train", one, "--dev", other, "-o", tmp_path / "out")
    assert_refused(done, tmp_path / "out", *words)


def test_a_task_that_is_none_is_told_with_its_file(base: Path, tmp_path: Path, cli: Cli) -> None:
    tasks = tmp_path / "tasks.toml"
    one = '[[tasks]]\nname = "{}"\ntask = "{}"\ntrain = ["x"]\ndev = ["x"]\n'
    tasks.write_text(one.format("mood", "classify") + one.format("names", "translate"), encoding="utf-8")
    done = cli("finetune", base, "--task", "multi", "--tasks", tasks, "-o", tmp_path / "out")
    assert_refused(done, tmp_path / "out", "tasks.toml: of 'names' the task is 'translate'; it must be one of classify")


def test_wrong_options_are_refused(base: Path, tmp_path: Path, cli: Cli) -> None:
    for options, words in (
        (("--task", "translate"), ("task is 'translate'", "classify, regress, pairs, tag, answer")),
        (("--task", "tag"), ("--train is missing", "CoNLL")),
        (("--task", "multi"), ("--tasks FILE.toml",)),
        (
            ("--task", "regress", "--max-length", 999, "--train", __file__, "--dev", __file__),
            ("max_length is 999", "it must be within 8 and"),
        ),
        (("--task", "tag", "--train", "-", "--dev", "b"), ("standard input (-) cannot be read twice",)),
    ):
        assert_refused(cli("finetune", base, *options, "-o", tmp_path / "out"), tmp_path / "out", *words)
