"""Tiny models are fastest on one thread, and least in each other's way; the tiny teacher's graph, exported once."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import one_thread, sentences

from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_encoder, load_tokenizer
from edgebert.quantize.calibration import calibration
from edgebert.quantize.context import Context
from edgebert.quantize.export import export_onnx

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def exported(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The tiny teacher in fp32 with calibration on 20 sentences; passes work on copies of `original`."""
    folder = tmp_path_factory.mktemp("exported")
    bundle = Bundle.from_pretrained(tiny_teacher)
    artifact = export_onnx(load_encoder(bundle), "bert", folder / "onnx" / "model.onnx")
    rows = calibration(sentences(30), load_tokenizer(bundle), max_length=48, samples=20)
    return Context(folder / "onnx" / "model.onnx", rows.rows, artifact.inputs, 0, folder)
