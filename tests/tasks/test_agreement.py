"""How far a model's answers are another's, by each task's metric."""

from __future__ import annotations

from typing import Any

import pytest

from edgebert.manifest import Head
from edgebert.tasks import task_named
from edgebert.tasks.task import Example

ONE = Head("classify", "classify", "text", ("a", "b", "c"))
SEVERAL = Head("classify", "classify", "text", ("a", "b", "c"), multi_label=True)
TAGS = Head("tag", "tag", "token", ("O", "B-A", "I-A", "B-B", "I-B"))
ASKED = {"question": "q?", "context": "the red dog", "answers": [{"text": "red", "answer_start": 4}]}


def rows(task: str, *targets: dict[str, Any]) -> list[Example]:
    """An example of each."""
    return [task_named(task).example(row, f"row {number}") for number, row in enumerate(targets, start=1)]


CASES = {
    "labels": (
        ONE, rows("classify", *({"text": "x", "label": "c"} for _ in range(4))),
        ["a", "b", "a", "c"], ["a", "b", "b", "c"], 0.75,
    ),
    "several labels": (
        SEVERAL, rows("classify", {"text": "x", "labels": ["c"]}, {"text": "y", "labels": []}),
        [frozenset("ab"), frozenset()], [frozenset("a"), frozenset()], 2 / 3,
    ),
    "numbers": (
        Head("regress", "regress", "text"), rows("regress", *({"text": "x", "score": 1.0} for _ in range(3))),
        [0.1, 0.2, 0.3], [0.3, 0.2, 0.1], -1.0,
    ),
    "numbers of pairs": (
        Head("pairs", "pairs", "text"),
        rows("pairs", *({"text": "x", "text_pair": "y", "score": 1.0} for _ in range(3))),
        [0.1, 0.2, 0.3], [1.0, 2.0, 5.0], 1.0,
    ),
    "tags": (
        TAGS, rows("tag", {"tokens": ["x", "y", "z"], "tags": ["O", "O", "B-B"]}),
        [["B-A", "I-A", "O"]], [["B-A", "I-A", "B-B"]], 2 / 3,
    ),
    "tags of a head without B": (
        Head("tag", "tag", "token", ("O", "S-A", "S-B")), rows("tag", {"tokens": ["x", "y"], "tags": "S-A S-B"}),
        [["B-A", "O"]], [["B-A", "B-B"]], 2 / 3,
    ),
    "a word without a tag of a head without O": (
        Head("tag", "tag", "token", ("A", "B")), rows("tag", {"tokens": ["x", "y", "z"], "tags": "A A B"}),
        [["B-A", "O", "B-A"]], [["B-A", "O", "B-B"]], 0.5,
    ),
    "numbers all the same": (
        Head("regress", "regress", "text"), rows("regress", *({"text": "x", "score": 1.0} for _ in range(2))),
        [0.1, 0.2], [0.1, 0.1], 0.0,
    ),
    "no tags": (TAGS, rows("tag", {"tokens": ["x"], "tags": ["B-B"]}), [["O"]], [["O"]], 1.0),
    "answers": (
        Head("answer", "answer", "span"),
        rows("answer", ASKED, ASKED),
        [(4, "red"), (8, "dog")], [(4, "red dog"), (8, "dog")], (2 / 3 + 1) / 2,
    ),
    "no answer": (
        Head("answer", "answer", "span", may_be_none=True),
        rows("answer", ASKED, ASKED),
        [(0, ""), (0, "")], [(0, ""), (8, "dog")], 0.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_the_reference_is_right_whatever_the_labels_say(what: str) -> None:
    head, examples, ours, theirs, wanted = CASES[what]
    task = task_named(head.task)
    assert task.agreement(ours, theirs, examples, head) == pytest.approx(wanted)
    assert task.agreement(theirs, theirs, examples, head) == 1.0
    assert task.agreement(ours, ours, examples, head) == 1.0
