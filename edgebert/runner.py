"""Texts to vectors at full speed: who tokenizes what when, in which layout it runs, and where each vector goes.

    one text      tokenized and run by the caller itself: no thread is started or woken
    a handful     the same, when all fits into one run
    many          blocks of texts of like length, taken by one worker more than the plan has streams; a worker tokenizes
                  its block and runs it, so that one tokenizes while the others compute

A layout is compiled when it is first needed and shared by all callers; what runs at once is bounded by the streams.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebert.batching import ladder, pad, token_batches
from edgebert.engines.base import Engine, Ids, Vectors
from edgebert.errors import EngineError
from edgebert.plan import Layout, Plan
from edgebert.progress import Progress

_BLOCK = 256  # texts that a worker tokenizes and sorts at a time
_LEAST_BLOCK = 8
_HANDFUL = 64  # texts that are tokenized first to see whether they fit into one run


class TokenCount(NamedTuple):
    """Tokens that were run so far: of texts, and with the padding."""

    real: int
    padded: int


Tokenize = Callable[[Sequence[str]], list[list[int]]]
Reopen = Callable[[Layout], Engine]


@dataclass
class Engines:
    """The layouts of one variant that are open, each opened once. Calls may come from several threads.

    reopen: makes the engine of a layout; None where there is one engine for all, which takes a call at a time.
    """

    first: Engine
    layout: Layout
    reopen: Reopen | None = None
    _open: dict[Layout, Engine] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def at(self, layout: Layout) -> Engine:
        """The engine of that layout.

        Raises: EngineError when they are closed.
        """
        if layout == self.layout or self.reopen is None:
            return self.first
        if (engine := self._open.get(layout)) is not None:
            return engine
        with self._lock:
            if self._closed:
                raise EngineError("the model is closed: load it again")
            if layout not in self._open:
                self._open[layout] = self.reopen(layout)
            return self._open[layout]

    def close(self) -> None:
        """Frees all of them."""
        with self._lock:
            self._closed = True
            opened = [self.first, *self._open.values()]
            self._open = {}
        for engine in opened:
            engine.close()


class Runner:
    """Runs texts by `plan`. tokenize: texts to token ids, from several threads at once."""

    def __init__(self, engines: Engines, plan: Plan, tokenize: Tokenize, *, max_length: int, pad_token_id: int) -> None:
        self.engines, self.plan, self._tokenize = engines, plan, tokenize
        self.max_length, self.pad_token_id = max_length, pad_token_id
        self.tokens = TokenCount(0, 0)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(plan.batch.streams)
        self._masks: dict[tuple[int, int], Ids] = {}

    def run(self, texts: Sequence[str], out: Vectors, most_rows: int | None, progress: Progress) -> None:
        """Fills `out`. most_rows: of one run. Shape: out (len(texts), at most the dimension)."""
        if len(texts) == 1:
            out[0] = self._lone(self._tokenize(texts)[0])[0, : out.shape[1]]
            progress.advance()
        elif len(texts) <= _HANDFUL:
            self._handful(texts, out, most_rows, progress)
        else:
            self._many(texts, out, most_rows, progress)

    def warm_up(self, width: int, rows: int) -> None:
        """Runs 1, 2, 4 and so on up to `rows` texts of `width` tokens where such runs come to pass."""
        ids = [self.pad_token_id] * width
        self._lone(ids)
        size = 2
        while size <= rows and size * width <= self.plan.batch_tokens:
            batch = pad([ids] * size, self.pad_token_id, to=width)
            for layout in self.plan.layouts:
                self.engines.at(layout).embed(*batch)
            size *= 2

    def close(self) -> None:
        """Ends the workers, after what they run now, and frees the model."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        self.engines.close()

    def forget_threads(self) -> None:
        """After a fork: the workers did not come along into this process."""
        self._pool, self._lock = None, threading.Lock()
        self._turns = threading.Semaphore(self.plan.batch.streams)
        self.engines._lock = threading.Lock()

    def _lone(self, ids: list[int]) -> Vectors:
        """One text's vector. Shape: (1, dimension)."""
        length = len(ids)
        width = ladder(length, self.max_length)
        row = np.full((1, width), self.pad_token_id, np.int64)
        row[0, :length] = ids
        mask = self._masks.get((length, width))
        if mask is None:
            mask = self._masks[length, width] = (np.arange(width) < length).astype(np.int64)[None]
        self._count(length, width)
        layout = self.plan.batch if width <= self.plan.short else self.plan.lone
        return self.engines.at(layout).embed(row, mask)

    def _handful(self, texts: Sequence[str], out: Vectors, most_rows: int | None, progress: Progress) -> None:
        """In the caller's thread when it is one run, else by the workers."""
        ids = self._tokenize(texts)
        batches = self._batches(ids, most_rows)
        if len(batches) == 1:
            self._run(self.engines.at(self.plan.lone), ids, *batches[0], out)
            progress.advance(len(texts))
            return
        engine = self.engines.at(self.plan.batch)
        self._spread([partial(self._run, engine, ids, *batch, out) for batch in batches], progress)

    def _many(self, texts: Sequence[str], out: Vectors, most_rows: int | None, progress: Progress) -> None:
        """Blocks of texts of like length, the longest first. Bytes in UTF-8 tell tokens well in every script."""
        sizes = [len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")) for text in texts]
        order = np.argsort(-np.asarray(sizes), kind="stable")
        streams = self.plan.batch.streams
        size = min(_BLOCK, max(_LEAST_BLOCK, -(-len(texts) // (4 * streams))))
        engine = self.engines.at(self.plan.batch)

        def work(rows: NDArray[np.int64]) -> int:
            ids = self._tokenize([texts[row] for row in rows])
            return sum(self._run(engine, ids, *batch, out, rows) for batch in self._batches(ids, most_rows))

        self._spread([partial(work, order[start : start + size]) for start in range(0, len(order), size)], progress)

    def _batches(self, ids: list[list[int]], most_rows: int | None) -> list[tuple[NDArray[np.int64], int]]:
        lengths = [len(row) for row in ids]
        tokens = self.plan.batch_tokens
        return list(token_batches(lengths, tokens=tokens, max_length=self.max_length, most_rows=most_rows))

    def _run(
        self, engine: Engine, ids: list[list[int]], places: NDArray[np.int64], width: int, out: Vectors,
        rows: NDArray[np.int64] | None = None,
    ) -> int:  # fmt: skip
        """One run, and how many texts it was. rows: where they stand in `out`, None when just as in `ids`."""
        batch = [ids[place] for place in places]
        arrays = pad(batch, self.pad_token_id, to=width)
        with self._turns:
            vectors = engine.embed(*arrays)
        out[places if rows is None else rows[places]] = vectors[:, : out.shape[1]]
        self._count(sum(map(len, batch)), width * len(batch))
        return len(batch)

    def _spread(self, jobs: Sequence[Callable[[], int]], progress: Progress) -> None:
        """Runs the jobs on the workers; the first error ends the rest.

        Raises: what a job raises.
        """
        if self.engines.reopen is None or len(jobs) == 1:
            for job in jobs:
                progress.advance(job())
            return
        futures: list[Future[int]] = [self._workers().submit(job) for job in jobs]
        try:
            for future in futures:
                progress.advance(future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)  # none may write into `out` after the caller has gone on
            raise

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.plan.batch.streams + 1, thread_name_prefix="edgebert")
            return self._pool

    def _count(self, tokens: int, padded: int) -> None:
        """Adds to the counts of tokens, which may miss one where threads meet: they are for looking at."""
        self.tokens = TokenCount(self.tokens.real + tokens, self.tokens.padded + padded)
