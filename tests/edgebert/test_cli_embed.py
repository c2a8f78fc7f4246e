"""`edgebert embed`: from files and standard input to every format, and every way it can fail."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import sentences

from edgebert.cli import embed
from edgebert.embedder import Embedder
from edgebert.vectors import row_cosines

if TYPE_CHECKING:
    from conftest import Pretended

TEXTS = sentences(30, seed=3)
FP32 = ["--engine", "onnxruntime", "--precision", "fp32", "--threads", "1"]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "texts.txt"
    path.parent.mkdir()
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def piped(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def rows(out: Path) -> list[dict[str, Any]]:
    if out.suffix == ".jsonl":
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    from pyarrow import parquet

    return list(parquet.read_table(out).to_pylist())


@pytest.mark.parametrize("source", ["file", "stdin", "dash"])
@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_texts_become_vectors_in_every_format(
    source: str, suffix: str, tiny_bundle: Path, lines: Path, tmp_path: Path, encoder: Embedder,
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "out" / f"vectors.{suffix}"
    if source != "file":
        piped(lines.read_bytes(), monkeypatch)
    files = {"file": [lines], "stdin": [], "dash": ["-"]}[source]
    result = cli("embed", tiny_bundle, *files, "-o", out, *FP32)
    assert (result.code, result.out) == (0, "")
    assert result.err == f"{out}: 30 vectors of 64 by onnxruntime fp32\n"
    if suffix == "npy":
        found = np.load(out)
    else:
        found = np.array([row["embedding"] for row in rows(out)], np.float32)
        assert [row["text"] for row in rows(out)] == TEXTS
    assert row_cosines(found, encoder.encode(TEXTS)).min() > 1 - 1e-5
    assert list(out.parent.iterdir()) == [out]


def test_the_closing_line_names_a_hint_that_is_not_f32(
    tiny_bundle: Path, lines: Path, tmp_path: Path, bf16: Pretended, cli: Callable[..., Any]
) -> None:
    out = tmp_path / "vectors.npy"
    result = cli("embed", tiny_bundle, lines, "-o", out, "--precision", "bf16", "--threads", 1)
    assert (result.code, result.err) == (0, f"{out}: 30 vectors of 64 by openvino bf16 (hint bf16)\n")


def test_blank_lines_get_vectors_so_that_numbers_agree(
    tiny_bundle: Path, tmp_path: Path, encoder: Embedder, cli: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("dog\n\ncat\n")
    assert cli("embed", tiny_bundle, tmp_path / "in.txt", "-o", tmp_path / "out.npy", *FP32).code == 0
    assert np.allclose(np.load(tmp_path / "out.npy"), encoder.encode(["dog", "", "cat"]), atol=1e-5)


def test_several_files_of_several_formats_follow_each_other(
    tiny_bundle: Path, lines: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "dog"}\n{"text": "cat"}\n'))
    (tmp_path / "b.csv").write_text("text,label\nbird,1\n")
    out = tmp_path / "out.jsonl"
    assert cli("embed", tiny_bundle, tmp_path / "a.jsonl.gz", tmp_path / "b.csv", lines, "-o", out, *FP32).code == 0
    assert [row["text"] for row in rows(out)] == ["dog", "cat", "bird", *TEXTS]


def test_the_column_can_be_chosen(tiny_bundle: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "in.tsv").write_text("text\tbody\nwrong\tright\n")
    out = tmp_path / "out.jsonl"
    assert cli("embed", tiny_bundle, tmp_path / "in.tsv", "--column", "body", "-o", out, *FP32).code == 0
    assert [row["text"] for row in rows(out)] == ["right"]


def test_a_file_longer_than_a_chunk_is_written_whole(
    tiny_bundle: Path, lines: Path, tmp_path: Path, encoder: Embedder, cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(embed, "_CHUNK", 7)
    out = tmp_path / "out.npy"
    assert cli("embed", tiny_bundle, lines, "-o", out, *FP32).code == 0
    assert row_cosines(np.load(out), encoder.encode(TEXTS)).min() > 1 - 1e-5


def test_texts_on_the_command_line_are_printed_as_json(
    tiny_bundle: Path, encoder: Embedder, cli: Callable[..., Any]
) -> None:
    result = cli("embed", tiny_bundle, "--text", "the dog", "--text", "", *FP32)
    assert (result.code, result.err) == (0, "")
    found = np.array([json.loads(line) for line in result.out.splitlines()])
    assert np.allclose(found, encoder.encode(["the dog", ""]), atol=1e-5)


def test_options_reach_the_encoder(
    tiny_bundle: Path, lines: Path, tmp_path: Path, encoder: Embedder, cli: Callable[..., Any]
) -> None:
    out = tmp_path / "out.npy"
    options = ["--truncate-dim", 8, "--no-normalize", "--prompt", "cat ", "--batch-size", 3]
    result = cli("embed", tiny_bundle, lines, "-o", out, *options, *FP32)
    assert result.err == f"{out}: 30 vectors of 8 by onnxruntime fp32\n"
    wanted = encoder.encode(TEXTS, truncate_dim=8, normalize_embeddings=False, prompt="cat ")
    assert np.allclose(np.load(out), wanted, atol=1e-5)


def test_cut_texts_are_counted(tiny_bundle: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "in.txt").write_text("dog\n" + "dog " * 60 + "\n" + "cat " * 99 + "\n")
    out = tmp_path / "out.npy"
    result = cli("embed", tiny_bundle, tmp_path / "in.txt", "-o", out, *FP32)
    assert result.err.endswith("3 vectors of 64 by onnxruntime fp32, 2 of them longer than 48 tokens and cut\n")


def test_an_empty_file_gives_an_empty_matrix(tiny_bundle: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "in.txt").write_text("")
    assert cli("embed", tiny_bundle, tmp_path / "in.txt", "-o", tmp_path / "out.npy", *FP32).code == 0
    assert np.load(tmp_path / "out.npy").shape == (0, 64)


def test_progress_is_told_on_standard_error(
    tiny_bundle: Path, lines: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    result = cli("embed", tiny_bundle, lines, "-o", tmp_path / "out.npy", "--progress", *FP32)
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines()[0].startswith("embed: 30 of ")


def test_an_existing_output_is_refused_and_kept(
    tiny_bundle: Path, lines: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    out = tmp_path / "out.npy"
    out.write_text("mine")
    result = cli("embed", tiny_bundle, lines, "-o", out)
    message = f"edgebert: the output {out} exists already: choose another name or remove it first\n"
    assert (result.code, result.err) == (1, message)
    assert out.read_text() == "mine"


@pytest.mark.parametrize("name", ["out.txt", "out", "out.npz"])
def test_an_unknown_suffix_is_refused(
    name: str, tiny_bundle: Path, lines: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    out = tmp_path / name
    refused("embed", tiny_bundle, lines, "-o", out, *FP32, says=f"{out} has an unknown format", out=out)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("bad.txt", b"fine\nk\xe4se\n", "line 2 is not UTF-8"),
        ("bad.bin", b"\0\1\2", "this is a binary file"),
        ("bad.jsonl", b'{"text": "x"}\n{"text": 5}\n', "row 2, column 'text' holds 5"),
        ("bad.csv", b"a,b\n1,2\n", "has no column 'text'; it has 'a', 'b'"),
        ("bad.parquet", b"PAR1nonsensePAR1", "is not a whole Parquet file"),
        ("bad.txt.gz", gzip.compress(b"dog\n" * 999)[:-9], "is not a whole gzip file"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_a_file_that_cannot_be_used_leaves_nothing(
    suffix: str, name: str, data: bytes, says: str, tiny_bundle: Path, lines: Path, tmp_path: Path,
    refused: Callable[..., str],
) -> None:  # fmt: skip
    bad = tmp_path / name
    bad.write_bytes(data)
    out = tmp_path / f"out.{suffix}"
    line = refused("embed", tiny_bundle, lines, bad, "-o", out, *FP32, says=says, out=out)
    assert str(bad) in line


def test_a_missing_file_is_named(tiny_bundle: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    out, missing = tmp_path / "out.npy", tmp_path / "absent.txt"
    refused("embed", tiny_bundle, missing, "-o", out, *FP32, says=f"no such file: {missing}", out=out)


def test_bytes_on_standard_input_that_are_no_text_are_named(
    tiny_bundle: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.npy"
    piped(b"fine\n\xff\n", monkeypatch)
    refused("embed", tiny_bundle, "-o", out, *FP32, says="-: line 2 is not UTF-8", out=out)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--truncate-dim", 65], "truncate_dim is 65; it must be 1 to 64"),
        (["--prompt-name", "query"], "the model has no prompt 'query'; it has none"),
        (["--prompt", "a", "--prompt-name", "b"], "prompt 'a' and prompt_name 'b' are both given"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_even_without_text(
    option: list[object], says: str, empty: bool, tiny_bundle: Path, lines: Path, tmp_path: Path,
    refused: Callable[..., str],
) -> None:  # fmt: skip
    if empty:
        lines.write_text("")
    out = tmp_path / "out.npy"
    refused("embed", tiny_bundle, lines, "-o", out, *option, *FP32, says=says, out=out)


def test_a_place_below_a_file_cannot_be_written(tiny_bundle: Path, lines: Path, refused: Callable[..., str]) -> None:
    out = lines / "out.npy"
    refused("embed", tiny_bundle, lines, "-o", out, *FP32, says=f"cannot write {out}", out=out)


@pytest.mark.parametrize("name", ["absent/bundle/deep", "./absent"])
def test_a_model_that_is_not_there_is_named(
    name: str, lines: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    out = tmp_path / "out.npy"
    refused("embed", name, lines, "-o", out, says=f"no such file or folder: {name}", out=out)


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_ctrl_c_leaves_nothing_and_exits_with_130(
    suffix: str, tiny_bundle: Path, lines: Path, tmp_path: Path, cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(embed, "_CHUNK", 10)
    genuine, calls = Embedder.encode, []

    def interrupted(self: Embedder, texts: list[str], **options: Any) -> Any:
        calls.append(len(texts))
        if sum(calls) > 20:
            raise KeyboardInterrupt
        return genuine(self, texts, **options)

    monkeypatch.setattr(Embedder, "encode", interrupted)
    before = set(tmp_path.iterdir())
    result = cli("embed", tiny_bundle, lines, "-o", tmp_path / f"out.{suffix}", *FP32)
    assert (result.code, result.out, result.err.strip()) == (130, "", "edgebert: interrupted")
    assert sum(calls) == 30
    assert set(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_nothing(
    tiny_bundle: Path, lines: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Embedder, texts: list[str], **options: Any) -> Any:
        if texts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return np.zeros((0, 64), np.float32)

    monkeypatch.setattr(Embedder, "encode", full)
    out = tmp_path / "out.npy"
    refused("embed", tiny_bundle, lines, "-o", out, *FP32, says=f"the disk is full while writing {out}", out=out)


@pytest.mark.parametrize("arguments", [["--text", "x", "-o", "out.npy"], ["--text", "x", "file.txt"], ["file.txt"]])
def test_wrong_usage_exits_with_2(arguments: list[str], tiny_bundle: Path, cli: Callable[..., Any]) -> None:
    result = cli("embed", tiny_bundle, *arguments)
    assert result.code == 2
    assert result.err.startswith("Usage: ")
    assert not Path("out.npy").exists()
