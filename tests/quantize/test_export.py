"""The fp32 graphs of every architecture, against torch at every length and in several batch sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import openvino as ov
import pytest
import torch
from architectures import ARCHITECTURES, make_architecture, make_headed

from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_encoder
from edgebert.engines.base import feed
from edgebert.quantize.export import OUTPUTS, export_onnx, export_openvino, graph_inputs


def batches(*, sizes: tuple[int, ...], pad: int) -> list[tuple[Any, Any]]:
    """Ids and masks of every length from 2 to 48 in those batch sizes; later rows are shorter."""
    rng = np.random.default_rng(0)
    made = []
    for length in range(2, 49):
        for size in sizes or (1 + length % 5,):
            ids = rng.integers(5, 120, size=(size, length))
            mask = np.ones_like(ids)
            for row in range(1, size):
                mask[row, max(2, length - 3 * row) :] = 0
            ids[mask == 0] = pad
            made.append((ids, mask))
    return made


def compare(encoder: Any, run: Any, cases: list[tuple[Any, Any]]) -> float:
    """The largest difference to torch of both outputs; of hidden states where there is a token."""
    worst = 0.0
    for ids, mask in cases:
        with torch.inference_mode():
            wanted = encoder(torch.from_numpy(ids), torch.from_numpy(mask))
        hidden, vector = run(ids, mask)
        assert hidden.shape == wanted.last_hidden_state.shape
        assert vector.shape == wanted.sentence_embedding.shape
        worst = max(worst, float(np.abs(vector - wanted.sentence_embedding.numpy()).max()))
        difference = np.abs(hidden - wanted.last_hidden_state.numpy()) * mask[..., None]
        worst = max(worst, float(difference.max()))
    return worst


def assert_near(bundle: Bundle, folder: Path) -> None:
    """Both engines give torch's vectors and states to 1e-5."""
    architecture, pad = bundle.manifest.architecture, bundle.manifest.pad_token_id
    encoder = load_encoder(bundle)
    path = folder / "onnx" / "model.onnx"
    artifact = export_onnx(encoder, architecture, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert artifact.inputs == graph_inputs(architecture) == tuple(i.name for i in session.get_inputs())
    assert artifact.files == ("onnx/model.onnx",)
    assert [o.name for o in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"] == list(OUTPUTS)
    assert all(i.type == "tensor(int64)" for i in session.get_inputs())

    def by_onnxruntime(ids: Any, mask: Any) -> Any:
        return session.run(list(OUTPUTS), feed(artifact.inputs, ids, mask))

    assert compare(encoder, by_onnxruntime, batches(sizes=(1, 2, 3, 4, 5), pad=pad)) < 1e-5
    described = export_openvino(path, folder / "openvino" / "openvino_model.xml", "fp32", artifact.inputs)
    assert described.files == ("openvino/openvino_model.xml", "openvino/openvino_model.bin")
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = ov.Core().compile_model(folder / described.files[0], "CPU", hints)
    assert {name for output in model.outputs for name in output.names} >= set(OUTPUTS)

    def by_openvino(ids: Any, mask: Any) -> Any:
        found = model(feed(artifact.inputs, ids, mask))
        return [found[name] for name in OUTPUTS]

    assert compare(encoder, by_openvino, batches(sizes=(), pad=pad)) < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gives_torchs_vectors_at_every_length(architecture: str, tmp_path: Path) -> None:
    assert_near(Bundle.from_pretrained(make_architecture(tmp_path / "model", architecture, layers=2)), tmp_path)


@pytest.mark.parametrize(
    ("pooling", "dense"),
    [(("cls",), None), (("max",), None), (("mean_sqrt_len_tokens",), None), (("weightedmean",), None),
     (("lasttoken",), None), (("max", "mean"), 20)],
)  # fmt: skip
def test_every_pooling_mode_gives_torchs_vectors_at_every_length(
    pooling: tuple[str, ...], dense: int | None, tmp_path: Path
) -> None:
    bundle = Bundle.from_pretrained(make_headed(tmp_path / "model", pooling=pooling, dense=dense))
    assert bundle.manifest.pooling == pooling
    assert_near(bundle, tmp_path)
