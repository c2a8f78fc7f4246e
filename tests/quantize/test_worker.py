"""Engine work in a process of its own: its answers, its errors, and what is told when an engine brings it down."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers import sentences

from edgebert.bundle import Bundle
from edgebert.distill.encoder import torch_embedder
from edgebert.errors import DataError, EngineError
from edgebert.golden import read_golden
from edgebert.probes import length_probes
from edgebert.quantize import worker
from edgebert.quantize.parity import measure
from edgebert.quantize.reference import Reference
from edgebert.quantize.task_gate import Judged, TaskGate
from edgebert.quantize.worker import measured, timings

# Put on the path, Python imports this when it starts: an engine that ends its process as a crash in C does.
CRASH = """
import os, sys
if "edgebert.quantize.worker" in " ".join(sys.orig_argv):
    import edgebert.engines.onnxruntime as engine
    engine.OnnxRuntimeEngine.embed = lambda *_: {how}
"""


@pytest.fixture(scope="module")
def known(tiny_bundle: Path) -> Reference:
    """A short reference: two lengths, 20 texts."""
    from edgebert.distill.encoder import TorchEngine, encode_ids

    bundle = Bundle.open(tiny_bundle)
    torch_model = torch_embedder(bundle)
    engine = torch_model.opened
    assert isinstance(engine, TorchEngine)
    probes = tuple(p for p in length_probes(read_golden(bundle).cases, 48, every=False) if p.width == 16)[:2]
    answers = tuple(encode_ids(engine.encoder, p.rows, 0) for p in probes)
    texts = tuple(sentences(20, seed=5))
    return Reference(probes, answers, texts, torch_model.encode(list(texts), normalize_embeddings=False), Judged())


def test_the_answer_is_that_of_this_process(tiny_bundle: Path, known: Reference) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert measured(bundle, "onnxruntime-int8", known, None) == measure(bundle, "onnxruntime-int8", known)


def test_speeds_come_back_by_name(tiny_bundle: Path) -> None:
    found = timings(Bundle.open(tiny_bundle), ["onnxruntime-int8", "onnxruntime-fp32"], sentences(8), 4)
    assert set(found) == {"onnxruntime-int8", "onnxruntime-fp32"}
    assert all(one.sentences_s > 0 for one in found.values())


def test_an_error_of_ours_is_raised_here_as_it_was_there(tiny_bundle: Path, known: Reference) -> None:
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(EngineError, match="has no artifact 'openvino-int2'"):
        timings(bundle, ["openvino-int2"], sentences(8), 4)
    task = TaskGate("similarity", ("none.tsv",))
    with pytest.raises(DataError, match="none.tsv"):
        measured(bundle, "onnxruntime-int8", dataclasses.replace(known, judged=Judged(1.0)), task)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("os.abort()", "the engine's process ended with SIGABRT, a crash of the engine"),
        ("os.kill(os.getpid(), 11)", "the engine's process ended with SIGSEGV, a crash of the engine"),
        ("os._exit(3)", "the engine's process ended with exit code 3: no message"),
        ("os._exit(0)", "the engine's process ended with exit code 0: no message"),
        ("1 / 0", "the engine's process ended with exit code 1: ZeroDivisionError: division by zero"),
    ],
)
def test_an_engine_that_brings_its_process_down_is_an_error_that_says_how(
    how: str, message: str, tiny_bundle: Path, known: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH.format(how=how), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineError) as raised:
        measured(Bundle.open(tiny_bundle), "onnxruntime-int8", known, None)
    assert str(raised.value) == message


def test_an_unknown_signal_is_told_by_its_number() -> None:
    assert worker._reason(-99, b"") == "exit code -99: no message"
    assert worker._reason(2, b"first\nlast\n") == "exit code 2: last"
