"""`edgebert distill` of a task's teacher: from unlabelled inputs to a student that says the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from helpers import assert_refused, make_teacher, sentences
from tasks import made
from tokenizers import Tokenizer, processors

from edgebert.bundle import Bundle
from edgebert.distill.apprenticeship import Beside, Inputs, apprenticeships
from edgebert.distill.course import reader_of
from edgebert.distill.recipe import Recipe, override
from edgebert.distill.second_stage import SecondStage
from edgebert.distill.teacher import fingerprint
from edgebert.errors import RecipeError

Cli = Callable[..., Result]
FAST = ("--learning-rate", "3e-3", "--epochs", "6", "--batch-size", "16")
RECIPE = """[student]
layers = 2

[training]
epochs = 2
batch_size = 16
learning_rate = 1e-3

[task]
epochs = 4
learning_rate = 1e-3
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("base") / "base", layers=3)


@pytest.fixture
def taught(base: Path, tmp_path: Path, cli: Cli) -> Callable[..., Path]:
    """Teachers of tasks, fine-tuned on made rows; their dev file lies beside them."""

    def get(task: str, rows: Callable[..., list[dict[str, Any]]]) -> Path:
        folder = tmp_path / task
        folder.mkdir()
        train = made.write_rows(folder / "train.jsonl", rows(400, seed=1))
        made.write_rows(folder / "dev.jsonl", rows(80, seed=2))
        done = cli(
            "finetune", base, "--task", task, "--train", train, "--dev", folder / "dev.jsonl", "-o", folder / "teacher",
            *FAST,
        )  # fmt: skip
        assert done.code == 0, done.err
        return folder / "teacher"

    return get


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def unlabelled(path: Path, rows: list[dict[str, Any]], *columns: str) -> Path:
    """Those columns alone."""
    return made.write_rows(path, [{name: row[name] for name in columns} for row in rows])


@pytest.mark.parametrize(
    ("task", "rows", "columns", "metric"),
    [
        ("classify", made.class_rows, ("text",), "accuracy"),
        ("tag", made.tag_rows, ("tokens",), "f1"),
        ("answer", made.answer_rows, ("question", "context"), "f1"),
    ],
)
def test_a_student_keeps_the_task_from_inputs_without_labels(
    taught: Callable[..., Path], recipe: Path, tmp_path: Path, cli: Cli, task: str,
    rows: Callable[..., list[dict[str, Any]]], columns: tuple[str, ...], metric: str,
) -> None:  # fmt: skip
    teacher = taught(task, rows)
    corpus = unlabelled(tmp_path / "corpus.jsonl", rows(400, seed=5), *columns)
    out, dev = tmp_path / "student", tmp_path / task / "dev.jsonl"
    done = cli("distill", teacher, "--corpus", corpus, "--dev", dev, "--recipe", recipe, "-o", out)
    assert done.code == 0, done.err
    manifest = Bundle.open(out).manifest
    assert manifest.task == task
    quality = {q.metric: q.value for q in manifest.quality}
    assert quality["kept"] >= 0.9
    assert quality[metric] > 0.8
    assert f"{metric}: " in done.out
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"] == 2
    assert manifest.lineage["tasks"][0]["teacher_sha256"] == manifest.lineage["first_stage"]["teacher_sha256"]
    assert manifest.heads[0].labels == Bundle.open(teacher).manifest.heads[0].labels


def test_without_dev_examples_agreement_measures(
    taught: Callable[..., Path], recipe: Path, tmp_path: Path, cli: Cli
) -> None:
    teacher = taught("classify", made.class_rows)
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(sentences(400, seed=6)) + "\n", encoding="utf-8")
    out = tmp_path / "student"
    done = cli("distill", teacher, "--corpus", lines, "--recipe", recipe, "--coverage", "0.98", "-o", out)
    assert done.code == 0, done.err
    (agreement,) = Bundle.open(out).manifest.quality
    assert agreement.metric == "agreement"
    assert agreement.value >= 0.9
    with _opened(out) as model:
        rows = made.class_rows(100, seed=9)
        found = model.classify([row["text"] for row in rows])
    assert sum(one.label == row["label"] for one, row in zip(found, rows, strict=True)) >= 85


def _opened(out: Path) -> Any:
    """The classifier of a bundle without engine files, computed by torch."""
    from edgebert.distill.encoder import TorchEngine, load_tokenizer
    from edgebert.tasks.classify import Classifier

    bundle = Bundle.open(out)
    return Classifier(bundle, TorchEngine(bundle), tokenizer=load_tokenizer(bundle))


def test_several_teachers_make_one_student(
    base: Path, taught: Callable[..., Path], recipe: Path, tmp_path: Path, cli: Cli
) -> None:
    taught("classify", made.class_rows)
    taught("tag", made.tag_rows)
    (tmp_path / "tasks.toml").write_text(
        '[[tasks]]\nname = "mood"\nteacher = "classify/teacher"\ncorpus = ["classify/train.jsonl"]\n'
        'dev = ["classify/dev.jsonl"]\n\n'
        '[[tasks]]\nname = "things"\nteacher = "tag/teacher"\ncorpus = ["tag/train.jsonl"]\ndev = ["tag/dev.jsonl"]\n',
        encoding="utf-8",
    )
    out = tmp_path / "student"
    done = cli("distill", base, "--tasks", tmp_path / "tasks.toml", "--recipe", recipe, "-o", out)
    assert done.code == 0, done.err
    manifest = Bundle.open(out).manifest
    assert manifest.lineage["first_stage"]["teacher_sha256"] == fingerprint(Bundle.from_pretrained(base))
    assert manifest.task == "multi"
    assert [head.name for head in manifest.heads] == ["mood", "things"]
    quality = {q.metric: q.value for q in manifest.quality}
    assert min(quality["mood_kept"], quality["things_kept"]) >= 0.9


def test_a_classifier_of_pairs_has_a_student_of_pairs(base: Path, recipe: Path, tmp_path: Path, cli: Cli) -> None:
    made.with_head(base, tmp_path / "teacher", "AutoModelForSequenceClassification", num_labels=2)
    texts = sentences(61, seed=3)
    rows = [{"text": a, "text_pair": b, "label": f"LABEL_{i % 2}"} for i, (a, b) in enumerate(pairwise(texts))]
    pairs, out = made.write_rows(tmp_path / "pairs.jsonl", rows), tmp_path / "out"
    done = cli(
        "distill", tmp_path / "teacher", "--task", "pairs", "--corpus", pairs, "--dev", pairs, "--recipe", recipe,
        "--epochs", "1", "--task-epochs", "1", "-o", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert Bundle.open(out).manifest.task == "pairs"
    assert [head.task for head in Bundle.open(out).manifest.heads] == ["pairs"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--task", "tag"), "is made for the task 'classify' and cannot teach 'tag'"),
        (("--task", "noun"), "task is 'noun'; it must be one of"),
        (("--qat",), "training.qat is 0.25; students of a task imitate no int8"),
        (("--pairs", "p.jsonl"), "--pairs is for the contrastive objective"),
        (("--exclude", "e.txt"), "data.exclude is for text without labels"),
        (("--max-sentences", "20"), "--max-sentences) is about the text of --general, which is not given"),
        (("--column", "noun=text"), "noun=text names a column that is not read; read are text, label, labels"),
        (("--max-length", "600"), "student.max_length is 600;"),
        (("--dev", "dev.jsonl"), "dev.jsonl: row 1: the label 'c' is not among those of the training text: a, b"),
    ],
)
def test_what_does_not_fit_is_one_error(
    base: Path, tmp_path: Path, cli: Cli, options: tuple[str, ...], told: str
) -> None:
    teacher = tmp_path / "teacher"
    made.with_head(base, teacher, "AutoModelForSequenceClassification", num_labels=2, id2label={0: "a", 1: "b"})
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(sentences(40)) + "\n", encoding="utf-8")
    made.write_rows(tmp_path / "dev.jsonl", [{"text": "a", "label": "c"}])
    given = [str(tmp_path / one) if one == "dev.jsonl" else one for one in options]
    done = cli("distill", teacher, "--corpus", lines, "-o", tmp_path / "out", *given)
    assert_refused(done, tmp_path / "out", told)
    assert "first stage" not in done.err  # which would take hours


def test_what_is_held_out_is_in_no_stage(base: Path, tmp_path: Path) -> None:
    made.with_head(base, tmp_path / "teacher", "AutoModelForQuestionAnswering")
    rows = made.answer_rows(80, seed=1)
    rows += [{**row, "question": "which animal?"} for row in rows]  # a context is asked about twice
    corpus = made.write_rows(tmp_path / "corpus.jsonl", rows)
    (one,) = apprenticeships(Bundle.from_pretrained(tmp_path / "teacher"), [str(corpus)], ())
    inputs = Inputs(one, labelled=False, seed=0)
    aside, learnt = ({context for _, context in items} for items in (inputs.aside, inputs.learnt))
    assert aside
    assert not aside & learnt
    assert not aside & set(inputs.texts())
    assert len(inputs.aside) + len(inputs.learnt) == len({(row["question"], row["context"]) for row in rows})


def test_fresh_word_vectors_learn(base: Path, tmp_path: Path) -> None:
    made.with_head(base, tmp_path / "teacher", "AutoModelForSequenceClassification", num_labels=2)
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(sentences(40)) + "\n", encoding="utf-8")
    teacher = Bundle.from_pretrained(tmp_path / "teacher")
    chosen = apprenticeships(teacher, [str(lines)], ())
    inputs = [Inputs(chosen[0], labelled=False, seed=0)]
    for start, learns in (("teacher", False), ("fresh", True)):
        stage = SecondStage(teacher, chosen, inputs, override(Recipe(), "student", start=start))
        assert stage.model.encoder.backbone.get_input_embeddings().weight.requires_grad is learns


@pytest.mark.parametrize("auto", ["AutoModelForSequenceClassification", "AutoModelForTokenClassification"])
def test_a_teacher_reads_its_own_tokens_around_a_text(base: Path, tmp_path: Path, auto: str) -> None:
    """As MPNet, whose vocabulary holds all tokens of BERT, beside a student of BERT's tokenizer."""
    made.with_head(make_teacher(tmp_path / "wider", layers=1, unused=2), tmp_path / "teacher", auto, num_labels=2)
    path = tmp_path / "teacher" / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    begin, end = vocab["<s>"], vocab["</s>"] = vocab.pop("[unused0]"), vocab.pop("[unused1]")
    backend = Tokenizer.from_str(json.dumps(content))
    backend.post_processor = processors.RobertaProcessing(("</s>", end), ("<s>", begin))
    backend.save(str(path))
    (one,) = apprenticeships(Bundle.from_pretrained(tmp_path / "teacher"), ["x"], ())
    student = Bundle.from_pretrained(base)
    if one.head.level == "token":
        with pytest.raises(RecipeError, match=r"which puts <s> </s> around a text, not \[CLS\] \[SEP\]"):
            Beside(one, student)
        return
    (row,) = reader_of(student).windows("the dog")
    theirs = Beside(one, student)(row, "the dog")
    assert theirs is not None
    assert [backend.id_to_token(number) for number in theirs] == ["<s>", "the", "dog", "</s>"]


def test_a_model_without_a_head_teaches_no_task(base: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("distill", base, "--task", "classify", "--corpus", "x.txt", "-o", tmp_path / "out")
    assert_refused(done, tmp_path / "out", "gives vectors and has no head that does the task 'classify'")
