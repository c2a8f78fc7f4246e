"""The benchmarks' own logic: texts of every length, verdicts, and that nothing is left out when something fails."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import sentences

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/int8.py, which imports the modules beside it."""
    from importlib import import_module

    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("int8")


def test_texts_have_just_the_wanted_number_of_tokens(benchmark: ModuleType, tiny_teacher: Path) -> None:
    from edgebert.bundle import Bundle
    from edgebert.embedder import open_tokenizer

    teacher = Bundle.from_pretrained(tiny_teacher)
    tokenizer, lengths = open_tokenizer(teacher), range(3, teacher.manifest.max_length + 1)
    texts = sentences(100)
    for made in (benchmark.running_texts, benchmark.repeated_words):
        found = made(texts, tokenizer, lengths)
        assert [len(tokens.ids) for tokens in tokenizer(found)] == list(lengths)
    assert all(len(set(text.split())) == 1 for text in benchmark.repeated_words(texts, tokenizer, lengths))


def test_every_target_can_be_met_and_missed(benchmark: ModuleType) -> None:
    def one(name: str, engine: str, speed: float, kept: float, cosine: float) -> object:
        facts = [name, engine, speed, [speed, speed], speed, 1.0, 80.0, kept, cosine, 0.9, 0.9, 0.9, 23.0, {}]
        return benchmark.Figures(*facts)

    theirs = [
        one("sentence-transformers openvino-qint8", "openvino", 3.0, 99.0, 0.98),
        one("sentence-transformers openvino-qint8, f32", "openvino", 3.5, 99.0, 0.99),
        one("sentence-transformers onnx-qint8 (avx2)", "onnx", 2.0, 99.0, 0.97),
    ]
    good = [
        one("EdgeBERT OpenVINO int8", "openvino", 4.0, 99.7, 0.995),
        one("EdgeBERT ONNX Runtime int8", "onnxruntime", 2.0, 99.5, 0.98),
    ]
    met = benchmark.targets([*good, *theirs])
    assert len(met) == 10
    assert all(met.values())
    for place, changed, missed in (
        (0, {"kept": 99.69}, 1),
        (0, {"to_torch": 3.99}, 1),
        (0, {"speeds": [3.4, 3.4]}, 1),  # below one of two
        (0, {"mean_cosine": 0.98}, 2),  # nearer than neither
        (1, {"kept": 99.4}, 1),
        (1, {"speeds": [1.9, 1.9]}, 1),
    ):
        worse = list(good)
        worse[place] = dataclasses.replace(good[place], **changed)
        assert list(benchmark.targets([*worse, *theirs]).values()).count(False) == missed, changed


def test_ratios_are_those_of_the_same_rounds(benchmark: ModuleType) -> None:
    assert benchmark.ratio([2.0, 40.0, 6.0], [1.0, 10.0, 3.0]) == 2.0  # the medians' ratio is 6 / 3


def test_an_encoder_that_does_not_run_ends_the_benchmark(benchmark: ModuleType, tmp_path: Path) -> None:
    peer = benchmark.Subject("a peer", str(tmp_path / "none"), "sentence_transformers", "torch", 1)
    with pytest.raises(SystemExit, match="a peer does not run: .*none"):
        benchmark.measure([peer], ["a text"], ["a text"], ["a text"], threads=1, rounds=1)


def test_an_export_of_another_model_is_not_used(benchmark: ModuleType, tiny_teacher: Path, tmp_path: Path) -> None:
    import peers

    from edgebert.bundle import Bundle

    record = {"backend": "onnx", "config": "avx2", "teacher": "other", "calibration": "", "packages": ["a"]}
    (tmp_path / "export.json").write_text(json.dumps(record), encoding="utf-8")
    teacher, python = Bundle.from_pretrained(tiny_teacher), Path(sys.executable)
    peers._exported(peers.Export("onnx", "avx2", "other", "", ("a",)), python, teacher, tmp_path)
    with pytest.raises(SystemExit, match="was made from another teacher: remove it"):
        peers._exported(peers.Export("onnx", "avx2", "this", "", ("a",)), python, teacher, tmp_path)


def write_pairs(folder: Path) -> None:
    draw = random.Random(0)
    rows = [
        {"text": a, "text_pair": b, "score": draw.uniform(0, 5)}
        for a, b in zip(sentences(40, seed=5), sentences(40, seed=6), strict=True)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def test_split_outliers_are_measured_beside_those_in_float(tiny_bundle: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(sentences(60)), encoding="utf-8")
    command = [sys.executable, FOLDER / "split_outliers.py", "--data", tmp_path, "--bundle", tiny_bundle]
    command += ["--test", "pairs.jsonl", "--text", "texts.txt", "--recipe", "outliers-32", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("split, ", "float, "))]
    assert len(rows) == 4
    assert "ms, 32 x 24" in done.stdout and "ms, 32 x 48" in done.stdout


def test_retention_is_measured_and_has_a_limit(tiny_bundle: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path)
    command = [sys.executable, FOLDER / "retention.py", "--data", tmp_path, "--bundle", tiny_bundle]
    command += ["--test", "pairs.jsonl", "--min-mean-cosine", "0.9", "--min-retention"]
    loose = subprocess.run([*command, "-9"], capture_output=True, text=True, check=False)
    assert loose.returncode == 0, loose.stderr
    assert "openvino-int8" in loose.stdout and "onnxruntime-int8" in loose.stdout
    assert "40 pairs; " in loose.stdout
    strict = subprocess.run([*command, "9"], capture_output=True, text=True, check=False)
    assert strict.returncode == 1
    assert "openvino-int8 keeps" in strict.stderr and "at least 9.0" in strict.stderr
