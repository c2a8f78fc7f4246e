"""Plain data into dataclasses and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebert.errors import RecipeError
from edgebert.schema import parse, plain


@dataclass(frozen=True)
class Inner:
    """A part."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True)
class Outer:
    """A whole."""

    count: int
    kind: Literal["a", "b"] = "a"
    on: bool = False
    part: Inner | None = None
    parts: tuple[Inner, ...] = ()
    table: Mapping[str, Inner] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)


def read(data: object) -> Outer:
    return parse(Outer, data, where="file.toml", error=RecipeError)


def test_what_is_left_out_has_its_default() -> None:
    assert read({"count": 3}) == Outer(3)


def test_everything_nested_is_read() -> None:
    found = read(
        {
            "count": 3, "kind": "b", "on": True, "part": {"name": "x", "weight": 2}, "parts": [{"name": "y"}],
            "table": {"z": {"name": "z"}}, "free": {"any": [1, "two"]},
        }
    )  # fmt: skip
    assert found == Outer(3, "b", True, Inner("x", 2.0), (Inner("y"),), {"z": Inner("z")}, {"any": [1, "two"]})
    assert isinstance(found.part, Inner)
    assert type(found.part.weight) is float


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"count": 1, "cuont": 2},
            r"file.toml: unknown key 'cuont'; known are count, free, kind, on, part, parts, tab",
        ),
        ({}, r"file.toml: the key 'count' is missing"),
        ({"count": "3"}, r"file.toml: count: int is wanted, not '3'"),
        ({"count": True}, r"file.toml: count: int is wanted, not True"),
        ({"count": 1.5}, r"file.toml: count: int is wanted, not 1.5"),
        ({"count": 1, "on": 1}, r"file.toml: on: bool is wanted, not 1"),
        ({"count": 1, "kind": "c"}, r"file.toml: kind: 'c' is not one of 'a', 'b'"),
        ({"count": 1, "part": 5}, r"file.toml: part: a table is wanted, not 5"),
        ({"count": 1, "part": {"name": None}}, r"file.toml: part: name: str is wanted, not None"),
        ({"count": 1, "part": {"name": "x", "weight": "1"}}, r"file.toml: part: weight: float is wanted, not '1'"),
        ({"count": 1, "part": {"name": "x", "weight": True}}, r"file.toml: part: weight: float is wanted, not True"),
        ({"count": 1, "parts": {"name": "x"}}, r"file.toml: parts: a list is wanted, not {'name': 'x'}"),
        ({"count": 1, "parts": [{"name": "x"}, {}]}, r"file.toml: parts\[1\]: the key 'name' is missing"),
        ({"count": 1, "table": []}, r"file.toml: table: a table is wanted, not \[\]"),
        ({"count": 1, "table": {"k": {"nam": "x"}}}, r"file.toml: table.k: unknown key 'nam'; known are name, weight"),
        ([1], r"file.toml: a table is wanted, not \[1\]"),
    ],
)
def test_what_does_not_fit_names_place_and_value(data: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read(data)


_INNER = st.builds(Inner, st.text(), st.floats(allow_nan=False))


@given(
    st.builds(
        Outer, st.integers(), st.sampled_from(["a", "b"]), st.booleans(), st.none() | _INNER,
        st.lists(_INNER).map(tuple), st.dictionaries(st.text(), _INNER),
        st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers())),
    )
)  # fmt: skip
def test_plain_data_read_again_is_the_same(outer: Outer) -> None:
    assert read(plain(outer)) == outer
