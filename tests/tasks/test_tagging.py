"""Prefixes of labels and names that only look like them, in training and behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tasks.made import write_rows

from edgebert.errors import DataError
from edgebert.manifest import Head
from edgebert.tasks import task_named
from edgebert.tasks.results import Tag
from edgebert.tasks.tag import Tagger, in_bio
from edgebert.tasks.tagged_files import Joined
from edgebert.tasks.tagging import names_of
from edgebert.tasks.task import Example


class Said(Tagger):
    """A tagger that says what it is told to."""

    def __init__(self, labels: Sequence[str], *said: list[Tag]) -> None:
        self._head, self._said = Head("tag", "tag", "token", tuple(labels)), list(said)

    @property
    def head(self) -> Head:
        return self._head

    def tag(self, texts: Any) -> Any:
        return self._said


def example(tags: str) -> Example:
    """A text of as many words as there are tags, which are a, b and so on."""
    return task_named("tag").example({"tokens": list("abcdefgh"[: len(tags.split())]), "tags": tags}, "row 1")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("O B-A I-A E-B", "A B"),
        ("O S-A S-B", "A B"),  # every stretch is one word
        ("U-A", "A"),
        ("O S-Bahn E-mail", "S-Bahn E-mail"),  # nothing that ends begins
        ("S-Bahn U-Bahn", "S-Bahn U-Bahn"),
        ("O S-Bahn PER", "S-Bahn PER"),
        ("S-Bahn E-mail B-X", "Bahn mail X"),
        ("O B-S-Bahn I-S-Bahn", "S-Bahn"),
        ("O", ""),
    ],
)
def test_names_in_labels(labels: str, names: str) -> None:
    assert names_of(labels.split()) == set(names.split())


@pytest.mark.parametrize(
    ("train", "dev", "bio"),
    [
        ("B-A E-A S-A O", "S-A O S-A", "B-A O B-A"),
        ("B-A I-A O", "S-A O U-A E-A", "B-A O B-A B-A"),
        ("S-A O", "S-A S-A", "B-A B-A"),
        ("S-Bahn E-mail O", "S-Bahn S-Bahn O", "B-S-Bahn I-S-Bahn O"),
        ("S-Bahn E-mail O", "B-S-Bahn B-S-Bahn", "B-S-Bahn B-S-Bahn"),
        ("A B", "A A B", "B-A I-A B-B"),
    ],
)
def test_what_the_model_learnt_tells_prefixes_from_names(train: str, dev: str, bio: str) -> None:
    assert in_bio(example(dev), task_named("tag").head([example(train)])) == tuple(bio.split())


def test_words_alone_are_scored_by_the_names_of_the_model(tmp_path: Path) -> None:
    rows = [{"tokens": ["the", "dog"], "tags": ["O", "S-ANIMAL"]}, {"tokens": ["a", "cat"], "tags": ["O", "S-ANIMAL"]}]
    examples = task_named("tag").read([write_rows(tmp_path / "dev.jsonl", rows)])
    model = Said(("O", "B-ANIMAL", "I-ANIMAL"), [Tag(4, 7, "dog", "ANIMAL", 1.0)], [])
    scores = task_named("tag").scores(model, examples)
    assert (scores["precision"], scores["recall"]) == (1.0, 0.5)


def test_a_label_that_the_model_lacks_is_not_scored() -> None:
    with pytest.raises(DataError, match="row 1: the label 'S-B' is not among those of the training text: O, B-A, I-A"):
        task_named("tag").scores(Said(("O", "B-A", "I-A"), []), [example("B-A S-B")])


def test_a_text_that_was_joined_stands_beside_its_tags() -> None:
    tag = Tag(4, 7, "dog", "A", 1.0)
    joined, own = Said(("O", "B-A"), [tag], [tag]).results([Joined("the dog"), "the dog"])
    assert (joined["text"], joined["tags"]) == ("the dog", own["tags"])
    assert "text" not in own
