"""Linear layers that learn in 4 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from conftest import Result
from helpers import assert_refused, least_cosine, sentences
from safetensors.torch import load_file

from edgebert.bundle import Bundle
from edgebert.distill.low_bits import BLOCK, four_bit_weight
from edgebert.quantize.recipe import RECIPES
from edgebert.quantize.stage import Options, quantize

Cli = Callable[..., Result]
QUICK = ("--batch-size", "16", "--epochs", "1", "--seed", "3", "--layers", "2")


def test_blocks_have_sixteen_steps_the_greatest_of_which_is_exact() -> None:
    weight = torch.randn(6, 3 * BLOCK, generator=torch.Generator().manual_seed(0))
    weight[2, :BLOCK] = 0
    rounded = four_bit_weight(weight)
    for row, wanted in zip(rounded.reshape(-1, BLOCK), weight.reshape(-1, BLOCK), strict=True):
        assert len(row.unique()) <= 16
        place = int(wanted.abs().argmax())
        assert torch.isclose(row[place], wanted[place], rtol=1e-3)  # scales are in float16
        assert (row - wanted).abs().max() <= wanted.abs().max() / 8 + 1e-6
    assert torch.equal(four_bit_weight(rounded), rounded)
    assert torch.equal(rounded[2, :BLOCK], torch.zeros(BLOCK))


def test_a_student_that_learns_in_4_bits_is_stored_in_them_without_loss(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    made = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, *QUICK, "--linear-bits", "4")
    assert made.code == 0, made.err
    weights = load_file(out / "model.safetensors")
    layers = {name: weight for name, weight in weights.items() if ".layer." in name and weight.ndim == 2}
    assert len(layers) == 2 * 6
    teacher = load_file(tiny_teacher / "model.safetensors")
    for name, weight in layers.items():
        assert torch.equal(four_bit_weight(weight), weight), name
    for name, weight in layers.items():
        first = teacher[name.replace("layer.1.", "layer.3.")]  # the first and the last of four
        assert not torch.equal(weight, four_bit_weight(first)), name  # it learnt
        assert (weight - first).norm() < 0.5 * first.norm(), name  # and is of that layer

    bundle, *_ = quantize(Bundle.open(out), sentences(40), tmp_path / "int4", Options(40, recipe=RECIPES["int4"]))
    graph = onnx.load(next((bundle.root / "onnx").glob("*int8.onnx"))).graph
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(products) == len(layers)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    found = [_unpacked(stored[node.input[1]], stored[casts[node.input[2]]]) for node in products]
    wanted = [weight.numpy() for weight in layers.values()]
    for one in found:
        assert any(one.shape == weight.shape and np.array_equal(one, weight) for weight in wanted)
    assert least_cosine(out, bundle.root) > 0.999


def _unpacked(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Shape: blocks (out, blocks, 16), two weights a byte; scales (out, blocks) -> (out, in)."""
    steps = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:2], BLOCK).astype(np.float32) - 8
    whole: np.ndarray = steps * scales.astype(np.float32).reshape(len(blocks), -1)[:, :, None]
    return whole.reshape(len(blocks), -1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--linear-bits", "4", "--projection", "rotate"), ("student.linear_bits is 4", 'projection "rotate"')),
        (("--linear-bits", "4", "--qat"), ("student.linear_bits is 4", "training.qat 0.25")),
        (
            ("--linear-bits", "4", "--start", "fresh", "--width", "48", "--heads", "3"),
            ("student.linear_bits is 4", "48 inputs of"),
        ),
    ],
)
def test_what_4_bits_cannot_do_is_refused(
    options: tuple[str, ...], words: tuple[str, ...], tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "out", *QUICK, *options)
    assert_refused(result, tmp_path / "out", *words)
