"""Strange labels, numbers and files: one clear error each, and nothing lost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result
from helpers import assert_refused, make_teacher
from tasks import made

import edgebert
from edgebert.bundle import Bundle
from edgebert.card import model_card
from edgebert.distill.apprenticeship import Inputs, apprenticeships
from edgebert.distill.encoder import TorchEngine, load_tokenizer
from edgebert.distill.task_stage import _write_texts
from edgebert.errors import DataError, RecipeError
from edgebert.manifest import Head
from edgebert.tasks import task_named
from edgebert.tasks.asked import calibration_items
from edgebert.tasks.multi import MultiTask
from edgebert.texts import read_rows

Cli = Callable[..., Result]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_teacher(tmp_path / "base", layers=1)


@pytest.fixture
def classifier(base: Path, tmp_path: Path) -> Path:
    made.with_head(base, tmp_path / "classifier", "AutoModelForSequenceClassification", num_labels=2)
    return tmp_path / "classifier"


def test_a_users_table_is_not_written_over_by_figures(base: Path, tmp_path: Path, cli: Cli) -> None:
    train = made.write_rows(tmp_path / "train.jsonl", made.class_rows(20, seed=1))
    mine = tmp_path / "out.training.csv"
    mine.write_text("text,label\na,b\n", encoding="utf-8")
    done = cli("finetune", base, "--task", "classify", "--train", train, "--dev", train, "-o", tmp_path / "out")
    assert_refused(done, tmp_path / "out", "exists and holds no figures of a training")
    assert mine.read_text(encoding="utf-8") == "text,label\na,b\n"


def test_figures_of_an_earlier_training_are(base: Path, tmp_path: Path, cli: Cli) -> None:
    train = made.write_rows(tmp_path / "train.jsonl", made.class_rows(20, seed=1))
    (tmp_path / "out.training.csv").write_text("step,loss,accuracy,accuracy_int8\n1,2,,\n", encoding="utf-8")
    done = cli("finetune", base, "--task", "classify", "--train", train, "--dev", train, "-o", tmp_path / "out",
               "--epochs", "1")  # fmt: skip
    assert done.code == 0, done.err
    assert "1,2,," not in (tmp_path / "out.training.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("label", ["", " ", "\t", None, 1.5, True, "\ud800"])
def test_what_is_no_label(label: object) -> None:
    with pytest.raises(DataError, match=r"row 1, column 'label' holds .*; a label is needed"):
        task_named("classify").example({"text": "a", "label": label}, "row 1")


def test_numbers_as_labels_are_told_their_column() -> None:
    with pytest.raises(
        DataError, match=r"holds 0.0; .* a whole number; for numbers, pairs and regress have the column 'score'$"
    ):
        task_named("pairs").example({"text": "a", "text_pair": "b", "label": 0.0}, "row 1")
    with pytest.raises(DataError, match="holds nan; a label is needed, a word or a whole number$"):
        task_named("pairs").example({"text": "a", "text_pair": "b", "label": float("nan")}, "row 1")


def test_blanks_around_a_label_are_no_part_of_it() -> None:
    classify = task_named("classify")
    found = [classify.example({"text": "a", "label": label}, "row") for label in ("pos", "pos ", "neg")]
    assert classify.head(found).labels == ("neg", "pos")
    several = classify.example({"text": "a", "labels": " x | y|"}, "row")
    assert several.target == {"x", "y"}
    with pytest.raises(DataError, match="column 'labels' holds True"):
        classify.example({"text": "a", "labels": [True]}, "row")


def test_labels_are_written_one_way(tmp_path: Path) -> None:
    classify, wrong = task_named("classify"), tmp_path / "x.csv"
    wrong.write_text('text,labels\ngood,"[""a"",""b""]"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"row 1, column 'labels' holds .*, a list written as text; .* have | between"):
        classify.read([wrong])
    with pytest.raises(DataError, match="row 1 has a label in the columns 'label' and 'labels'; use one of them"):
        classify.example({"text": "a", "label": "x", "labels": ["x"]}, "row 1")
    assert classify.example({"text": "a", "label": None, "labels": ["x"]}, "row 1").target == {"x"}
    assert classify.example({"text": "a", "label": "x", "labels": ""}, "row 1").target == "x"
    assert classify.example({"text": "a", "labels": "[PAD]|[1]"}, "row 1").target == {"[PAD]", "[1]"}
    for listed in ("[a,b]", "[0 1]", "['x']", "[]"):
        with pytest.raises(DataError, match="a list written as text"):
            classify.example({"text": "a", "labels": listed}, "row 1")
    with pytest.raises(DataError, match="row 1 has no column 'label' or 'score'; it has 'text', 'text_pair'"):
        task_named("pairs").example({"text": "a", "text_pair": "b"}, "row 1")
    with pytest.raises(DataError, match="row 1 has no column 'answers'; it has 'question', 'context'"):
        task_named("answer").example({"question": "a", "context": "b"}, "row 1")


def test_fine_tuning_shows_its_labels_and_draws_losses_of_any_size(base: Path, tmp_path: Path, cli: Cli) -> None:
    rows = [
        {"text": row["text"], "label": "nan" if i == 3 else "x"} for i, row in enumerate(made.class_rows(8, seed=1))
    ]
    train = made.write_rows(tmp_path / "train.jsonl", rows)
    done = cli("finetune", base, "--task", "classify", "--train", train, "--dev", train, "-o", tmp_path / "out",
               "--epochs", "1")  # fmt: skip
    assert "8 examples, 2 labels: nan, x" in done.err
    train = made.write_rows(tmp_path / "train.jsonl", [{"text": row["text"], "score": 1e10 + i}
                                                       for i, row in enumerate(rows)])  # fmt: skip
    done = cli("finetune", base, "--task", "regress", "--train", train, "--dev", train, "-o", tmp_path / "great",
               "--epochs", "1")  # fmt: skip
    assert done.code == 0, done.err
    assert "<polyline" in (tmp_path / "great.training.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("score", [True, "1_5", 10**400, 1e19, "1e19", float("nan"), None])
def test_numbers_that_cannot_be_learnt(score: object) -> None:
    with pytest.raises(DataError, match="a number within -1e18 to 1e18 is needed"):
        task_named("regress").example({"text": "a", "score": score}, "row 1")


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("regress", {"text": "a", "score": 1}),
        ("pairs", {"text": "a", "text_pair": "b", "score": 1}),
        ("classify", {"text": "a", "labels": ["x", "y"]}),
        ("classify", {"text": "a", "labels": ["x"]}),
        ("classify", {"text": "a", "labels": []}),
    ],
)
def test_nothing_to_tell_apart(task: str, row: dict[str, Any]) -> None:
    one = task_named(task)
    with pytest.raises(DataError, match="nothing is to be told apart|none of the 2 examples has a label"):
        one.head([one.example(row, f"row {i}") for i in (1, 2)])


def test_an_unknown_label_is_told_by_evaluate(classifier: Path, tmp_path: Path, cli: Cli) -> None:
    rows = [{"text": "a dog", "label": "LABEL_0"}, {"text": "a cat", "label": "ZZZ"}]
    done = cli("evaluate", classifier, "--engine", "torch", "--labelled", made.write_rows(tmp_path / "x.jsonl", rows))
    assert done.code == 1
    assert "x.jsonl: row 2: the label 'ZZZ' is not among those of the training text: LABEL_0, LABEL_1" in done.err
    done = cli("evaluate", classifier, "--engine", "torch", "--labelled", tmp_path / "none")
    assert f"no such file: {tmp_path / 'none'}" in done.err


def test_half_a_surrogate_pair_is_replaced_in_text_to_learn_from(classifier: Path, tmp_path: Path) -> None:
    rows = tmp_path / "x.jsonl"
    texts = ["a dog \ud800 1", *(row["text"] for row in made.class_rows(30, seed=1))]
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    chosen = apprenticeships(Bundle.from_pretrained(classifier), [str(rows)], ())
    _write_texts([Inputs(chosen[0], labelled=False, seed=0)], tmp_path / "general.txt")
    assert "a dog \ufffd 1\n" in (tmp_path / "general.txt").read_text(encoding="utf-8")


def test_calibration_reads_what_the_model_is_asked(base: Path, tmp_path: Path) -> None:
    (tmp_path / "c.conll").write_text("Ada B-PER\nruns O\n\nBo B-PER\nsits O\n", encoding="utf-8")
    (tmp_path / "plain.txt").write_text("the dog\n", encoding="utf-8")
    squad = {"data": [{"paragraphs": [{"context": "the dog", "qas": [{"question": "who", "answers": []}]}]}]}
    (tmp_path / "q.JSON").write_text(json.dumps(squad), encoding="utf-8")
    made.with_head(base, tmp_path / "tagger", "AutoModelForTokenClassification", num_labels=2)
    made.with_head(base, tmp_path / "answerer", "AutoModelForQuestionAnswering")
    tagger, answerer = (Bundle.from_pretrained(tmp_path / name) for name in ("tagger", "answerer"))
    assert list(calibration_items(tagger, [str(tmp_path / "c.conll")])) == ["Ada runs", "Bo sits"]
    assert list(calibration_items(tagger, [str(tmp_path / "plain.txt")])) == ["the dog"]
    assert list(calibration_items(answerer, [str(tmp_path / "q.JSON")])) == [("who", "the dog")]
    assert list(calibration_items(answerer, [str(tmp_path / "plain.txt")])) == ["the dog"]


@pytest.mark.parametrize("text", ["...", "😀😀", "—", "\u200d"])
def test_a_text_without_a_letter_has_no_summary(text: str) -> None:
    with pytest.raises(DataError, match="a text with a letter or a digit is needed"):
        edgebert.summarize(text)


def test_what_is_no_model_summarizes_nothing() -> None:
    wrong: Any = None
    with pytest.raises(RecipeError, match="model is None; a model that gives vectors"):
        edgebert.summarize("A dog runs.", model=wrong)


def test_a_missing_file_of_the_gate_is_told_at_once(classifier: Path, tmp_path: Path, cli: Cli) -> None:
    texts = made.write_rows(tmp_path / "x.jsonl", made.class_rows(30, seed=1))
    done = cli(
        "quantize", classifier, "--calibration", texts, "--eval", tmp_path / "none.jsonl", "-o", tmp_path / "out"
    )
    assert_refused(done, tmp_path / "out", f"no such file: {tmp_path / 'none.jsonl'}")
    assert "export" not in done.err


def test_a_blank_context_is_told_by_its_row(base: Path, tmp_path: Path, cli: Cli) -> None:
    made.with_head(base, tmp_path / "answerer", "AutoModelForQuestionAnswering")
    rows = [{"question": "who", "context": "the dog"}, {"question": "who", "context": " "}]
    corpus = made.write_rows(tmp_path / "x.jsonl", rows)
    done = cli("distill", tmp_path / "answerer", "--corpus", corpus, "-o", tmp_path / "out")
    assert_refused(done, tmp_path / "out", "x.jsonl: row 2: the context is ' '; a text that is not blank is needed")
    with pytest.raises(DataError, match="x.jsonl: row 2: the context is ' '"):
        list(task_named("answer").read_inputs(corpus))
    made.write_rows(corpus, rows[:1])
    done = cli("distill", tmp_path / "answerer", "--corpus", corpus, "-o", tmp_path / "out")
    assert_refused(done, tmp_path / "out", "x.jsonl: 1 inputs are too few to hold some out")


def test_several_teachers_may_teach_another_task_than_their_own(classifier: Path, tmp_path: Path, cli: Cli) -> None:
    corpus = made.write_rows(tmp_path / "x.jsonl", [{"text": "a dog"}])
    tasks = tmp_path / "tasks.toml"
    one = f'[[tasks]]\nname = "{{}}"\nteacher = "{classifier}"\ntask = "{{}}"\ncorpus = ["{corpus}"]\n'
    tasks.write_text(one.format("one", "pairs") + one.format("two", "classify"), encoding="utf-8")
    done = cli("distill", classifier, "--tasks", tasks, "-o", tmp_path / "out")
    assert_refused(done, tmp_path / "out", "row 1 has no column 'text_pair'")
    tasks.write_text(one.format("one", "pairs") + one.format("ONE", "classify"), encoding="utf-8")
    done = cli("distill", classifier, "--tasks", tasks, "-o", tmp_path / "out")
    assert_refused(done, tmp_path / "out", "name is 'ONE'; each needs its own")


@pytest.mark.parametrize("levels", [("text",), ("text", "token"), ("token",)])
def test_texts_of_which_a_head_reads_the_beginning_are_counted(base: Path, levels: tuple[Any, ...]) -> None:
    bundle = Bundle.from_pretrained(base)
    heads = tuple(Head(level, {"text": "classify", "token": "tag"}[level], level, ("O", "B-X")) for level in levels)
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, heads=heads))

    class Many(MultiTask):
        def logits(self, items: Any) -> Any:
            shapes = {"text": (2,), "token": (len(items[0]), 2)}
            return [tuple(np.zeros(shapes[head.level]) for head in heads) for _ in items]

    with Many(bundle, TorchEngine(Bundle.from_pretrained(base)), tokenizer=load_tokenizer(bundle)) as model:
        model.predict(["the dog " * 400, "the dog"])
        assert model.truncated == (1 if "text" in levels else 0)


def test_line_ends_within_a_cell_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'text,label\r\n"a dog\r\ncity",x\r\n"b\nc",y\n\r\nlast,z')
    assert [row["text"] for row in read_rows(path)] == ["a dog\r\ncity", "b\nc", "last"]
    assert [row["label"] for row in read_rows(path)] == ["x", "y", "z"]


def test_unknown_tasks_and_odd_files_are_told(base: Path, classifier: Path, tmp_path: Path, cli: Cli) -> None:
    def tried(task: str, train: Path) -> Result:
        return cli("finetune", base, "--task", task, "--train", train, "--dev", train, "-o", tmp_path / "out")

    assert_refused(tried("nope", base), tmp_path / "out", "task is 'nope'; it must be one of classify, regress, pairs, "
                   "tag, answer, multi")  # fmt: skip
    assert_refused(tried("classify", base), tmp_path / "out", f"{base}, which is no plain file, cannot be read twice")
    assert_refused(tried("classify", tmp_path / "no"), tmp_path / "out", f"no such file: {tmp_path / 'no'}")


def test_labels_do_not_break_a_card(classifier: Path) -> None:
    bundle = Bundle.from_pretrained(classifier)
    heads = (dataclasses.replace(bundle.manifest.heads[0], labels=("a\n# b", "`c` | d")),)
    card = model_card(dataclasses.replace(bundle.manifest, heads=heads), "name", classifier)
    assert r"- classify (classify): a \# b, \`c\` \| d" in card.splitlines()
