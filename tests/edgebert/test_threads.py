"""How many threads this process may use."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgebert import threads
from edgebert.errors import RecipeError
from edgebert.threads import checked_threads, usable_threads


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 12 processors without limits; returns the folder of its control groups' root."""
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(threads, "_SELF", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def test_without_limits_it_is_the_affinity() -> None:
    assert usable_threads() == 12


def test_where_there_is_no_affinity_it_is_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_threads() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_threads() == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000", 12), ("400000 100000", 4), ("350000 100000", 3), ("50000 100000", 1), ("9900000 100000", 12)],
)
def test_the_quota_of_a_control_group_is_a_limit(content: str, expected: int, machine: Path) -> None:
    (machine / "cpu.max").write_text(content + "\n")
    assert usable_threads() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 12), ("250000", 2), ("nonsense", 12)])
def test_the_quota_of_an_old_control_group_is_a_limit(quota: str, expected: int, machine: Path) -> None:
    (machine / "cpu").mkdir()
    (machine / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (machine / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_threads() == expected


@pytest.mark.parametrize(
    ("limits", "own", "expected"),
    [
        ({"a/b": "300000"}, "0::/a/b", 3),
        ({"a": "200000", "a/b": "300000"}, "0::/a/b", 2),  # a group has no more than those above it
        ({"": "100000", "a/b": "300000"}, "0::/a/b", 1),
        ({"a": "max", "a/b": "400000"}, "12:pids:/x\n0::/a/b\n", 4),
        ({"": "500000"}, "0::/not/here", 5),
        ({"": "500000", "c": "100000"}, "0::/../../c", 5),  # of another view
        ({"a": "200000"}, "0::/", 12),
        ({"a": "200000"}, "nonsense", 12),
        ({"a": "nonsense", "a/b": "200000"}, "0::/a/b", 2),
        ({"a:b": "200000"}, "0::/a:b", 2),
    ],
)
def test_every_group_above_this_process_is_a_limit(
    limits: dict[str, str], own: str, expected: int, machine: Path
) -> None:
    (machine / "self").write_text(own)
    for group, quota in limits.items():
        (machine / group).mkdir(parents=True, exist_ok=True)
        (machine / group / "cpu.max").write_text(f"{quota} 100000\n")
    assert usable_threads() == expected


@pytest.mark.parametrize(
    ("own", "expected"), [("3:cpu,cpuacct:/a/b\n2:cpuset:/\n", 2), ("3:cpuset:/a/b\n", 4), ("3:cpu:/a", 4)]
)
def test_every_old_group_above_this_process_is_a_limit(own: str, expected: int, machine: Path) -> None:
    (machine / "self").write_text(own)
    (machine / "cpu" / "a" / "b").mkdir(parents=True)
    for group, quota in (("", "400000"), ("a", "-1"), ("a/b", "250000")):
        (machine / "cpu" / group / "cpu.cfs_quota_us").write_text(quota)
        (machine / "cpu" / group / "cpu.cfs_period_us").write_text("100000")
    assert usable_threads() == expected


@pytest.mark.parametrize(
    ("stated", "expected"), [("3", 3), ("5,2", 5), ("64", 12), ("0", 12), ("-1", 12), ("many", 12), ("", 12), ("²", 12)]
)
def test_omp_num_threads_is_a_limit(stated: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert usable_threads() == expected


def test_a_number_is_taken_as_given_and_none_is_the_usable() -> None:
    assert checked_threads(None) == 12
    assert [checked_threads(n) for n in (1, 40, 1024)] == [1, 40, 1024]
    given = checked_threads(np.int64(2))  # type: ignore[arg-type]
    assert (given, type(given)) == (2, int)


@pytest.mark.parametrize("number", [0, -1, 1025, 2.0, "2", True, np.int64(0)])
def test_a_number_beyond_sense_is_refused(number: object) -> None:
    with pytest.raises(
        RecipeError, match=rf"threads is {re.escape(repr(number))}; it must be 1 to 1024 \(this process may use 12\)"
    ):
        checked_threads(number)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["embed", "verify", "bench"])
def test_the_command_line_refuses_them_too(command: str, tiny_bundle: Path, refused: Callable[..., str]) -> None:
    more = {"embed": ["--text", "x"], "verify": [], "bench": ["--rounds", 1]}[command]
    refused(command, tiny_bundle, "--threads", 0, *more, says="threads is 0; it must be 1 to 1024")
