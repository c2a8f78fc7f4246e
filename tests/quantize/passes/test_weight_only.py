"""Weights in 8 and 4 bits: against numpy, the same in both engines, and really small on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from graphs import constant, graph_of, kinds, lookup_model, run, run_openvino, surroundings
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto

from edgebert.engines.base import feed
from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.passes.weight_only import WeightOnly, four_bit_codes
from edgebert.quantize.table_codes import table_codes

IDS = np.arange(80).reshape(2, 40)
RNG = np.random.default_rng(0)
TABLE, WEIGHT = RNG.normal(size=(80, 64)).astype(np.float32), RNG.normal(size=(64, 8)).astype(np.float32)


def eight_bits(value: np.ndarray, axis: int) -> np.ndarray:
    """`value` rounded to int8, one scale along `axis`."""
    scale = np.abs(value).max(axis=axis, keepdims=True) / 127
    return np.round(value / scale) * scale


def test_a_table_of_eight_bits_gives_rounded_rows(tmp_path: Path) -> None:
    model = lookup_model(TABLE, [np.eye(64)])
    graph = graph_of(model)
    WeightOnly()(graph, surroundings(model, IDS, tmp_path))
    graph.drop_unused()
    assert constant(graph.model, "table_int8").dtype == np.int8
    assert "table" not in graph.constants
    wanted = eight_bits(TABLE, 1)[IDS]
    for (found,) in (run(graph.model, {"input_ids": IDS}), run_openvino(graph.model, {"input_ids": IDS}, tmp_path)):
        assert np.abs(found - wanted).max() < 1e-4


def test_a_table_of_four_bits_gives_rounded_rows(tmp_path: Path) -> None:
    model = lookup_model(TABLE, [np.eye(64)])
    graph = graph_of(model)
    WeightOnly(tables=4)(graph, surroundings(model, IDS, tmp_path))
    graph.drop_unused()
    packed = constant(graph.model, "table_uint4")
    assert (packed.dtype, packed.shape) == (np.uint8, (80, 32))
    codes, scales = four_bit_codes(TABLE)
    wanted = (codes * scales)[IDS]
    for (found,) in (run(graph.model, {"input_ids": IDS}), run_openvino(graph.model, {"input_ids": IDS}, tmp_path)):
        assert np.abs(found - wanted).max() < 1e-4
    assert np.abs(wanted - TABLE[IDS]).max() < np.abs(TABLE).max() * 0.3


def coded_table(width: int, exact: bool = True) -> np.ndarray:
    """300 rows of 24 columns, each run of `width` columns one of 200 vectors. exact: in float16."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(24 // width, 200, width)).astype(np.float16 if exact else np.float32)
    return np.concatenate([one[rng.integers(0, 200, 300)] for one in values], axis=1).astype(np.float32)


@pytest.mark.parametrize("tables", [4, 8])
@pytest.mark.parametrize("exact", [True, False])
def test_a_table_of_codes_is_stored_as_they_are(tables: int, exact: bool, tmp_path: Path) -> None:
    table, ids = coded_table(3, exact), np.arange(300).reshape(5, 60)
    model = lookup_model(table, [np.eye(24)])
    graph = graph_of(model)
    WeightOnly(tables=tables)(graph, surroundings(model, ids, tmp_path))  # type: ignore[arg-type]
    graph.drop_unused()
    codes, vectors = constant(graph.model, "table_codes"), constant(graph.model, "table_vectors")
    assert (codes.dtype, codes.shape) == (np.uint8, (300, 8))
    assert (vectors.dtype, vectors.shape) == (np.float16 if exact else np.float32, (8 * 256, 3))
    assert "table" not in graph.constants
    for (found,) in (run(graph.model, {"input_ids": ids}), run_openvino(graph.model, {"input_ids": ids}, tmp_path)):
        assert np.abs(found - table[ids]).max() < 1e-6


@pytest.mark.parametrize("width", [2, 3, 4, 6, 8, 12])
def test_codes_are_found_again(width: int) -> None:
    table = coded_table(width)
    found = table_codes(table)
    assert found is not None
    codes, vectors = found
    assert codes.shape == (300, 24 // width)
    rows = vectors[np.arange(24 // width), codes].reshape(300, 24)
    assert np.array_equal(rows, table)


def test_other_tables_have_no_codes() -> None:
    assert table_codes(np.random.default_rng(0).normal(size=(300, 24)).astype(np.float32)) is None
    assert table_codes(coded_table(3)[:256]) is None  # of so few rows anything is made
    spoilt = np.concatenate([coded_table(3), np.random.default_rng(0).normal(size=(300, 3))], axis=1)
    assert table_codes(spoilt.astype(np.float32)) is None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    npst.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 24)),
                elements=st.floats(-100, 100, width=32))
)  # fmt: skip
def test_four_bit_codes_are_within_range_and_never_worse_than_plain_rounding(weight: np.ndarray) -> None:
    codes, scales = four_bit_codes(weight)
    assert codes.min() >= -8
    assert codes.max() <= 7
    plain = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-12) / 7
    error = ((codes * scales - weight) ** 2).sum(axis=1)
    wanted = ((np.round(weight / plain) * plain - weight) ** 2).sum(axis=1)
    assert (error <= wanted * 1.001 + 1e-6).all()


def test_small_tables_stay_and_only_the_largest_takes_four_bits(exported: Context) -> None:
    graph = graph_of(exported.original)
    tables = {table.weight: graph.value(table.weight).shape for table in graph.tables()}
    WeightOnly(tables=4)(graph, exported)
    graph.drop_unused()
    stored = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    words, positions, types = sorted(tables, key=lambda name: -tables[name][0])
    assert tables[types][0] == 2
    assert stored[f"{words}_uint4"] == TensorProto.UINT8
    assert stored[f"{positions}_int8"] == TensorProto.INT8
    assert stored[types] == TensorProto.FLOAT
    assert not {words, positions} & set(stored)


@pytest.mark.parametrize("linears", [8, 4])
def test_linear_layers_are_rounded_in_both_engines(linears: int, tmp_path: Path) -> None:
    model = lookup_model(TABLE, [WEIGHT])
    graph = graph_of(model)
    WeightOnly(tables=32, linears=linears)(graph, surroundings(model, IDS, tmp_path))  # type: ignore[arg-type]
    graph.drop_unused()
    assert kinds(graph.model) == (
        ["Gather", "DequantizeLinear", "MatMul"] if linears == 8 else ["Gather", "Cast", "MatMulNBits"]
    )
    if linears == 8:
        wanted = TABLE[IDS] @ eight_bits(WEIGHT, 0)
    else:
        blocks = WEIGHT.reshape(2, 32, 8)
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), 1)
        scale = (largest / -8).astype(np.float16).astype(np.float32)  # as they are stored
        wanted = TABLE[IDS] @ (np.clip(np.round(blocks / scale), -8, 7) * scale).reshape(64, 8)
    found = [optimised(graph.model, accuracy_level="1")]
    if linears == 8:
        found.append(run_openvino(graph.model, {"input_ids": IDS}, tmp_path, DYNAMIC_QUANTIZATION_GROUP_SIZE=0)[0])
    for one in found:
        assert np.abs(one - wanted).max() < 1e-4
    (exact,) = run(model, {"input_ids": IDS})
    assert 1e-3 < np.abs(found[0] - exact).max() < 5


def optimised(model: onnx.ModelProto, **settings: str) -> np.ndarray:
    """What ONNX Runtime answers with its optimisations on, as the runtime opens a file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    for name, value in settings.items():
        options.add_session_config_entry(f"session.qdq_matmulnbits_{name}", value)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input_ids": IDS})[0])


def test_by_default_onnx_runtime_rounds_activations_of_weight_only_layers_in_blocks(tmp_path: Path) -> None:
    model = lookup_model(TABLE, [WEIGHT])
    graph = graph_of(model)
    WeightOnly(tables=32, linears=8)(graph, surroundings(model, IDS, tmp_path))
    graph.drop_unused()
    rounded = eight_bits(TABLE.reshape(80, 2, 32), 2).reshape(80, 64)[IDS]
    found = optimised(graph.model)
    assert np.abs(found - rounded @ eight_bits(WEIGHT, 0)).max() < 1e-3
    assert np.abs(found - TABLE[IDS] @ eight_bits(WEIGHT, 0)).max() > 0.05


@pytest.mark.parametrize("options", [WeightOnly(), WeightOnly(tables=4), WeightOnly(linears=8)])
def test_both_engines_agree_on_a_whole_model(options: WeightOnly, exported: Context, tmp_path: Path) -> None:
    graph = graph_of(exported.original)
    options(graph, exported)
    graph.drop_unused()
    ids = np.random.default_rng(0).integers(5, 60, size=(3, 17))
    inputs = feed(exported.inputs, ids, np.ones_like(ids))
    one = run(graph.model, inputs)[1]
    other = run_openvino(graph.model, inputs, tmp_path, DYNAMIC_QUANTIZATION_GROUP_SIZE=0)[1]
    assert np.abs(one - other).max() < 1e-4
    assert (one * run(exported.original, inputs)[1]).sum(axis=1).min() > (0.8 if options.tables == 4 else 0.999)


def test_the_files_shrink_as_they_should(tmp_path: Path) -> None:
    table, size = RNG.normal(size=(4000, 64)).astype(np.float32), {}
    model = lookup_model(table, [WEIGHT])
    for bits in (32, 8, 4):
        graph = graph_of(model)
        WeightOnly(tables=bits)(graph, surroundings(model, IDS, tmp_path))  # type: ignore[arg-type]
        graph.drop_unused()
        path = tmp_path / f"{bits}.onnx"
        onnx.save(graph.model, path)
        ov.save_model(ov.convert_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
        size[bits] = path.stat().st_size, path.with_suffix(".bin").stat().st_size
    rows, scales, rest = 4000 * 64, 4000 * 4, 10_000
    for engine in (0, 1):
        assert 4 * rows < size[32][engine] < 4 * rows + rest
        assert rows + scales < size[8][engine] < rows + scales + rest
        assert rows / 2 + scales < size[4][engine] < rows / 2 + scales + rest


def test_a_table_of_zeros_gives_zeros(tmp_path: Path) -> None:
    for bits in (4, 8):
        model = lookup_model(np.zeros((80, 64)), [WEIGHT])
        graph = graph_of(model)
        WeightOnly(tables=bits, linears=8)(graph, surroundings(model, IDS, tmp_path))  # type: ignore[arg-type]
        (found,) = run(graph.model, {"input_ids": IDS})
        assert not found.any()


def test_four_bit_linear_layers_are_near_in_both_engines_and_nothing_is_logged(
    exported: Context, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = graph_of(exported.original)
    capfd.readouterr()
    WeightOnly(tables=32, linears=4)(graph, exported)
    assert capfd.readouterr() == ("", "")
    assert kinds(graph.model).count("MatMulNBits") == 4 * 6
    ids = np.random.default_rng(0).integers(5, 60, size=(3, 17))
    inputs = feed(exported.inputs, ids, np.ones_like(ids))
    one = run(graph.model, inputs)[1]
    other = run_openvino(graph.model, inputs, tmp_path, DYNAMIC_QUANTIZATION_GROUP_SIZE=0)[1]
    assert (one * other).sum(axis=1).min() > 0.999  # OpenVINO keeps the scales in half precision
    assert 0.8 < (one * run(exported.original, inputs)[1]).sum(axis=1).min() < 0.999


def test_nothing_left_to_round_is_refused(exported: Context) -> None:
    graph = graph_of(exported.original)
    WeightOnly(linears=8)(graph, exported)
    with pytest.raises(RecipeError, match="weight-only finds no linear layer in float: it must come before passes"):
        WeightOnly(linears=8)(graph, exported)
