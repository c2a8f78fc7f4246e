"""What the tasks read: columns, CoNLL, SQuAD; and labels of every scheme."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgebert.errors import DataError
from edgebert.tasks import task_named
from edgebert.tasks.labels import label_scores
from edgebert.tasks.results import Tag
from edgebert.tasks.tag import word_labels
from edgebert.tasks.tagging import as_bio
from edgebert.tasks.task import sorted_labels


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
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP I-ORG\nrejects VBZ B-VP O\n\n\n北 B-LOC\n京 I-LOC\n很 O\n",
        encoding="utf-8",
    )
    first, second = task_named("tag").read([path])
    assert first.text == "EU rejects"
    assert first.target.labels == ("B-ORG", "O")
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


def test_a_label_that_the_model_has_not_is_one_that_it_misses() -> None:
    found = label_scores([frozenset({"x", "a"})], [{"a"}], ["a", "b"])
    assert found == {"f1": pytest.approx(2 / 3), "accuracy": 0.0}


def test_labels_that_only_look_like_numbers_are_ordered_as_words() -> None:
    assert sorted_labels({"②", "①"}) == ("①", "②")
    assert sorted_labels({"--1", "2"}) == ("--1", "2")
    assert sorted_labels({"10", "-9"}) == ("-9", "10")


def test_whole_numbers_are_ordered_by_their_size(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("text\tlabel\na\t10\nb\t9\nc\t0\n", encoding="utf-8")
    assert task_named("classify").head(task_named("classify").read([path])).labels == ("0", "9", "10")
