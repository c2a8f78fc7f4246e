"""What is CoNLL and what is running text; which lines are remarks."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from edgebert.errors import DataError
from edgebert.tasks import task_named
from edgebert.tasks.tagged_files import Joined

TAG = task_named("tag")


def inputs(path: Path, text: str) -> list[str]:
    """What the file with that text asks about."""
    path.write_text(text, encoding="utf-8")
    return list(TAG.read_inputs(path))


@pytest.mark.parametrize(
    "lines",
    [
        ["the dog takes the S-Bahn."],
        ["the dog saw an E-mail", "the cat saw an S-Bahn"],
        ["she plays in B-flat", "it is vitamin B-12"],
        ["the S-Bahn", "the S-Bahn"],
        ["EU B-ORG"],
        ["EU\tB-ORG"],
        ["my type is O", "his type is O"],
        ["dog O", "cat O"],
        ["the dog\tO", "the cat\tO"],
        ["the dog takes\tthe S-Bahn", "the cat takes the\tU-Bahn"],
        ["EU B-ORG", "", "rejects O"],
        ["the cell is B-12", "and the type is O"],
        ["# a line of running O", "and others B-1"],
    ],
)
def test_running_text_is_asked_about_as_it_is(tmp_path: Path, lines: list[str]) -> None:
    asked = inputs(tmp_path / "new.txt", "".join(f"{line}\n" for line in lines))
    assert asked == lines
    assert not any(isinstance(one, Joined) for one in asked)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.txt", "EU B-ORG\nrejects O\n\nso O\n"),
        ("x.txt", "EU NNP I-ORG\nrejects VBZ O\n\nso RB O\n"),
        ("x.txt", "-DOCSTART- -X- -X- O\n\n# id 1\nEU NNP I-ORG\nrejects VBZ O\n\nso RB O\n"),
        ("x", "EU\tO\nrejects\tO\n\nso\tO\n"),
        ("x.conll", "EU ORG\nrejects -\n\nso -\n"),
        ("x.BIO", "EU O\nrejects O\n\nso O\n"),
    ],
)
def test_what_can_hardly_be_running_text_is_conll(tmp_path: Path, name: str, text: str) -> None:
    assert inputs(tmp_path / name, text) == ["EU rejects", "so"]


def test_conll_may_be_packed(tmp_path: Path) -> None:
    path = tmp_path / "x.conll.gz"
    path.write_bytes(gzip.compress(b"EU ORG\nrejects -\n"))
    assert list(TAG.read_inputs(path)) == ["EU rejects"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# newdoc\n# SYM\n1 NUM\n\n1 NUM\n# SYM\n", ["# # 1", "1 #"]),
        ("# 3 SYM\nnumber 3 NN\n#\n# of it\n", ["# number #"]),
        ("# newdoc\nEU B-ORG\n# O\n#Obama B-PER\n", ["EU # #Obama"]),
        ("# sent id 3\nEU NNP - B-ORG\n# SYM - O\n", ["EU #"]),
        ("#begin document (a b)\n# O\nEU B-ORG\n#end document\n", ["# EU"]),
    ],
)
def test_remarks_have_other_columns(tmp_path: Path, text: str, found: list[str]) -> None:
    path = tmp_path / "x.conll"
    path.write_text(text, encoding="utf-8")
    assert [one.text for one in TAG.read([path])] == found


@pytest.mark.parametrize("name", ["train.json", "train.JSON.gz"])
def test_json_is_no_conll(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / name, b'[{"tokens": "a", "tags": "O"}]'
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(DataError, match=f"{name}: rows are read from .jsonl, .csv, .tsv and .parquet"):
        TAG.read([path])
    with pytest.raises(DataError, match=f"{name}: rows are read from .jsonl, .csv, .tsv and .parquet"):
        list(TAG.read_inputs(path))
