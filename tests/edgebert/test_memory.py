"""That a budget of memory holds in a process of its own, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgebert
from edgebert import memory, tokenizer
from edgebert.bundle import Bundle
from edgebert.errors import BudgetError, EngineError, RecipeError
from edgebert.memory import bytes_per_token, plan_within, resident_mb

MEASURED = pytest.mark.skipif(resident_mb() is None, reason="this system does not tell resident memory")
# Loads within a budget, encodes texts of every length in calls of every size, tells how far the peak rose.
_WORK = """
import json, sys
import onnxruntime, tokenizers, openvino
import edgebert
from edgebert.memory import resident_mb
model, engine, budget = sys.argv[1], sys.argv[2], float(sys.argv[3])
before = resident_mb()
try:
    encoder = edgebert.load(model, engine=engine, precision="fp32", threads=1, memory_mb=budget)
except edgebert.EdgeBertError as problem:
    sys.exit(str(problem))
texts = [" ".join(["dog"] * (1 + i % 60)) for i in range(150)] + ["cat " * 20_000] * 4
vectors = encoder.encode(texts)
for n in (1, 5, 17, 65):
    encoder.encode(texts[-n:])
    encoder.encode(texts[:n])
print(json.dumps([resident_mb("VmHWM") - before, encoder.plan.batch_tokens, float(abs(vectors).sum())]))
"""


@pytest.fixture(scope="module")
def wide_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a thick feed-forward layer's worth of activations in its fp32 file for ONNX Runtime."""
    import shutil

    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from edgebert.bundle import seal

    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("wide") / "bundle"))
    manifest = Bundle.open(folder).manifest
    path = folder / manifest.artifacts["onnxruntime-fp32"].files[0]
    model = onnx.load(path)
    graph = model.graph
    # mean of (mask x ones(1, 20,000)) is added with weight 0: 80 kB a token
    ones = numpy_helper.from_array(np.ones((1, 20_000), np.float32), "wide_ones")
    axis = numpy_helper.from_array(np.array([2], np.int64), "wide_axis")
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "wide_zero")
    graph.initializer.extend([ones, axis, zero])
    (output,) = [o for o in graph.output if o.name == "sentence_embedding"]
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == output.name:
                node.output[i] = "plain_embedding"
    graph.node.extend([
        helper.make_node("Cast", ["attention_mask"], ["wide_mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["wide_mask", "wide_axis"], ["wide_column"]),
        helper.make_node("Mul", ["wide_column", "wide_ones"], ["wide_all"]),
        helper.make_node("Sin", ["wide_all"], ["wide_sin"]),
        helper.make_node("ReduceMean", ["wide_sin"], ["wide_mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["wide_mean", "wide_one"], ["wide_mean_column"]),
        helper.make_node("Mul", ["wide_mean_column", "wide_zero"], ["wide_nothing"]),
        helper.make_node("Add", ["plain_embedding", "wide_nothing"], [output.name]),
    ])  # fmt: skip
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "wide_one"))
    onnx.save(model, path)
    seal(folder, manifest)
    return folder


def worked(model: Path, engine: str, budget: float) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", _WORK, str(model), engine, str(budget)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[float] = json.loads(done.stdout)
    return found


@MEASURED
def test_the_peak_stays_within_the_budget_and_a_smaller_one_shrinks_runs(wide_bundle: Path) -> None:
    grown: dict[int, list[float]] = {budget: worked(wide_bundle, "onnxruntime", budget) for budget in (60, 120, 600)}
    for budget, (peak, _, _) in grown.items():
        assert peak <= budget, grown
    assert grown[60][1] < grown[120][1] < grown[600][1] == 1024
    assert grown[60][2] == pytest.approx(grown[600][2], rel=1e-4)


@MEASURED
def test_openvino_stays_within_the_budget_too(tiny_bundle: Path) -> None:
    assert worked(tiny_bundle, "openvino", 150)[0] <= 150


@MEASURED
def test_too_little_is_refused_with_what_is_needed_and_that_is_enough(wide_bundle: Path) -> None:
    with pytest.raises(BudgetError, match=r"memory_mb is 1; .* in onnxruntime fp32 takes \d+ MB .*: allow") as caught:
        edgebert.load(wide_bundle, engine="onnxruntime", precision="fp32", threads=1, memory_mb=1)
    done = subprocess.run(
        [sys.executable, "-c", _WORK, str(wide_bundle), "onnxruntime", "1"], capture_output=True, text=True, check=False
    )
    assert (needed := re.search(r"allow (\d+) or more", done.stderr)) is not None
    assert worked(wide_bundle, "onnxruntime", int(needed[1]))[0] <= int(needed[1])
    assert "48 tokens" in str(caught.value)


@pytest.mark.parametrize("first", [True, False])
def test_the_tokenizer_is_in_memory_when_it_is_measured(
    first: bool, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    opened, planned = tokenizer.open_tokenizer, memory.plan_within
    if not first:
        edgebert.load(tiny_bundle, engine="openvino", threads=1).close()
    monkeypatch.setattr(tokenizer, "open_tokenizer", lambda *a, **k: (opened(*a, **k), done.append("tokenizer"))[0])
    monkeypatch.setattr(memory, "plan_within", lambda *a, **k: (done.append("plan"), planned(*a, **k))[1])
    # What an engine reads is not kept, so that it never says that the tokenizer may be read beside it.
    monkeypatch.setenv("EDGEBERT_COMPILED", "0")
    edgebert.load(tiny_bundle, engine="openvino", threads=1, memory_mb=2000).close()
    assert done == ["tokenizer", "plan"]


@pytest.mark.parametrize("value", [0, -1, "x", float("nan"), float("inf"), True, 0.5, [1]])
def test_what_is_no_budget_is_named(value: Any, tiny_bundle: Path) -> None:
    with pytest.raises(RecipeError, match=r"memory_mb is .*; it must be a number of MB from 1, or None"):
        edgebert.load(tiny_bundle, memory_mb=value)


class Engine:
    name, precision = "openvino", "int8"

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem, self.closed = problem, False
        self.shapes: list[tuple[int, ...]] = []

    def embed(self, input_ids: Any, attention_mask: Any) -> Any:
        self.shapes.append(input_ids.shape)
        if self.problem:
            raise self.problem
        return np.zeros((len(input_ids), 64), np.float32)

    def close(self) -> None:
        self.closed = True


def test_an_engine_that_does_not_fit_or_fails_is_closed(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    engine = Engine()
    with pytest.raises(BudgetError):
        plan_within(1, bundle, engine, 1, 0.0)
    assert engine.closed
    engine = Engine(EngineError("out of memory"))
    with pytest.raises(EngineError, match="out of memory"):
        plan_within(1000, bundle, engine, 1, resident_mb())
    assert engine.closed


def test_every_shape_that_a_plan_allows_was_run_before_it_was_promised(tiny_bundle: Path) -> None:
    engine = Engine()
    plan = plan_within(5000, Bundle.open(tiny_bundle), engine, 2, resident_mb())
    assert (plan.bounded, plan.batch_tokens, len(plan.layouts)) == (True, 1024, 1)
    expected = {(1 << n, width) for width in (16, 32, 48) for n in range(7) if n == 0 or width << n <= 1024}
    assert set(engine.shapes) == expected


def test_where_the_system_does_not_tell_it_is_reckoned(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgebert.memory.resident_mb", lambda key="VmRSS": None)
    bundle = Bundle.open(tiny_bundle)
    assert 4 * 12 * 64 < bytes_per_token(bundle) < 100_000
    wide, narrow = (plan_within(mb, bundle, Engine(), 1, None).batch_tokens for mb in (500, 6))
    assert narrow < wide == 1024
