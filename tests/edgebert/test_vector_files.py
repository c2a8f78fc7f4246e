"""Writing vectors as they come."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebert.errors import BudgetError, BundleError, MissingExtraError, RecipeError
from edgebert.vector_files import numbers, vector_file

SUFFIXES = [".npy", ".jsonl", ".parquet"]


def read(path: Path) -> tuple[list[str] | None, np.ndarray]:  # type: ignore[type-arg]
    """Texts, where the format holds them, and vectors."""
    if path.suffix == ".npy":
        return None, np.load(path)
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        from pyarrow import parquet

        rows = parquet.read_table(path).to_pylist()
    return [row["text"] for row in rows], np.array([row["embedding"] for row in rows], np.float32)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_in_pieces_is_read_back_whole(suffix: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((25, 6)).astype(np.float32)
    texts = [f'text {i}\n"水"\u2028' for i in range(25)]
    out = tmp_path / f"out{suffix}"
    with vector_file(out, 6) as write:
        for start in (0, 1, 10, 20):
            stop = {0: 1, 1: 10, 10: 20, 20: 25}[start]
            write(texts[start:stop], vectors[start:stop])
        assert not out.exists()
    found_texts, found = read(out)
    assert found.dtype == np.float32
    assert (found == vectors).all()
    assert found_texts in (None, texts)
    assert list(tmp_path.iterdir()) == [out]


def test_an_npy_of_nothing_has_no_rows_and_the_dimension(tmp_path: Path) -> None:
    with vector_file(tmp_path / "out.npy", 6):
        pass
    assert np.load(tmp_path / "out.npy").shape == (0, 6)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_of_nothing_has_no_rows(suffix: str, tmp_path: Path) -> None:
    with vector_file(tmp_path / f"out{suffix}", 6):
        pass
    assert read(tmp_path / f"out{suffix}")[0] == []


def test_an_npy_can_be_mapped_into_memory(tmp_path: Path) -> None:
    with vector_file(tmp_path / "out.npy", 3) as write:
        write(["a"], np.ones((1, 3), np.float32))
    mapped = np.load(tmp_path / "out.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert mapped.tolist() == [[1, 1, 1]]
    del mapped


def test_parquet_keeps_float32_lists_of_the_dimension(tmp_path: Path) -> None:
    from pyarrow import float32, list_, parquet, string

    with vector_file(tmp_path / "out.parquet", 3) as write:
        write(["a"], np.ones((1, 3), np.float32))
    schema = parquet.read_schema(tmp_path / "out.parquet")
    assert (schema.field("text").type, schema.field("embedding").type) == (string(), list_(float32(), 3))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_lone_surrogate_can_be_written(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    with vector_file(out, 2) as write:
        write(["dog \ud800 cat"], np.ones((1, 2), np.float32))
    texts, _ = read(out)
    assert texts == ["dog \ud800 cat" if suffix == ".jsonl" else "dog ? cat"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_column_slice_is_written_as_it_is(suffix: str, tmp_path: Path) -> None:
    vectors = np.arange(24, dtype=np.float32).reshape(4, 6)[:, :2]
    with vector_file(tmp_path / f"out{suffix}", 2) as write:
        write(list("abcd"), vectors)
    assert read(tmp_path / f"out{suffix}")[1].tolist() == [[0, 1], [6, 7], [12, 13], [18, 19]]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8))
def test_numbers_are_short_and_read_back_the_same(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    found = numbers(vector)
    assert (np.array(json.loads(json.dumps(found)), np.float32) == vector).all()


def test_a_tenth_is_written_as_one() -> None:
    assert json.dumps(numbers(np.array([0.1, -2.5], np.float32))) == "[0.1, -2.5]"


@pytest.mark.parametrize("name", ["out", "out.txt", "out.npz", "out.jsonl.gz", ".npy"])
def test_an_unknown_suffix_is_named_with_the_known(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"{name} has an unknown format; it must end in .npy, .jsonl, .parquet"), \
            vector_file(tmp_path / name, 2):  # fmt: skip
        pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []


def test_the_suffix_is_read_without_regard_to_case(tmp_path: Path) -> None:
    with vector_file(tmp_path / "out.NPY", 2) as write:
        write(["a"], np.ones((1, 2), np.float32))
    assert np.load(tmp_path / "out.NPY").shape == (1, 2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_output_is_kept(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_text("mine")
    with pytest.raises(BundleError, match=f"{out} exists already"), vector_file(out, 2):
        pytest.fail("the block must not run")
    assert out.read_text() == "mine"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ValueError("x")])
def test_nothing_is_left_when_the_block_fails(suffix: str, problem: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(problem)), vector_file(tmp_path / f"out{suffix}", 2) as write:
        write(["a"], np.ones((1, 2), np.float32))
        raise problem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="the disk is full"), vector_file(tmp_path / f"out{suffix}", 2) as write:
        write(["a"], np.ones((1, 2), np.float32))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"writing Parquet needs .* pip install 'edgebert\[parquet\]'"), \
            vector_file(tmp_path / "out.parquet", 2):  # fmt: skip
        pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []
