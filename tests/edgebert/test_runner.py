"""Who tokenizes and runs what when, and that every vector lands in its place or nowhere."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_doubles import WIDE, Sums, numbers, runner
from helpers import sentences
from hypothesis import given, settings
from hypothesis import strategies as st

import edgebert
from edgebert.batching import GRID, ladder, token_batches, widths
from edgebert.errors import EngineError
from edgebert.memory import resident_mb
from edgebert.plan import Layout, Plan, one_layout
from edgebert.progress import Progress
from edgebert.runner import Runner

LENGTHS = st.lists(st.integers(1, 300), max_size=120)


def run(made: Runner, texts: list[str], most_rows: int | None = None) -> Any:
    out = np.full((len(texts), WIDE), -1, np.float32)
    made.run(texts, out, most_rows, Progress())
    return out


def mixed(count: int, seed: int = 0, most: int = 200) -> list[str]:
    """Texts of 1 to `most` tokens."""
    rng = random.Random(seed)
    return ["x" * rng.randint(1, most) for _ in range(count)]


@pytest.fixture
def workers() -> Any:
    """Tells the workers that were started since the test began."""
    before = set(threading.enumerate())
    return lambda: {t for t in set(threading.enumerate()) - before if t.name.startswith("edgebert")}


@given(LENGTHS, st.integers(1, 2048), st.integers(3, 300), st.none() | st.integers(1, 40), st.booleans())
def test_token_batches_hold_every_row_once_within_their_budget(
    lengths: list[int], tokens: int, max_length: int, most_rows: int | None, coarse: bool
) -> None:
    lengths = [min(n, max_length) for n in lengths]
    batches = list(token_batches(lengths, tokens=tokens, max_length=max_length, most_rows=most_rows, coarse=coarse))
    assert sorted(row for rows, _ in batches for row in rows.tolist()) == list(range(len(lengths)))
    known = widths(max_length, coarse=coarse)
    for rows, width in batches:
        assert len(rows) & (len(rows) - 1) == 0
        assert len(rows) == 1 or len(rows) * width <= tokens
        assert most_rows is None or len(rows) <= most_rows
        assert width in known
        assert width == ladder(max(lengths[row] for row in rows), max_length, rows=len(rows), coarse=coarse)
        assert coarse or len(rows) == 1 or len(rows) * width % GRID == 0 or width == max_length


@given(st.integers(3, 600))
def test_coarse_widths_are_a_few_of_the_fine_ones(max_length: int) -> None:
    assert set(widths(max_length, coarse=True)) <= set(widths(max_length))
    assert len(widths(max_length, coarse=True)) <= 7


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 300), max_size=300), st.integers(64, 2048), st.integers(1, 4),
    st.none() | st.integers(1, 9), st.booleans(),
)  # fmt: skip
def test_every_vector_lands_in_its_place(
    lengths: list[int], tokens: int, streams: int, most_rows: int | None, bounded: bool
) -> None:
    plan = Plan(Layout(1, 4), Layout(streams, 1), batch_tokens=tokens, bounded=bounded)
    made = runner(Sums(), plan)
    out = run(made, ["x" * n for n in lengths], most_rows)
    made.close()
    assert out[:, 1].tolist() == lengths
    assert out[:, 0].tolist() == [n * (n + 1) / 2 for n in lengths]
    assert made.tokens.real == sum(lengths)


def test_the_padding_is_counted_and_small() -> None:
    texts = mixed(1000, most=128)
    made = runner(Sums())
    run(made, texts)
    made.close()
    assert made.tokens.real == sum(map(len, texts))
    assert 1 <= made.tokens.padded / made.tokens.real < 1.05


def test_no_thread_is_started_for_one_text_or_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made_pools: list[int] = []

    class Spied(ThreadPoolExecutor):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made_pools.append(1)
            super().__init__(*arguments, **options)

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor", Spied)
    engine = Sums()
    made = runner(engine)
    before = set(threading.enumerate())
    run(made, ["x" * 7])
    run(made, ["x" * n for n in (7, 8, 7, 8)])
    run(made, [])
    assert engine.threads == {threading.get_ident()}
    assert not set(threading.enumerate()) - before
    assert made_pools == []
    run(made, mixed(100))
    assert made_pools == [1]
    assert len(set(threading.enumerate()) - before) == 3
    made.close()


def test_within_a_budget_there_are_no_workers_and_one_call_at_a_time(workers: Any) -> None:
    engine = Sums(delay=0.0005)
    made = runner(engine, one_layout(4).at_most(256))
    with ThreadPoolExecutor(6) as pool:
        for out in pool.map(lambda i: run(made, mixed(1 + 12 * i, i)), range(6)):
            assert (out[:, 1] > 0).all()
    assert engine.most == 1
    assert not workers()
    assert {width for _, width in engine.shapes} <= set(widths(500, coarse=True))


def test_tokenization_overlaps_inference_and_runs_keep_to_the_streams() -> None:
    engine = Sums(delay=0.002)
    overlapped: list[bool] = []

    def tokenize(texts: Any) -> list[list[int]]:
        time.sleep(0.001)
        overlapped.append(engine.running > 0)
        return numbers(texts)

    made = runner(engine, tokenize=tokenize)
    run(made, mixed(400))
    made.close()
    assert sum(overlapped) >= len(overlapped) // 3
    assert engine.most == 2


def test_many_callers_share_the_streams() -> None:
    engine = Sums(delay=0.001)
    made = runner(engine)
    asked = [mixed(70, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for texts, out in zip(asked, pool.map(lambda texts: run(made, texts), asked), strict=True):
            assert out[:, 1].tolist() == [len(text) for text in texts]
    assert engine.most <= 2
    made.close()


@pytest.mark.parametrize("where", ["tokenizer", "engine"])
def test_the_first_error_ends_the_rest_and_nothing_is_written_afterwards(where: str) -> None:
    engine = Sums(delay=0.002, failing=lambda shape: where == "engine" and shape[1] > 190)
    calls = 0

    def tokenize(texts: Any) -> list[list[int]]:
        nonlocal calls
        calls += 1
        if where == "tokenizer" and calls == 3:
            raise ValueError("no tokens")
        return numbers(texts)

    made = runner(engine, tokenize=tokenize)
    texts, out = mixed(2000), np.full((2000, WIDE), -1, np.float32)
    with pytest.raises(ValueError, match="no "):
        made.run(texts, out, None, Progress())
    kept, runs = out.copy(), len(engine.shapes)
    time.sleep(0.05)
    assert (out == kept).all()
    assert (len(engine.shapes), engine.running) == (runs, 0)
    assert (out[:, 1] == -1).sum() > 1000, "the rest was run all the same"
    engine.failing = lambda shape: False
    calls = 10
    assert (run(made, texts)[:, 1] > 0).all()
    made.close()


def test_an_interrupt_ends_the_workers_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Sums(delay=0.01)
    made = runner(engine)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(made, mixed(5000))
    assert time.monotonic() - start < 2
    assert engine.running == 0
    made.close()


def test_closing_while_it_runs_ends_the_call_with_an_engine_error(workers: Any) -> None:
    engine = Sums(delay=0.005)
    made = runner(engine)
    threading.Timer(0.05, made.close).start()
    with pytest.raises(EngineError, match="the model is closed"):
        run(made, mixed(5000))
    with pytest.raises(EngineError, match="the model is closed"):
        run(made, mixed(100))
    assert engine.closed
    deadline = time.monotonic() + 5
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not workers()


def test_a_layout_is_compiled_once_however_many_ask() -> None:
    opened: list[Layout] = []

    def reopen(layout: Layout) -> Sums:
        time.sleep(0.02)
        opened.append(layout)
        return Sums()

    made = runner(Sums(), reopen=reopen)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: run(made, mixed(100, i)), range(6)))
    assert opened == [Layout(2, 2)]
    made.close()


def test_a_short_text_alone_runs_in_a_stream_of_the_batches() -> None:
    lone, batch = Sums(), Sums()
    made = runner(lone, Plan(Layout(1, 4), Layout(2, 2), short=16), reopen=lambda layout: batch)
    run(made, ["x" * 16])
    run(made, ["x" * 17])
    assert (batch.shapes, lone.shapes) == ([(1, 16)], [(1, 18)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_workers_of_its_own(recwarn: pytest.WarningsRecorder) -> None:
    made = runner(Sums())
    run(made, mixed(200))
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        made.forget_threads()  # as the encoder has it done
        os._exit(0 if (run(made, mixed(200))[:, 1] > 0).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    made.close()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-6), ("int8", 1e-3)])
def test_a_vector_does_not_depend_on_its_mates(engine: str, precision: str, near: float, tiny_bundle: Path) -> None:
    texts = ["", *sentences(30, seed=3, longest=40), *sentences(60, seed=4, shortest=1, longest=6), "dog " * 60]
    with edgebert.load(tiny_bundle, engine=engine, precision=precision, threads=2, tune=False) as encoder:
        alone = np.stack([encoder.encode(text) for text in texts])
        for seed, count in enumerate((2, 9, 64, 65, len(texts))):
            chosen = random.Random(seed).sample(range(len(texts)), count)
            for batch_size in (None, 3, np.int64(8)):
                found = encoder.encode([texts[i] for i in chosen], batch_size=batch_size)  # type: ignore[arg-type]
                assert np.abs(found - alone[chosen]).max() <= near


@pytest.fixture
def warm(tiny_bundle: Path) -> Iterator[Any]:
    with edgebert.load(tiny_bundle, engine="onnxruntime", precision="int8", threads=1) as encoder:
        encoder.warm_up(16)
        yield encoder


@pytest.mark.skipif(resident_mb() is None, reason="this system does not tell resident memory")
def test_memory_is_stable_over_two_thousand_requests(warm: Any) -> None:
    rng = random.Random(0)
    texts = sentences(200, seed=9, shortest=1, longest=40)

    def requests(count: int) -> None:
        for _ in range(count):
            warm.encode(rng.sample(texts, rng.choice((1, 1, 1, 2, 5, 16, 70))))

    requests(500)
    before = resident_mb()
    requests(2000)
    after = resident_mb()
    assert before is not None and after is not None
    assert after - before < 8


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_a_wrong_number_to_warm_up_for_is_named(value: object, encoder: Any) -> None:
    with pytest.raises(edgebert.errors.RecipeError, match=f"texts_at_once is {value!r}; it must be 1 or more"):
        encoder.warm_up(value)


def test_warm_up_meets_every_shape_that_comes_later() -> None:
    engine = Sums()
    made = runner(engine, max_length=40)
    for width in widths(40):
        made.warm_up(width, 8)
    met = set(engine.shapes)
    for n in range(1, 41):
        run(made, ["x" * n])
        run(made, ["x" * n] * 7)
    assert set(engine.shapes) == met
    made.close()
