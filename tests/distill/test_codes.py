"""Word vectors made of codes: what product quantization loses, and that the codes outlive training and int8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from conftest import Result
from helpers import assert_refused, least_cosine, make_teacher, sentences
from safetensors.torch import load_file

from edgebert.bundle import Bundle
from edgebert.distill.codes import CODES, code_table
from edgebert.quantize.stage import Options, quantize
from edgebert.quantize.table_codes import table_codes

Cli = Callable[..., Result]
QUICK = ("--batch-size", "16", "--epochs", "0.3", "--held-out", "60", "--precision", "fp32")


def lost(table: torch.Tensor, coded: torch.Tensor, counts: torch.Tensor) -> float:
    """The share of the table's square that is lost, rows weighed by their counts."""
    return float((((coded - table) ** 2).sum(1) * counts).sum() / ((table**2).sum(1) * counts).sum())


def test_each_run_has_256_values_at_most_which_float16_holds() -> None:
    table, counts = torch.randn(1000, 12, generator=torch.Generator().manual_seed(0)), torch.ones(1000)
    coded = code_table(table, counts, 3)
    for start in range(0, 12, 3):
        assert len(coded[:, start : start + 3].unique(dim=0)) <= CODES
    assert torch.equal(coded, coded.half().float())
    assert lost(table, coded, counts) < 0.05
    assert torch.equal(coded, code_table(table, counts, 3))
    assert not torch.equal(coded, code_table(table, counts, 3, seed=1))


def test_longer_runs_lose_more_and_frequent_rows_less() -> None:
    table, counts = torch.randn(2000, 12, generator=torch.Generator().manual_seed(0)), torch.ones(2000)
    counts[:100] = 10_000
    found = {width: code_table(table, counts, width) for width in (2, 3, 4)}
    errors = [lost(table, coded, torch.ones(2000)) for coded in found.values()]
    assert errors == sorted(errors)
    assert lost(table, found[4], counts) < 0.5 * lost(table, found[4], torch.ones(2000))


def test_a_table_of_few_rows_loses_what_float16_does() -> None:
    table = torch.randn(100, 6)
    assert torch.equal(code_table(table, torch.ones(100), 3), table.half().float())


def test_a_student_keeps_its_codes_through_training_and_int8(corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    out, teacher = tmp_path / "student", make_teacher(tmp_path / "teacher", unused=300)
    made = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--layers", "1", "--table-codes", "2",
               *QUICK)  # fmt: skip
    assert made.code == 0, made.err
    assert "word table: codes of 2 dimensions" in made.err
    student = Bundle.open(out)
    assert str(student.manifest.lineage["student"]).endswith("word vectors in codes of 2 dimensions")
    table = load_file(out / "model.safetensors")["embeddings.word_embeddings.weight"].numpy()
    assert len(table) > CODES  # else anything is made of codes
    found = table_codes(table)
    assert found is not None
    assert found[0].shape == (len(table), 32)
    bundle, *_ = quantize(student, sentences(40), tmp_path / "int8", Options(samples=40))
    (path,) = (bundle.root / "onnx").glob("*int8.onnx")
    stored = {tensor.name.rsplit("_", 1)[-1]: tensor for tensor in onnx.load(path).graph.initializer}
    codes, vectors = (onnx.numpy_helper.to_array(stored[name]) for name in ("codes", "vectors"))
    assert codes.shape == (len(table), 32)
    places = np.arange(32) * CODES
    assert np.array_equal(vectors[codes + places].astype(np.float32).reshape(len(table), 64), table)  # without loss
    assert least_cosine(out, bundle.root) > 0.97


def test_a_student_that_starts_from_a_coded_one_keeps_its_codes(corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    teacher = make_teacher(tmp_path / "teacher", unused=300)
    common = ("distill", teacher, "--corpus", corpus_file, *QUICK)
    assert cli(*common, "-o", tmp_path / "one", "--layers", "2", "--table-codes", "4").code == 0
    for name, more in (("plain", ()), ("again", ("--table-codes", "4"))):
        made = cli(*common, "-o", tmp_path / name, "--start", tmp_path / "one", *more)
        assert made.code == 0, made.err
        assert torch.equal(words_of(tmp_path / name), words_of(tmp_path / "one"))
    trained = cli(*common, "-o", tmp_path / "trained", "--start", tmp_path / "one", "--train-embeddings")
    assert trained.code == 0, trained.err
    assert not torch.equal(words_of(tmp_path / "trained"), words_of(tmp_path / "one"))


def words_of(student: Path) -> torch.Tensor:
    return load_file(student / "model.safetensors")["embeddings.word_embeddings.weight"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--table-codes", "5"), ("student.table_codes is 5", "the width of the word vectors, 64")),
        (("--table-codes", "1"), ("student.table_codes is 1", "at least 2")),
        (("--table-codes", "2", "--start", "fresh"), ("student.table_codes is 2", 'student.start "fresh"')),
        (("--table-codes", "2", "--qat"), ("student.table_codes is 2", "training.qat 0.25")),
        (("--characters", "used"), ("student.characters is 'used', and the whole vocabulary is kept",)),
        (("--table-codes", "2", "--train-embeddings"), ("student.table_codes is 2", "freeze_embeddings false")),
    ],
)
def test_wrong_codes_are_refused(
    options: tuple[str, ...], words: tuple[str, ...], tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "out", *QUICK, *options)
    assert_refused(result, tmp_path / "out", *words)
