"""`--column`: files that call their columns otherwise are read as they are, by every command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from helpers import make_teacher
from tasks import made

from edgebert.bundle import Bundle
from edgebert.distill.apprenticeship import apprenticeships
from edgebert.errors import DataError, RecipeError
from edgebert.manifest import Head
from edgebert.tasks import task_named
from edgebert.tasks.asked import calibration_items
from edgebert.tasks.columns import missing, rows_of
from edgebert.tasks.multi import MultiTask
from edgebert.tasks.scoring import examples_of

Cli = Callable[..., Result]
FAST = ("--learning-rate", "3e-3", "--epochs", "2", "--batch-size", "16", "--seed", "3")
CALLED = {"text": "review", "label": "stars"}
COLUMNS = ("--column", "review", "--column", "label=stars")


def other_names(row: dict[str, Any]) -> dict[str, Any]:
    """The row as a file has it that calls them otherwise, and has a column called text beside."""
    return {"text": "an id"} | {CALLED.get(name, name): value for name, value in row.items()}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as sink:
        table = csv.DictWriter(sink, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("base") / "base", layers=2)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_have_the_names_that_are_read(tmp_path: Path, kind: str) -> None:
    rows, path = [other_names(row) for row in made.class_rows(5, seed=1)], tmp_path / f"a.{kind}"
    if kind == "csv":
        write_csv(path, rows)
    elif kind == "jsonl":
        made.write_rows(path, rows)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    reads = task_named("classify").reads
    assert [row for _, row in rows_of(path, CALLED, reads)] == made.class_rows(5, seed=1)
    assert [where for where, _ in rows_of(path, CALLED, reads)][4] == f"{path}: row 5 (text=review, label=stars)"
    assert list(rows_of(path, None, reads)) == [(f"{path}: row {i}", row) for i, row in enumerate(rows, start=1)]
    with pytest.raises(DataError, match=rf"a.{kind}: row 1 has no column 'words'; it has 'text', 'review', 'stars'"):
        list(rows_of(path, {"text": "words"}, reads))


def test_every_task_reads_its_columns_by_other_names(tmp_path: Path) -> None:
    of_tasks = {
        "classify": made.class_rows, "regress": made.number_rows, "pairs": made.pair_rows, "tag": made.tag_rows,
        "answer": made.answer_rows,
    }  # fmt: skip
    for name, rows in of_tasks.items():
        task, given = task_named(name), rows(6, seed=1)
        names = {column: f"the {column}" for column in given[0]}
        own = made.write_rows(tmp_path / "rows.jsonl", given)
        examples, inputs = task.read([own]), list(task.read_inputs(own))
        made.write_rows(own, [{names[column]: value for column, value in row.items()} for row in given])
        assert [replace(one, where="") for one in task.read([own], names)] == [
            replace(one, where="") for one in examples
        ]
        assert list(task.read_inputs(own, names)) == inputs  # though it does not read the answer
        unlabelled = [{names[c]: row[c] for c in row if c in task.runtime.reads} for row in given]
        made.write_rows(own, unlabelled)
        assert list(task.read_inputs(own, names)) == inputs
        with pytest.raises(RecipeError, match="noun=x names a column that is not read; read are (text|question), "):
            task.read([own], {"noun": "x"})


def test_files_without_columns_are_read_as_they_are(tmp_path: Path) -> None:
    conll = tmp_path / "a.conll"
    conll.write_text("Ada B-PER\nruns O\n", encoding="utf-8")
    tag = task_named("tag")
    assert tag.read([conll], {"tokens": "words", "tags": "ner"}) == tag.read([conll])
    assert [str(one) for one in tag.read_inputs(conll, {"tokens": "words"})] == ["Ada runs"]


def test_heads_of_several_read_the_names_that_are_theirs(tmp_path: Path) -> None:
    heads = [Head("mood", "classify", "text", ("a", "b")), Head("rated", "regress", "text")]
    rows = made.write_rows(tmp_path / "a.jsonl", [{"words": "so", "mood": "a", "stars": 4}])
    names = {"text": "words", "label": "mood", "score": "stars"}
    mood, rated = examples_of(heads, [f"mood={rows}", f"rated={rows}"], names)
    assert [(one.text, one.target) for one in (*mood, *rated)] == [("so", "a"), ("so", 4.0)]
    with pytest.raises(
        RecipeError, match="tags=t names a column that is not read; read are text, label, labels, score"
    ):
        examples_of(heads, [f"mood={rows}", f"rated={rows}"], {"tags": "t"})
    assert list(MultiTask.items(rows, {"text": "words"})) == ["so"]
    with pytest.raises(RecipeError, match="label=mood names a column that is not read; read are text"):
        list(MultiTask.items(rows, names))
    two = [Head("mood", "classify", "text", ("a", "b")), Head("topic", "classify", "text", ("a", "b"))]
    made.write_rows(rows, [{"words": "so", "mood": "a", "topic": "b"}])
    named = {"text": "words", "mood.label": "mood", "topic.label": "topic"}
    mood, topic = examples_of(two, [f"mood={rows}", f"topic={rows}"], named)
    assert (mood[0].target, topic[0].target) == ("a", "b")
    with pytest.raises(RecipeError, match="noun.label=mood names a column that is not read; read are .*, mood.label"):
        examples_of(two, [f"mood={rows}", f"topic={rows}"], {"noun.label": "mood"})
    with pytest.raises(RecipeError, match="mood.label=mood names a column that is not read; read are text, label"):
        examples_of(two[:1], [str(rows)], {"mood.label": "mood"})


@pytest.mark.parametrize(
    ("task", "row", "names", "found"),
    [
        ("pairs", {"text": "a", "text_pair": "b", "label": "own", "relevance": 0.5}, {"score": "relevance"}, 0.5),
        ("classify", {"text": "a", "labels": "x|y", "stars": "5"}, {"label": "stars"}, "5"),
        ("classify", {"text": "a", "label": "x", "topics": "x|y"}, {"labels": "topics"}, frozenset({"x", "y"})),
    ],
)
def test_the_answer_that_is_named_goes_before_others(
    tmp_path: Path, task: str, row: dict[str, Any], names: dict[str, str], found: Any
) -> None:
    path = made.write_rows(tmp_path / "a.jsonl", [row])
    assert task_named(task).read([path], names)[0].target == found


def test_the_texts_that_are_named_go_before_others(tmp_path: Path) -> None:
    path = made.write_rows(tmp_path / "a.jsonl", [{"question": "q", "premise": "p", "hypothesis": "h"}])
    assert list(task_named("pairs").read_inputs(path, {"text": "question"})) == [("q", "h")]
    assert list(task_named("pairs").read_inputs(path, {"text_pair": "question"})) == [("p", "q")]
    assert list(task_named("classify").read_inputs(path, {"text": "hypothesis"})) == ["h"]
    assert list(task_named("classify").read_inputs(path, {"text": "premise"})) == ["p"]  # none is refused beside it
    made.write_rows(path, [{"text": "7", "words": ["Ada", "runs"], "ner": ["B-P", "O"]}])
    (one,) = task_named("tag").read([path], {"tokens": "words", "tags": "ner"})
    assert one.text == "Ada runs"
    spans = {"text": "Ada runs", "tokens": ["x"], "tags": ["O"], "spans": [{"start": 0, "end": 3, "label": "P"}]}
    made.write_rows(path, [spans])
    (one,) = task_named("tag").read([path], {"entities": "spans"})
    assert one.text == "Ada runs"
    assert "P" in " ".join(one.target.labels)


@pytest.mark.parametrize(
    ("names", "told"),
    [({"text": "a", "label": "a"}, "text=a names the same column as another"), ({"text": ""}, "text= names no column")],
)
def test_one_column_for_two_names_is_refused(tmp_path: Path, names: dict[str, str], told: str) -> None:
    path = made.write_rows(tmp_path / "a.jsonl", [{"a": "so"}])
    with pytest.raises(RecipeError, match=told):
        task_named("classify").read([path], names)


def test_what_is_missing_says_how_to_name_it() -> None:
    with pytest.raises(DataError, match="row 1 has no column 'text'; it has 'review': .* --column text=COLUMN"):
        task_named("classify").runtime.item({"review": "so"}, "row 1")
    told = "row 1 has no column 'label' or 'score'; it has 'a': what is called otherwise is named with --column label="
    assert str(missing("row 1", ["label", "score"], {"a": 1})).startswith(told)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (("label=",), "'label=' is not a column"),
        (("=stars",), "'=stars' is not a column"),
        (("",), "'' is not a column"),
        (("text=a", "text=b"), "'text=b' and 'a' name one column twice"),
        (("a", "b"), "'b' and 'a' name one column twice"),
        (("a", "text=b"), "--column a and --column text=b name one column twice"),
    ],
)
def test_names_that_are_none_are_told(cli: Cli, tmp_path: Path, value: tuple[str, ...], told: str) -> None:
    options = [part for one in value for part in ("--column", one)]
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "b"}\n', encoding="utf-8")
    rows = ("--train", tmp_path / "a.jsonl", "--dev", tmp_path / "a.jsonl")
    done = cli("finetune", "base", "--task", "classify", *rows, "-o", tmp_path / "out", *options)
    assert done.code == 2
    assert told in done.err


def test_from_a_table_with_names_of_its_own_to_int8(base: Path, tmp_path: Path, cli: Cli) -> None:
    train, dev = (made.class_rows(count, seed=seed) for count, seed in ((200, 1), (80, 2)))
    ours = [made.write_rows(tmp_path / f"{n}.jsonl", rows) for n, rows in (("train", train), ("dev", dev))]
    theirs = [
        write_csv(tmp_path / f"{n}.csv", [other_names(row) for row in rows])
        for n, rows in (("train", train), ("dev", dev))
    ]
    tune = ("finetune", base, "--task", "classify", *FAST)
    for out, (one, other), more in (("own", ours, ()), ("named", theirs, COLUMNS)):
        done = cli(*tune, "--train", one, "--dev", other, "-o", tmp_path / out, *more)
        assert done.code == 0, done.err
    own, named = (Bundle.open(tmp_path / out) for out in ("own", "named"))
    assert (named.root / "model.safetensors").read_bytes() == (own.root / "model.safetensors").read_bytes()
    assert named.manifest.lineage["tasks"][0]["columns"] == CALLED
    assert "columns" not in own.manifest.lineage["tasks"][0]

    student = tmp_path / "student"
    learn = ("--layers", "1", "--epochs", "1", "--task-epochs", "2", "--learning-rate", "3e-3")
    done = cli(
        "distill", tmp_path / "named", "--corpus", theirs[0], "--dev", theirs[1], *COLUMNS, *learn, "-o", student
    )
    assert done.code == 0, done.err
    assert Bundle.open(student).manifest.lineage["tasks"][0]["columns"] == CALLED

    small, gate = tmp_path / "small", ("--eval", theirs[1], "--min-retention", "0.5", "--min-agreement", "0.5")
    done = cli("quantize", student, "--calibration", theirs[0], *gate, *COLUMNS, "-o", small, "--samples", "40")
    assert done.code == 0, done.err
    done = cli("evaluate", small, "--labelled", theirs[1], *COLUMNS, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["scores"][0]["count"] == 80
    done = cli("predict", small, theirs[1], *COLUMNS)
    assert done.code == 0, done.err
    assert done.out == cli("predict", small, ours[1]).out
    done = cli("predict", small, theirs[1], "--column", "text=label")
    assert done.code == 1
    assert "dev.csv: row 1 has no column 'label'; it has 'text', 'review', 'stars'" in done.err


def test_columns_of_each_task_stand_in_the_file_of_tasks(base: Path, tmp_path: Path, cli: Cli) -> None:
    for n, count in (("train", 60), ("dev", 30)):
        made.write_rows(tmp_path / f"mood.{n}.jsonl", [other_names(r) for r in made.class_rows(count, seed=1)])
        made.write_rows(tmp_path / f"tags.{n}.jsonl", made.tag_rows(count, seed=1))
    tasks = tmp_path / "tasks.toml"
    tasks.write_text(
        '[[tasks]]\nname = "mood"\ntask = "classify"\ntrain = ["mood.train.jsonl"]\ndev = ["mood.dev.jsonl"]\n'
        'columns = { text = "review", label = "stars" }\n'
        '[[tasks]]\nname = "tags"\ntask = "tag"\ntrain = ["tags.train.jsonl"]\ndev = ["tags.dev.jsonl"]\n',
        encoding="utf-8",
    )
    tune = ("finetune", base, "--task", "multi", "--tasks", tasks, "-o", tmp_path / "out", *FAST)
    assert "names of columns from --tasks FILE.toml" in cli(*tune, *COLUMNS).err
    done = cli(*tune)
    assert done.code == 0, done.err
    assert Bundle.open(tmp_path / "out").manifest.heads[0].labels == ("animal", "none")
    names = {"text": "review", "label": "stars", "tokens": "words"}
    mood, tags = apprenticeships(Bundle.open(tmp_path / "out"), ["x"], (), columns=names)
    assert mood.columns == CALLED
    assert tags.columns == {"text": "review", "tokens": "words"}


def test_calibration_reads_the_names_of_the_head_that_reads_most(tagger_of_two: Bundle, tmp_path: Path) -> None:
    rows = made.write_rows(tmp_path / "a.jsonl", [{"words": ["Ada", "runs"], "mood": "a", "body": "so it is"}])
    names = {"tokens": "words", "label": "mood"}
    assert [str(one) for one in calibration_items(tagger_of_two, [str(rows)], None, names)] == ["Ada runs"]
    assert list(calibration_items(tagger_of_two, [str(rows)], "body")) == ["so it is"]
    assert [str(one) for one in calibration_items(tagger_of_two, [str(rows)], None, {"tags.tokens": "words"})] == [
        "Ada runs"
    ]
    with pytest.raises(RecipeError, match="score=mood names a column that is not read"):
        list(calibration_items(tagger_of_two, [str(rows)], None, {"score": "mood"}))


@pytest.mark.parametrize("order", [1, -1])
def test_calibration_reads_both_texts_where_a_head_does(base: Path, tmp_path: Path, order: int) -> None:
    rows = made.write_rows(tmp_path / "a.jsonl", [{"text": "one", "text_pair": "two"}])
    heads = (Head("mood", "classify", "text", ("a", "b")), Head("same", "pairs", "text", ("a", "b")))[::order]
    bundle = Bundle.from_pretrained(base)
    bundle = replace(bundle, manifest=replace(bundle.manifest, heads=heads, task="multi"))
    assert list(calibration_items(bundle, [str(rows)])) == [("one", "two")]
    assert list(MultiTask.items(rows)) == ["one"]  # by the head that reads one


def test_the_column_of_the_general_text_is_its_own(base: Path, tmp_path: Path, cli: Cli) -> None:
    train = made.write_rows(tmp_path / "train.jsonl", [other_names(row) for row in made.class_rows(120, seed=1)])
    general = made.write_rows(tmp_path / "general.jsonl", [{"review": row["text"], "stars": 1} for row in
                                                           made.class_rows(200, seed=3)])  # fmt: skip
    dev = ("--dev", train, "--epochs", "1", "--learning-rate", "3e-3")
    done = cli("finetune", base, "--task", "classify", "--train", train, *dev, *COLUMNS, "-o", tmp_path / "teacher")
    assert done.code == 0, done.err
    learn = ("distill", tmp_path / "teacher", "--corpus", train, "--dev", train, "--general", general, "--layers", "1",
             "--epochs", "1", "--task-epochs", "1", "-o", tmp_path / "student")  # fmt: skip
    for columns, told in (
        (("--column", "review"), "train.jsonl: row 1 has no column 'label'"),
        (("--column", "text=review", "--column", "label=stars"), "general.jsonl has no column 'text'"),
        (("--column", "review", "--column", "text=review", "--column", "label=stars"), ""),
    ):
        done = cli(*learn, *columns)
        assert (done.code, told in done.err) == (1 if told else 0, True), done.err
    facts = Bundle.open(tmp_path / "student").manifest.lineage
    assert facts["tasks"][0]["columns"] == CALLED


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (("quantize", "{base}", "--calibration", "{rows}", "--column", "label=x", "-o", "{out}"), 1,
         "label=x names a column that is not read; read are text"),
        (("distill", "{base}", "--corpus", "{rows}", "--column", "label=x", "-o", "{out}"), 1,
         "--column label=... belongs to a task"),
        (("evaluate", "{base}", "--similarity", "{rows}", "--column", "label=x"), 2,
         "--column names columns of the files of --labelled, which is missing"),
    ],
)  # fmt: skip
def test_a_model_of_vectors_has_one_column(
    base: Path, tmp_path: Path, cli: Cli, command: tuple[str, ...], code: int, told: str
) -> None:
    rows = made.write_rows(tmp_path / "a.jsonl", made.class_rows(60, seed=1))
    done = cli(*(part.format(base=base, rows=rows, out=tmp_path / "out") for part in command))
    assert done.code == code
    assert told in done.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tagger_of_two(base: Path) -> Bundle:
    """A bundle whose manifest says that it has two heads."""
    bundle = Bundle.from_pretrained(base)
    heads = (Head("mood", "classify", "text", ("a", "b")), Head("tags", "tag", "token", ("O", "B-X", "I-X")))
    return replace(bundle, manifest=replace(bundle.manifest, heads=heads, task="multi"))
