"""The space of candidates: its default, a user's own, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebert.bundle import Bundle
from edgebert.distill.fit.space import Candidate, Space, read_space
from edgebert.distill.recipe import Student
from edgebert.errors import RecipeError


@pytest.fixture
def teacher(tiny_teacher: Path) -> Bundle:
    """Four layers, 165 tokens."""
    return Bundle.from_pretrained(tiny_teacher)


def test_the_default_space_has_no_more_layers_than_the_teacher(teacher: Bundle) -> None:
    found = Space().candidates(teacher)
    assert {candidate.layers for candidate in found} == {(0, 3), (0, 2, 3), (0, 1, 2, 3)}
    assert {(c.vocabulary, c.coverage) for c in found} == {(0, None), (0, 0.9995)}
    assert {candidate.tables for candidate in found} == {8, 4}
    assert len(found) == len({candidate.id for candidate in found}) == 12
    assert not any(candidate.trims for candidate in found[:6])


def test_a_teacher_of_one_layer_has_candidates_too(teacher: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgebert.distill.fit import space

    config = space.read_config(teacher.root) | {"num_hidden_layers": 1}
    monkeypatch.setattr(space, "read_config", lambda root: config)
    assert {candidate.layers for candidate in Space().candidates(teacher)} == {(0,)}


def test_layers_by_number_and_by_name_are_one_axis_and_none_comes_twice(teacher: Bundle) -> None:
    space = Space(layers=(2, 2), take_layers=((0, 3), (1, 2)), vocabulary=(150, 0), tables=(8,))
    assert space.candidates(teacher) == (
        Candidate((0, 3)), Candidate((1, 2)), Candidate((0, 3), 150), Candidate((1, 2), 150),
    )  # fmt: skip
    only = Space(take_layers=((1,),), vocabulary=(0,), tables=(4,)).candidates(teacher)
    assert only == (Candidate((1,), tables=4),)


def test_a_candidate_gives_the_student_its_shape_and_leaves_the_rest() -> None:
    base = Student(layers=3, max_length=32, projection="drop", coverage=0.5)
    shape = Candidate((0, 5), vocabulary=9000).student(base)
    assert shape == Student(take_layers=(0, 5), vocabulary=9000, max_length=32, projection="drop")
    assert Candidate((1,), coverage=0.99).student(Student()) == Student(take_layers=(1,), coverage=0.99)


def test_candidates_that_differ_in_their_tables_alone_are_trained_once() -> None:
    assert Candidate((0, 3), tables=4).unit == Candidate((0, 3), tables=8).unit
    assert len({Candidate((0, 3)).unit, Candidate((0, 3), 9).unit, Candidate((0, 3), coverage=0.9).unit}) == 3


def test_narrow_candidates_are_their_own_and_the_teachers_width_is_none(teacher: Bundle) -> None:
    space = Space(layers=(1,), vocabulary=(0,), tables=(8,), width=(0, 64, 32), feed_forward=(128, 64))
    found = space.candidates(teacher)
    assert [(c.width, c.feed_forward) for c in found] == [(0, 0), (0, 64), (32, 0), (32, 64)]
    assert len({c.unit for c in found}) == 4
    assert found[3].student(Student()) == Student(take_layers=(3,), width=32, feed_forward=64)
    assert found[3].words() == "1 layer (3), width 32, feed-forward 64, all tokens, 8-bit table"


def test_a_candidate_in_words() -> None:
    assert Candidate((0, 3), tables=4).words() == "2 layers (0, 3), all tokens, 4-bit table"
    assert Candidate((3,), vocabulary=90).words() == "1 layer (3), 90 tokens, 8-bit table"
    assert Candidate((3,), coverage=0.9995).words(77) == "1 layer (3), 77 tokens, 8-bit table"
    assert "99.9500% of the text's tokens" in Candidate((3,), coverage=0.9995).words()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Space(layers=()), "the space is empty: each of layers or take_layers, vocabulary or coverage, tables"),
        (Space(tables=()), "the space is empty"),
        (Space(vocabulary=()), "the space is empty"),
        (Space(layers=(5,)), "space.layers has 5; the teacher has 1 to 4 layers to copy"),
        (Space(layers=(0,)), "space.layers has 0; the teacher has 1 to 4 layers to copy"),
        (Space(take_layers=((),)), "space.take_layers has an empty list: name at least one layer"),
        (Space(take_layers=((0, 4),)), "space.take_layers names layer 4; the teacher has 0 to 3"),
        (Space(vocabulary=(-1,)), "space.vocabulary has -1; it must be at least 1 and below the teacher's 165 tokens"),
        (Space(vocabulary=(165,)), "space.vocabulary has 165; it must be at least 1 and below the teacher's 165"),
        (Space(coverage=(1.5,)), "space.coverage has 1.5; it must be above 0 and at most 1"),
        (Space(tables=(6,)), "space.tables has 6; it must be 4 or 8"),
        (Space(width=()), "the space is empty"),
        (Space(width=(-1,)), "space.width has -1; it must be at least 1 and at most 64, or 0 for that"),
        (Space(width=(30,)), "space: student.width is 30; the heads copied from "),
        (Space(width=(128,)), "space: student.width is 128, and the layers copied from "),
        (Space(feed_forward=(256,)), "space: student.feed_forward is 256, and the layers copied from "),
    ],
)
def test_a_space_that_does_not_fit_the_teacher_is_refused(space: Space, message: str, teacher: Bundle) -> None:
    with pytest.raises(RecipeError) as raised:
        space.candidates(teacher)
    assert str(raised.value).startswith(message)


def test_a_space_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text("layers = [2]\ntake_layers = [[0, 1]]\ncoverage = [0.99]\n", encoding="utf-8")
    assert read_space(path) == Space(layers=(2,), take_layers=((0, 1),), coverage=(0.99,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("depth = [2]\n", "unknown key 'depth'; known are coverage, feed_forward, layers, tables, take_layers, voca"),
        ("layers = 2\n", "layers: a list is wanted, not 2"),
        ("layers = [\n", "is not TOML"),
    ],
)
def test_a_space_that_cannot_be_read_says_where_and_why(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError) as raised:
        read_space(path)
    assert message in str(raised.value)
    assert "space.toml" in str(raised.value)
