"""Rows of differing length on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgebert.distill.ragged import Ragged, RaggedWriter


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=6), min_size=1).filter(any))
def test_rows_come_back_as_they_were_written(rows: list[list[int]], tmp_path: Path) -> None:
    with RaggedWriter(tmp_path / "ids", np.int32) as writer:
        for row in rows:
            writer.append(row)
    ids = Ragged(tmp_path / "ids")
    assert writer.rows == len(ids) == len(rows)
    assert [row.tolist() for row in ids] == rows
    assert ids.lengths.tolist() == [len(row) for row in rows]
    assert ids.dtype == np.dtype("int32")


def test_rows_of_any_type_keep_it(tmp_path: Path) -> None:
    with RaggedWriter(tmp_path / "x", np.float16) as writer:
        writer.append([0.5, 1.5])
        writer.append(np.array([], np.float16))
        writer.append([65504.0])
    rows = Ragged(tmp_path / "x")
    assert rows[0].dtype == np.float16
    assert [row.tolist() for row in rows] == [[0.5, 1.5], [], [65504.0]]


def test_a_second_writer_begins_anew(tmp_path: Path) -> None:
    for values in ([1, 2, 3], [9]):
        with RaggedWriter(tmp_path / "x", np.uint8) as writer:
            writer.append(values)
    assert [row.tolist() for row in Ragged(tmp_path / "x")] == [[9]]


def test_the_files_are_read_only(tmp_path: Path) -> None:
    with RaggedWriter(tmp_path / "x", np.int32) as writer:
        writer.append([1, 2])
    with pytest.raises(ValueError, match="read-only"):
        Ragged(tmp_path / "x")[0][0] = 5
