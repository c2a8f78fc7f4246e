"""`edgebert bench`: figures, ratios, and models that cannot be timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgebert.bench import Measured, Subject, bench, default_texts, peak_memory_mb
from edgebert.cli.bench import _show
from edgebert.errors import DataError, EngineError
from edgebert.prose import python_prose
from edgebert.timing import Clock, Timing, side_by_side

SMALL = ["--rounds", 1, "--singles", 2, "--count", 8, "--threads", 1]


def test_two_models_are_timed_against_each_other(tiny_bundle: Path, corpus_file: Path, cli: Callable[..., Any]) -> None:
    result = cli(
        "bench", tiny_bundle, "--against", tiny_bundle, "--engine", "onnxruntime", "--against-engine", "onnxruntime",
        "--against-precision", "fp32", "--texts", corpus_file, *SMALL, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    found = json.loads(result.out)
    first, second = found["measured"]
    assert (first["model"], first["engine"], first["precision"]) == (str(tiny_bundle), "onnxruntime", "int8")
    assert (first["hint"], second["hint"]) == ("f32", "f32")
    assert (second["model"], second["engine"], second["precision"]) == (str(tiny_bundle), "onnxruntime", "fp32")
    for measured in (first, second):
        times = measured["timing"]
        assert 0 < times["p50_ms"] <= times["p95_ms"] <= times["p99_ms"] < 10_000
        assert times["sentences_s"] > 1
        assert 0 < measured["load_s"] < 60
        assert 10 < measured["memory_mb"] < 4000
        assert measured["threads"] == 1
    ratios = found["ratios"]
    assert ratios["p50"] == pytest.approx(second["timing"]["p50_ms"] / first["timing"]["p50_ms"])
    assert ratios["sentences_s"] == pytest.approx(first["timing"]["sentences_s"] / second["timing"]["sentences_s"])
    assert ratios["load"] == pytest.approx(second["load_s"] / first["load_s"])
    assert ratios["memory"] == pytest.approx(second["memory_mb"] / first["memory_mb"])
    assert [*ratios] == ["p50", "p95", "p99", "sentences_s", "load", "memory"]


def test_one_model_has_no_ratios_and_a_table(tiny_bundle: Path, corpus_file: Path, cli: Callable[..., Any]) -> None:
    result = cli("bench", tiny_bundle, "--engine", "onnxruntime", "--texts", corpus_file, *SMALL)
    assert result.code == 0, result.err
    head, row, foot = result.out.splitlines()
    assert head.split("  ")[0] == "model"
    assert row.startswith(str(tiny_bundle))
    assert "onnxruntime int8" in row
    assert foot == "1 threads; one text alone, and batches of 32"


def test_the_table_names_a_hint_that_is_not_f32(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        Measured("m", "openvino", precision, 2, Timing(1, 2, 3, 4), 0.5, 100, hint)
        for precision, hint in (("int8", "f32"), ("int8", "bf16"), ("bf16", "bf16"))
    ]
    _show(found, None)
    rows = capsys.readouterr().out.splitlines()[1:4]
    for row, runs in zip(
        rows, ("openvino int8 ", "openvino int8 (hint bf16)", "openvino bf16 (hint bf16)"), strict=True
    ):
        assert runs in row
    assert "hint" not in rows[0]


@pytest.mark.parametrize("against", [False, True])
def test_a_model_that_does_not_exist_is_named(
    against: bool, tiny_bundle: Path, corpus_file: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    missing = tmp_path / "absent" / "model"
    models = [tiny_bundle, "--engine", "onnxruntime", "--against", missing] if against else [missing]
    refused("bench", *models, "--texts", corpus_file, *SMALL, says=f"no such file or folder: {missing}")


def test_a_damaged_bundle_is_named(copied_bundle: Path, corpus_file: Path, refused: Callable[..., str]) -> None:
    (copied_bundle / "tokenizer.json").unlink()
    refused("bench", copied_bundle, "--texts", corpus_file, *SMALL, says="the file tokenizer.json is missing")


def test_a_process_that_dies_is_an_error_with_its_last_words(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dead = tmp_path / "python"
    dead.write_text("#!/bin/sh\necho first >&2\necho 'out of memory' >&2\nexit 9\n")
    dead.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(dead))
    with pytest.raises(EngineError, match=f"timing {tiny_bundle} failed: out of memory"):
        bench([Subject(str(tiny_bundle))], ["x"], threads=1)


def test_a_text_file_without_text_cannot_be_timed_on(
    tiny_bundle: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "blank.txt").write_text("\n\n")
    refused("bench", tiny_bundle, "--texts", tmp_path / "blank.txt", *SMALL, says="blank.txt has no usable line")
    refused("bench", tiny_bundle, "--texts", tmp_path / "absent.txt", *SMALL, says="no such file: ")


def test_texts_are_taken_evenly_from_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"text {i}\n" for i in range(100)))
    assert default_texts(path, 4) == ["text 0", "text 25", "text 50", "text 75"]
    assert len(default_texts(path, 1000)) == 100
    path.write_text("\n")
    with pytest.raises(DataError, match="has no usable line"):
        default_texts(path, 4)


def test_without_a_file_the_documentation_of_python_is_read() -> None:
    texts = default_texts(None, 12)
    assert len(texts) == len(set(texts)) == 12
    assert texts == default_texts(None, 12)


def test_prose_is_whole_distinct_sentences() -> None:
    prose = python_prose()
    found = [next(prose) for _ in range(300)]
    assert len({text.lower() for text in found}) == 300
    for text in found:
        assert text[0].isupper()
        assert text[-1] in ".!?"
        assert 5 <= len(text.split()) <= 45
        assert not set(text) & set("<>{}=`\n")


class Counted:
    """An encoder that counts what it is asked for."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.texts = name, log, 0

    def encode(self, sentences: list[str], *, batch_size: int = 32) -> None:
        self.texts += len(sentences)
        if batch_size > 1:
            self.log.append(self.name)


def test_the_first_round_warms_up_and_is_not_timed() -> None:
    encoder = Counted("a", [])
    clock = Clock(encoder, ["x"] * 20, ["y"] * 50)
    clock.round()
    assert encoder.texts == 50 + 16 + 20 + 50
    clock.round()
    assert encoder.texts == 50 + 16 + 2 * (20 + 50)
    timing = clock.timing
    assert 0 < timing.p50_ms <= timing.p95_ms <= timing.p99_ms
    assert timing.sentences_s > 0


def test_encoders_take_turns_in_another_order_every_round() -> None:
    log: list[str] = []
    found = side_by_side({name: Counted(name, log) for name in "ab"}, ["x"], ["y"] * 2, rounds=3)
    assert [*found] == ["a", "b"]
    assert log == ["a", "a", "b", "b", "b", "a", "a", "b"]


def test_the_peak_of_memory_is_in_millions_of_bytes() -> None:
    assert 10 < peak_memory_mb() < 100_000
