"""`aencode`: off the event loop, cancelled without harm, ended by close."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import sentences

import edgebert
from edgebert.embedder import Embedder
from edgebert.errors import DataError, EngineError, RecipeError

TEXTS = sentences(12, seed=6)


@pytest.fixture
def own(tiny_bundle: Path) -> Iterator[Embedder]:
    """An encoder of the test's own, which it may close."""
    with edgebert.load(tiny_bundle, engine="onnxruntime", precision="fp32", threads=1) as encoder:
        yield encoder


class Held:
    """Holds an encoder's engine: its calls wait until `go` is set. `calls` counts those that began."""

    def __init__(self, encoder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.begun, self.calls = threading.Event(), threading.Event(), 0
        engine: Any = encoder.opened
        embed = engine.embed

        def held(*inputs: Any) -> Any:
            self.calls += 1
            self.begun.set()
            assert self.go.wait(30)
            return embed(*inputs)

        monkeypatch.setattr(engine, "embed", held)


def own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("edgebert-aencode")]


def wait_for_no_threads() -> None:
    deadline = time.monotonic() + 20
    while own_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert own_threads() == []


def test_it_gives_what_encode_gives_with_every_option(own: Embedder) -> None:
    wanted = own.encode(TEXTS, truncate_dim=16, batch_size=5, prompt="the ")
    found = asyncio.run(own.aencode(TEXTS, truncate_dim=16, batch_size=5, prompt="the "))
    assert np.allclose(found, wanted, atol=1e-6)
    assert asyncio.run(own.aencode("one text")).shape == (64,)


def test_errors_come_through(own: Embedder) -> None:
    with pytest.raises(RecipeError, match="batch_size is 0; it must be 1 or more"):
        asyncio.run(own.aencode("x", batch_size=0))
    with pytest.raises(DataError, match=r"sentences\[0\] is 3 \(int\)"):
        asyncio.run(own.aencode([3]))  # type: ignore[list-item]


def test_the_event_loop_goes_on_while_it_computes(own: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(own, monkeypatch)

    async def main() -> int:
        task = asyncio.create_task(own.aencode(TEXTS))
        ticks = 0
        while not held.begun.is_set() or ticks < 50:
            await asyncio.sleep(0)
            ticks += 1
        assert not task.done()
        held.go.set()
        assert (await task).shape == (12, 64)
        return ticks

    assert asyncio.run(main()) >= 50


def test_it_runs_in_few_named_threads_that_close_ends(own: Embedder) -> None:
    async def main() -> None:
        await asyncio.gather(*(own.aencode(text) for text in TEXTS * 3))

    asyncio.run(main())
    assert 1 <= len(own_threads()) <= 2
    assert all(name.startswith("edgebert-aencode") for name in own_threads())
    own.close()
    wait_for_no_threads()


def test_a_cancelled_call_in_the_queue_is_never_computed(own: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(own, monkeypatch)

    async def main() -> None:
        tasks = [asyncio.create_task(own.aencode(text)) for text in TEXTS]
        while held.calls < 2:
            await asyncio.sleep(0.001)
        for task in tasks[1:]:  # the second computes already
            task.cancel()
        ended = await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        held.go.set()
        assert (await tasks[0]).shape == (64,)
        assert held.calls == 2  # those that had begun
        assert (await own.aencode(TEXTS)).shape == (12, 64)

    asyncio.run(main())


def test_a_timeout_leaves_the_encoder_whole(own: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = own.encode(TEXTS)
    held = Held(own, monkeypatch)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(own.aencode(TEXTS), 0.05)
        held.go.set()
        assert np.allclose(await own.aencode(TEXTS), wanted, atol=1e-6)

    asyncio.run(main())


def test_context_variables_come_along(own: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen: list[str] = []
    rows = own._rows

    def watched(texts: Any) -> Any:
        seen.append(request.get())
        return rows(texts)

    monkeypatch.setattr(own._runner, "_tokenize", watched)

    async def one(name: str) -> None:
        request.set(name)
        await own.aencode("x")

    async def main() -> None:
        await asyncio.gather(one("a"), one("b"))

    asyncio.run(main())
    assert sorted(seen) == ["a", "b"]


def test_async_with_closes_and_later_calls_say_so(own: Embedder, tiny_bundle: Path) -> None:
    async def main() -> None:
        async with own as encoder:
            assert (await encoder.aencode("x")).shape == (64,)
        with pytest.raises(EngineError, match="this encoder is closed: load the model again"):
            await own.aencode("x")

    asyncio.run(main())


def test_close_ends_what_waits_with_the_clear_error(own: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(own, monkeypatch)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(own.aencode(text)) for text in TEXTS]
        while held.calls < 2:
            await asyncio.sleep(0.001)
        own.close()
        held.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ended = asyncio.run(main())
    assert all(isinstance(end, EngineError) and "closed" in str(end) for end in ended[2:])
    for end in ended[:2]:  # these had begun
        assert isinstance(end, np.ndarray) or (isinstance(end, EngineError) and "closed" in str(end))
    wait_for_no_threads()


def test_two_event_loops_may_share_an_encoder(own: Embedder) -> None:
    wanted = own.encode(TEXTS)
    assert np.allclose(asyncio.run(own.aencode(TEXTS)), wanted, atol=1e-6)
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(asyncio.run(own.aencode(TEXTS))))
    other.start()
    other.join(30)
    assert np.allclose(found[0], wanted, atol=1e-6)
