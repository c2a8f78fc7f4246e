"""The budget: what is refused as a limit, what misses it, and what would be enough."""

from __future__ import annotations

import pytest

from edgebert.distill.fit.budget import Budget
from edgebert.errors import RecipeError
from edgebert.targets.profile import Profile


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_mb": 0.0}, "--max-mb is 0.0; it must be a finite number above 0"),
        ({"max_mb": float("nan")}, "--max-mb is nan; it must be a finite number above 0"),
        ({"p99_ms": -3.0}, "--p99-ms is -3.0; it must be a finite number above 0"),
        ({"p99_ms": float("inf")}, "--p99-ms is inf; it must be a finite number above 0"),
        ({"min_retention": 1.2}, "--min-retention is 1.2; it must be within 0 to 1"),
        ({"min_retention": -0.1}, "--min-retention is -0.1; it must be within 0 to 1"),
        ({"min_retention": float("nan")}, "--min-retention is nan; it must be within 0 to 1"),
    ],
)
def test_a_limit_that_means_nothing_is_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        Budget(**limits)  # type: ignore[arg-type]
    assert str(raised.value) == message


def test_what_is_at_the_limit_meets_it_and_what_is_unknown_misses_nothing() -> None:
    budget = Budget(12, 8, 0.97)
    assert budget.misses(12, 8, 0.97) == ()
    assert budget.misses(12, None, None) == ()
    assert Budget().misses(1e9, 1e9, -1.0) == ()


def test_each_miss_says_what_would_be_enough() -> None:
    budget = Budget(12, 8, 0.97)
    misses = budget.misses(13.201, 9.0, 0.95129)
    assert [miss.option for miss in misses] == ["--max-mb", "--p99-ms", "--min-retention"]
    assert [miss.enough for miss in misses] == [13.21, 9.0, 0.9512]
    assert misses[0].words == "13.20 MB (--max-mb 12)"
    assert Budget(*(miss.enough for miss in misses)).misses(13.201, 9.0, 0.95129) == ()


def test_the_profiles_own_limit_counts_where_it_is_smaller() -> None:
    profile = Profile("box", "a box", ("openvino-int8",), max_size_mb=10.0)
    assert Budget(12, 8).within(profile) == Budget(10.0, 8, size_option="max_size_mb of box")
    assert Budget(None, 8).within(profile).max_mb == 10.0
    assert Budget(9, 8).within(profile) == Budget(9, 8)
    assert Budget(9).within(Profile("box", "a box", ("openvino-int8",))) == Budget(9)
