"""The plan: chosen by what is fast, kept, read with care, and nothing but where texts run."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgebert
from edgebert import tuning
from edgebert.bundle import Bundle
from edgebert.errors import EngineError
from edgebert.golden import read_golden
from edgebert.kept_plans import read_plan, write_plan
from edgebert.plan import BATCH_TOKENS, Layout, Plan, default_plan, one_layout
from edgebert.tuning import tuned

PLAN = Plan(Layout(1, 4), Layout(2, 2), short=16, batch_tokens=512)


class Clock:
    """Time that passes only in engines, so that what is measured is what was meant."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Paced:
    """Takes `lone(tokens)` seconds for one row and `batch(tokens)` for more."""

    name, precision = "openvino", "int8"

    def __init__(self, clock: Clock, lone: Any, batch: Any) -> None:
        self.clock, self.lone, self.batch, self.closed = clock, lone, batch, False

    def embed(self, input_ids: Any, attention_mask: Any) -> Any:
        assert (attention_mask == 1).all()
        rows, width = input_ids.shape
        self.clock.now += (self.lone if rows == 1 else self.batch)(rows * width)
        return np.zeros((rows, 4), np.float32)

    def close(self) -> None:
        self.closed = True


class Inline:
    """A thread that runs when it is started: with a `Clock` there is no time beside time."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def start(self) -> None:
        pass

    def join(self) -> None:
        pass


def chosen(monkeypatch: pytest.MonkeyPatch, bundle: Path, paces: dict[Layout, tuple[Any, Any]], threads: int) -> Plan:
    clock = Clock()
    monkeypatch.setattr(tuning.time, "perf_counter", clock.perf_counter)
    monkeypatch.setattr(tuning.threading, "Thread", Inline)
    opened: list[Paced] = []

    def open_paced(layout: Layout) -> Any:
        opened.append(Paced(clock, *paces[layout]))
        return opened[-1]

    first = Paced(clock, *paces[Layout(1, threads)])
    golden = read_golden(Bundle.open(bundle))
    plan = tuned(first, open_paced, Bundle.open(bundle), golden, threads)
    assert all(engine.closed for engine in opened)
    assert not first.closed
    return plan


def per_token(alone: float, many: float) -> tuple[Any, Any]:
    return (lambda n: alone * n), (lambda n: many * n)


def test_streams_that_are_clearly_faster_are_taken(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paces = {Layout(1, 4): per_token(1, 1), Layout(2, 2): per_token(2, 1.2), Layout(4, 1): per_token(4, 3.9)}
    plan = chosen(monkeypatch, tiny_bundle, paces, 4)
    assert (plan.lone, plan.batch, plan.short) == (Layout(1, 4), Layout(2, 2), 0)


def test_a_little_faster_is_no_reason_for_a_second_model(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paces = {Layout(1, 4): per_token(1, 1), Layout(2, 2): per_token(2, 1.9), Layout(4, 1): per_token(4, 3.8)}
    plan = chosen(monkeypatch, tiny_bundle, paces, 4)
    assert plan.layouts == (Layout(1, 4),)


def test_short_texts_go_where_they_are_faster(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = (lambda n: 40 + n), (lambda n: n)
    stream = (lambda n: 20 + 2 * n), (lambda n: n)  # faster alone below 20 tokens
    plan = chosen(monkeypatch, tiny_bundle, {Layout(1, 2): alone, Layout(2, 1): stream}, 2)
    assert (plan.batch, plan.short) == (Layout(2, 1), 8)


@pytest.mark.parametrize("best", [512, 1024, 2048])
def test_the_best_number_of_tokens_is_taken(best: int, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = (lambda n: n), (lambda n: n * (1 if n == best else 1.3))
    plan = chosen(monkeypatch, tiny_bundle, {Layout(1, 2): pace, Layout(2, 1): per_token(9, 9)}, 2)
    assert plan.batch_tokens == best


def test_an_engine_that_fails_in_a_stream_fails_the_tuning(tiny_bundle: Path) -> None:
    class Failing(Paced):
        def embed(self, input_ids: Any, attention_mask: Any) -> Any:
            raise EngineError("out of memory")

    bundle, clock = Bundle.open(tiny_bundle), Clock()
    with pytest.raises(EngineError, match="out of memory"):
        tuned(
            Paced(clock, *per_token(0, 0)), lambda layout: Failing(clock, *per_token(0, 0)), bundle,
            read_golden(bundle), 2,
        )  # fmt: skip


def test_a_load_whose_tuning_fails_runs_in_one_layout(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> Plan:
        raise EngineError("out of memory")

    monkeypatch.setattr(tuning, "tuned", failing)
    with edgebert.load(tiny_bundle, threads=2) as encoder:
        assert encoder.plan == one_layout(2)
        assert encoder.encode("dog").shape == (64,)
    assert "it is not tuned, all runs in one layout: out of memory" in caplog.text
    assert read_plan(Bundle.open(tiny_bundle), "openvino-int8", "f32", 2) is None


def test_a_plan_is_kept_for_its_artifact_hint_and_threads(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    write_plan(bundle, "openvino-int8", "f32", 4, PLAN)
    assert read_plan(bundle, "openvino-int8", "f32", 4) == PLAN
    for artifact, hint, threads in (
        ("openvino-fp32", "f32", 4),
        ("openvino-int8", "bf16", 4),
        ("openvino-int8", "f32", 2),
    ):
        assert read_plan(bundle, artifact, hint, threads) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "\x00", '{"lone": 1}',
        *(json.dumps({"lone": lone, "batch": batch, **more}) for lone, batch, more in (
            ({"streams": 1, "threads": 4}, {"streams": 0, "threads": 2}, {}),
            ({"streams": 1, "threads": 4}, {"streams": 2, "threads": -2}, {}),
            ({"streams": 1, "threads": 4}, {"streams": 400, "threads": 400}, {}),
            ({"streams": 2, "threads": 2}, {"streams": 2, "threads": 2}, {}),
            ({"streams": 1, "threads": 4}, {"streams": 2, "threads": 2}, {"batch_tokens": 0}),
            ({"streams": 1, "threads": 4}, {"streams": 2, "threads": 2}, {"batch_tokens": 10**9}),
            ({"streams": 1, "threads": 4}, {"streams": 2, "threads": 2}, {"short": -1}),
            ({"streams": 1, "threads": 4}, {"streams": 2, "threads": 2}, {"bounded": True}),
            ({"streams": 1, "threads": 4}, {"streams": 2, "threads": 2}, {"more": 1}),
            ({"streams": 1.5, "threads": 4}, {"streams": 2, "threads": 2}, {}),
        )),
    ],
)  # fmt: skip
def test_a_kept_plan_that_is_no_plan_is_not_followed(text: str, tiny_bundle: Path, own_cache: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    write_plan(bundle, "openvino-int8", "f32", 4, PLAN)
    (kept,) = (own_cache / "plans").iterdir()
    kept.write_text(text)
    assert read_plan(bundle, "openvino-int8", "f32", 4) is None
    kept.write_bytes(b"\xff\xfe")
    assert read_plan(bundle, "openvino-int8", "f32", 4) is None


@given(st.integers(1, 64))
def test_the_plans_that_are_not_measured_can_be_run(threads: int) -> None:
    for plan in (default_plan(threads), one_layout(threads)):
        assert plan.fits(threads)
        assert plan.lone == Layout(1, threads)
        assert plan.batch_tokens == BATCH_TOKENS


def test_a_load_measures_once_and_changes_no_vector(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    genuine = tuning.tuned

    def counted(*arguments: Any) -> Plan:
        calls.append(1)
        return genuine(*arguments)

    monkeypatch.setattr(tuning, "tuned", counted)
    texts = [f"the dog sees {'a bird and ' * (i % 9)}" for i in range(80)]
    loaded: dict[str, tuple[Any, str]] = {}
    for name in ("measured", "kept", "usual"):
        start = time.monotonic()
        with edgebert.load(tiny_bundle, threads=2, tune=name != "usual") as encoder:
            assert time.monotonic() - start < 30
            loaded[name] = (encoder.encode(texts), encoder.runs)
            if name == "usual":
                assert encoder.plan == default_plan(2)
    assert calls == [1]
    assert {runs for _, runs in loaded.values()} == {"openvino int8"}
    assert all(np.abs(vectors - loaded["usual"][0]).max() < 1e-3 for vectors, _ in loaded.values())


@pytest.mark.parametrize("value", ["0", "off", "False", "no"])
def test_tuning_can_be_switched_off(value: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBERT_TUNE", value)
    monkeypatch.setattr(tuning, "tuned", lambda *_: pytest.fail("it was tuned"))
    with edgebert.load(tiny_bundle, threads=2) as encoder:
        assert encoder.plan == default_plan(2)


def test_one_thread_needs_no_tuning(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "tuned", lambda *_: pytest.fail("it was tuned"))
    with edgebert.load(tiny_bundle, threads=1) as encoder:
        assert encoder.plan.layouts == (Layout(1, 1),)


def test_files_that_change_under_a_loaded_model_are_not_opened_as_its_second_layout(copied_bundle: Path) -> None:
    with edgebert.load(copied_bundle, threads=4, tune=False) as encoder:
        assert len(encoder.plan.layouts) == 2
        (copied_bundle / "tokenizer.json").touch()
        assert encoder.encode("dog").shape == (64,)
        with pytest.raises(EngineError, match="was changed or removed while it was in use: load it again"):
            encoder.encode(["dog"] * 100)


def test_files_that_no_engine_reads_may_change_before_the_second_layout(copied_bundle: Path) -> None:
    with edgebert.load(copied_bundle, threads=4, tune=False) as encoder:
        (copied_bundle / "README.md").touch()
        (copied_bundle / "onnx" / "model_qint8.onnx").unlink()
        assert encoder.runs == "openvino int8"
        assert encoder.encode(["dog"] * 100).shape == (100, 64)


def test_what_is_opened_at_once_needs_no_file_any_more(copied_bundle: Path) -> None:
    with edgebert.load(copied_bundle, threads=4, tune=False) as encoder:
        encoder.open_all()
        shutil.rmtree(copied_bundle)
        assert encoder.encode(["dog"] * 100).shape == (100, 64)
    with pytest.raises(EngineError, match="is closed: load the model again"):
        encoder.open_all()
