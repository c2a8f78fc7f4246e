"""Which layers lose most: one with a made outlier comes first, and its name leads to its node in the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import sentences

from edgebert.bundle import Bundle
from edgebert.distill.encoder import encode_ids, load_encoder, load_tokenizer
from edgebert.quantize.calibration import Calibration, calibration
from edgebert.quantize.export import export_onnx
from edgebert.quantize.sensitivity import node_names, sensitivity


@pytest.fixture(scope="module")
def bundle(tiny_teacher: Path) -> Bundle:
    """The tiny teacher, opened."""
    return Bundle.from_pretrained(tiny_teacher)


@pytest.fixture(scope="module")
def rows(bundle: Bundle) -> Calibration:
    """Calibration on 40 sentences."""
    return calibration(sentences(40), load_tokenizer(bundle), max_length=48, samples=40)


@pytest.mark.parametrize("layer", [1, 3])
def test_a_layer_whose_input_has_an_outlier_is_ranked_first(layer: int, bundle: Bundle, rows: Calibration) -> None:
    encoder = load_encoder(bundle)
    before = encode_ids(encoder, rows.rows[:40], 0)
    attention = encoder.backbone.encoder.layer[layer].attention
    with torch.no_grad():  # one dimension of the values is a thousand times larger, and taken back behind
        attention.self.value.weight[7] *= 1000
        attention.self.value.bias[7] *= 1000
        attention.output.dense.weight[:, 7] /= 1000
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}
    after = encode_ids(encoder, rows.rows[:40], 0)
    assert np.abs(after - before).max() < 1e-4
    costs = sensitivity(encoder, rows, 0)
    ranked = [*costs]
    assert [*costs.values()] == sorted(costs.values(), reverse=True)
    assert costs[ranked[0]] > 2 * costs[ranked[1]] > 0
    assert ranked[0] == f"encoder.layer.{layer}.attention.output.dense"
    assert len(ranked) == len(set(ranked)) == 4 * 6
    # nothing of the rounding stays behind
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())
    assert np.array_equal(encode_ids(encoder, rows.rows[:40], 0), after)


def test_the_names_of_layers_lead_to_their_nodes(bundle: Bundle, tmp_path: Path) -> None:
    encoder = load_encoder(bundle)
    export_onnx(encoder, "bert", tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    ranked = [name for name, module in encoder.backbone.named_modules() if isinstance(module, torch.nn.Linear)]
    nodes = node_names(model, [*ranked, "encoder.layer.9.nothing"])
    assert len(nodes) == len(ranked)
    graph = {node.name: node for node in model.graph.node}
    assert all(graph[name].op_type == "MatMul" for name in nodes)
    for name, node in zip(ranked, nodes, strict=True):
        assert node == f"/encoder/backbone/{name.replace('.', '/')}/MatMul" or node.replace("/", ".").endswith(
            f"{name}.MatMul"
        )
