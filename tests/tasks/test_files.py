"""What the tasks read: columns, CoNLL, SQuAD; and labels of every scheme."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tasks.made import write_rows

from edgebert.errors import DataError
from edgebert.manifest import Head
from edgebert.tasks import task_named
from edgebert.tasks.labels import label_scores, same_kind
from edgebert.tasks.results import Tag
from edgebert.tasks.tag import word_labels
from edgebert.tasks.tagging import as_bio
from edgebert.tasks.task import Example, sorted_labels


@pytest.mark.parametrize(
    ("labels", "bio"),
    [
        ("B-A I-A O B-A", "B-A I-A O B-A"),
        ("I-A I-A O I-B I-A", "B-A I-A O B-B B-A"),  # IOB1
        ("B-A L-A U-A O B-B I-B L-B", "B-A I-A B-A O B-B I-B I-B"),  # BILOU
        ("S-A B-A E-A E-B", "B-A B-A I-A B-B"),  # BIOES
        ("B-A M-A E-A S-B", "B-A I-A I-A B-B"),  # BMES
        ("A A O B", "B-A I-A O B-B"),
        ("", ""),
    ],
)
def test_labels_of_every_scheme_become_bio(labels: str, bio: str) -> None:
    assert as_bio(labels.split()) == tuple(bio.split())


def test_conll_columns_with_comments_of_documents(tmp_path: Path) -> None:
    path = tmp_path / "ner.conll"
    path.write_text(
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP I-ORG\nrejects VBZ B-VP O\n\n\n北 - - B-LOC\n京 - - I-LOC\n很 - - O\n",
        encoding="utf-8",
    )
    first, second = task_named("tag").read([path])
    assert first.text == "EU rejects"
    assert first.target.labels == ("I-ORG", "O")
    assert second.text == "北京很"
    assert [second.text[a:b] for a, b in second.target.words] == ["北", "京", "很"]
    assert second.target.labels == ("B-LOC", "I-LOC", "O")
    path.write_text("word B-X\nalone\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2 is 'alone'; a token and its tag are needed"):
        task_named("tag").read([path])


def test_what_conll_columns_ask_about_is_the_text_without_tags(tmp_path: Path) -> None:
    path, task = tmp_path / "ner.txt", task_named("tag")
    path.write_text("# id 5f3 domain=train\nEU B-ORG\nrejects O\n\n# O\nso O\n", encoding="utf-8")
    assert list(task.read_inputs(path)) == ["EU rejects", "# so"]
    assert [one.text for one in task.read([path])] == ["EU rejects", "# so"]
    path.write_text("EU rejects a plan\nso be it\n", encoding="utf-8")
    assert list(task.read_inputs(path)) == ["EU rejects a plan", "so be it"]


def test_entities_by_places_keep_their_boundaries(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    row = {"text": "in New York's 😀 city", "entities": [{"start": 3, "end": 11, "label": "LOC"}]}
    path.write_text(json.dumps(row), encoding="utf-8")
    (one,) = task_named("tag").read([path])
    tags = [Tag(3, 11, "New York", "LOC", 1.0)]
    assert list(one.target.labels) == word_labels(tags, one.target.words)
    assert sum(label != "O" for label in one.target.labels) == len("NewYork")


def test_squad_json(tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    qas = [
        {"id": "1", "question": "who?", "answers": [{"text": "dog", "answer_start": 4}]},
        {"id": "2", "question": "why?", "answers": [], "is_impossible": True},
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "the dog", "qas": qas}]}]}), encoding="utf-8")
    one, other = task_named("answer").read([path])
    assert (one.text, one.pair, one.target) == ("who?", "the dog", ((4, "dog"),))
    assert other.target == ()
    qas[0]["answers"] = [{"text": "cat", "answer_start": 4}]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "the dog", "qas": qas}]}]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"squad.json: question 1: the answer 'cat' does not stand at 4"):
        task_named("answer").read([path])
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="is not SQuAD's JSON"):
        task_named("answer").read([path])


def test_squad_json_without_answers_asks_all_the_same(tmp_path: Path) -> None:
    path, qas = tmp_path / "squad.json", [{"id": "1", "question": "who?"}]
    data = json.dumps({"data": [{"paragraphs": [{"context": "the dog", "qas": qas}]}]})
    path.write_text(data, encoding="utf-8-sig")
    assert list(task_named("answer").read_inputs(path)) == [("who?", "the dog")]
    with pytest.raises(DataError, match="question 1, column 'answers' holds None"):
        task_named("answer").read([path])


def test_tabs_at_the_end_of_a_line_are_no_tag(tmp_path: Path) -> None:
    path = tmp_path / "ner.conll"
    path.write_text("\ufeffEU\tB-ORG\t\r\nis\tO\t \r\n\t\r\nso\tO\n", encoding="utf-8")
    first, second = task_named("tag").read([path])
    assert (first.text, first.target.labels, second.text) == ("EU is", ("B-ORG", "O"), "so")
    with pytest.raises(DataError, match="row 1: the tag of 'a' is empty"):
        task_named("tag").example({"tokens": ["a"], "tags": [""]}, "row 1")


def test_several_labels_in_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,labels\na,x|y\nb,\nc,y\n", encoding="utf-8")
    found = task_named("classify").read([path])
    assert [one.target for one in found] == [{"x", "y"}, set(), {"y"}]
    assert task_named("classify").head(found).labels == ("x", "y")


def _labelled(*targets: Any) -> list[Example]:
    return [Example("", None, target, f"row {i}") for i, target in enumerate(targets, start=1)]


def test_a_label_that_the_model_has_not_is_told() -> None:
    for multi, target in ((False, "x"), (True, frozenset({"x", "a"}))):
        head = Head("classify", "classify", "text", ("a", "b"), multi_label=multi)
        with pytest.raises(DataError, match="row 2: the label 'x' is not among those of the training text: a, b"):
            label_scores(_labelled(frozenset({"a"}) if multi else "a", target), ["a", "a"], head)


def test_sets_of_labels_are_scored_label_by_label() -> None:
    head = Head("classify", "classify", "text", ("a", "b"), multi_label=True)
    found = label_scores(_labelled(frozenset({"a", "b"}), frozenset({"a"})), [{"a"}, {"a"}], head)
    assert found == {"f1": pytest.approx(4 / 5), "accuracy": 0.5}


def test_labels_that_only_look_like_numbers_are_ordered_as_words() -> None:
    assert sorted_labels({"②", "①"}) == ("①", "②")
    assert sorted_labels({"--1", "2"}) == ("--1", "2")
    assert sorted_labels({"10", "-9"}) == ("-9", "10")


def test_whole_numbers_are_ordered_by_their_size(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("text\tlabel\na\t10\nb\t9\nc\t0\n", encoding="utf-8")
    assert task_named("classify").head(task_named("classify").read([path])).labels == ("0", "9", "10")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "The dog runs\nand the cat sleeps at home\n",
            "line 2 is 'and the cat sleeps at home', 6 columns, and the lines",
        ),
        ('{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["a", "b"], "tags": ["O", "O"]}\n', "line 2 is"),
    ],
)
def test_running_text_is_no_conll(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "train.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        task_named("tag").read([path])


def test_remarks_are_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "ner.conll"
    path.write_text("# newdoc\n# text = so\n#\nEU\tB-ORG\n#\tO\n", encoding="utf-8")
    (one,) = task_named("tag").read([path])
    assert one.text == "EU #"


def test_emoji_are_words_of_their_own(tmp_path: Path) -> None:
    row = {"tokens": ["😀", "😂", "北", "京", "，", "x"], "tags": ["B-E", "B-E", "B-L", "I-L", "O", "O"]}
    (one,) = task_named("tag").read([write_rows(tmp_path / "x.jsonl", [row])])
    assert one.text == "😀😂北京，x"


@pytest.mark.parametrize(
    ("entity", "told"),
    [
        ({"start": 1, "end": 2, "label": "X"}, "is blank: there is no word in it"),
        ({"start": 0, "end": 1, "label": ""}, "has the label ''; a name is needed"),
        ({"start": 0, "end": 1, "label": "O"}, "has the label 'O'; a name is needed"),
    ],
)
def test_entities_that_are_none_are_refused(entity: dict[str, object], told: str) -> None:
    with pytest.raises(DataError, match=told):
        task_named("tag").example({"text": "a b", "entities": [entity]}, "row 1")


def test_a_word_has_the_tag_in_which_it_begins() -> None:
    words = ((0, 4), (5, 9), (10, 12))
    assert word_labels([Tag(2, 4, "", "A", 1.0), Tag(5, 12, "", "B", 1.0)], words) == ["O", "B-B", "I-B"]
    many = [(4 * i, 4 * i + 3) for i in range(100_000)]
    tags = [Tag(start, end, "", "A", 1.0) for start, end in many[::2]]
    assert word_labels(tags, many)[:3] == ["B-A", "O", "B-A"]  # at once, however long the text


def test_squad_json_may_be_packed_and_must_not_be_endless(tmp_path: Path) -> None:
    task, qas = task_named("answer"), [{"question": "who?", "answers": [{"text": "dog", "answer_start": 4}]}]
    data = json.dumps({"data": [{"paragraphs": [{"context": "the dog", "qas": qas}]}]})
    path = tmp_path / "squad.JSON.gz"
    path.write_bytes(gzip.compress(data.encode()))
    assert task.read([path])[0].target == ((4, "dog"),)
    (tmp_path / "deep.json").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(DataError, match="is not SQuAD's JSON"):
        task.read([tmp_path / "deep.json"])


def test_json_that_is_no_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"text": "a"}]', encoding="utf-8")
    with pytest.raises(DataError, match="rows are read from .jsonl, .csv, .tsv and .parquet"):
        list(task_named("classify").read_inputs(tmp_path / "rows.json"))


def test_a_number_that_float32_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'score' holds 1e\\+300; a number within -1e18 to 1e18 is needed"):
        task_named("regress").example({"text": "a", "score": 1e300}, "row 1")


@pytest.mark.parametrize(
    ("task", "train", "other", "told"),
    [
        ("classify", "label", {"text": "a", "labels": ["x"]}, "has the column 'labels'; .* trained with 'label'"),
        ("classify", "labels", {"text": "a", "label": "x"}, "has the column 'label'; .* trained with 'labels'"),
        ("pairs", "score", {"text": "a", "text_pair": "b", "label": "1"}, "has the column 'label'; .* with 'score'"),
    ],
)
def test_labels_of_another_kind_are_told(task: str, train: str, other: dict[str, object], told: str) -> None:
    found, values = task_named(task), {"label": ["x", "y"], "labels": [["x"], ["y"]], "score": [0.5, 1.0]}
    texts = {"text": "a", "text_pair": "b"} if task == "pairs" else {"text": "a"}
    rows = [texts | {train: value} for value in values[train]]
    head = found.head([found.example(row, f"row {i}") for i, row in enumerate(rows, start=1)])
    with pytest.raises(DataError, match=told):
        same_kind([found.example(other, "dev: row 1")], head)


@pytest.mark.parametrize(
    "names",
    [
        ("text", "text_pair"),
        ("sentence1", "sentence2"),
        ("sentence_a", "sentence_b"),
        ("premise", "hypothesis"),
        ("content", "text_pair"),
    ],
)
def test_the_columns_of_pairs_as_known_sets_name_them(names: tuple[str, str]) -> None:
    row = dict(zip(names, ("a man sleeps", "nobody moves"), strict=True)) | {"label": "neutral"}
    assert task_named("pairs").runtime.item(row, "row 1") == ("a man sleeps", "nobody moves")
    assert task_named("pairs").example(row, "row 1") == Example("a man sleeps", "nobody moves", "neutral", "row 1")


def test_the_first_text_of_a_pair_is_the_one_named_as_the_second() -> None:
    row = {"text": "a picture of a man", "sentence1": "a man sleeps", "sentence2": "nobody moves"}
    assert task_named("pairs").runtime.item(row, "row 1") == ("a man sleeps", "nobody moves")
    with pytest.raises(DataError, match="row 1 has no column 'sentence1'"):
        task_named("pairs").runtime.item({"sentence2": "nobody moves"}, "row 1")


@pytest.mark.parametrize(("task", "answer"), [("classify", {"label": "neutral"}), ("regress", {"score": 0.5})])
@pytest.mark.parametrize("second", ["text_pair", "sentence2", "sentence_b", "hypothesis"])
def test_a_task_of_one_text_refuses_a_second_one(task: str, answer: dict[str, object], second: str) -> None:
    row, found = {"text": "a man sleeps", second: "nobody moves"} | answer, task_named(task)
    told = f"row 1 has a second text, in the column '{second}', and one is read: the task 'pairs' reads both"
    with pytest.raises(DataError, match=told):
        found.example(row, "row 1")
    with pytest.raises(DataError, match=told):
        found.runtime.item(row, "row 1")
    for nothing in (None, ""):  # as tables have it where rows of other kinds stand beside
        assert found.example(row | {second: nothing}, "row 1").text == "a man sleeps"


def test_macro_f1_counts_labels_that_were_only_said() -> None:
    head = Head("classify", "classify", "text", ("a", "b"))
    assert label_scores(_labelled("a", "a"), ["a", "b"], head)["f1"] == pytest.approx(1 / 3)
