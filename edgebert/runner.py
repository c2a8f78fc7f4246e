"""Texts to answers at full speed: who tokenizes what when, in which layout it runs, and where each answer goes.

    one text      tokenized and run by the caller itself: no thread is started or woken
    a handful     the same, when all fits into one run
    many          stretches of some thousand texts, by one worker more than the plan has streams: a stretch is
                  tokenized, sorted by length and run while the next one is tokenized

A layout is compiled when it is first needed and shared by all callers; what runs at once is bounded by the streams.
Between two runs a worker looks whether its call has ended by an error, so that little is run in vain. Within a budget
of memory (`edgebert.memory`) there are no workers: one call at a time, in small blocks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebert.batching import ladder, pad, token_batches
from edgebert.engines.base import Engine, Ids, Vectors
from edgebert.errors import EngineError
from edgebert.plan import Layout, Plan
from edgebert.progress import Progress

T = TypeVar("T")

_STRETCH = 4096  # texts that are sorted together: more are no tighter, and all their ids are held
_BLOCK = 256  # texts that a worker tokenizes at a time
_HANDFUL = 64  # texts that are tokenized first, since they may fit into one run
_CHARACTERS = 4  # of a token, about; more text than that is no one run
BOUNDED_BLOCK = 16  # the same within a budget of memory
_KEPT_MASK = 128  # tokens: making a mask is dear beside a short text alone, and keeping those of long ones is too


class TokenCount(NamedTuple):
    """Tokens that were run so far: of texts, and with the padding."""

    real: int
    padded: int


Tokenize = Callable[[Sequence[Any]], list[Any]]
# The engine, token ids and mask of a batch, and its rows as they were tokenized -> what `Put` takes, one for each row.
Ask = Callable[[Engine, Ids, Ids, Sequence[Sequence[int]]], Any]
# Places of texts, their rows, and the answers.
Put = Callable[[Any, Sequence[Sequence[int]], Any], None]
Reopen = Callable[[Layout], Engine]
Batch = tuple[NDArray[np.int64], int]
Tokenized = tuple[NDArray[np.int64], list[list[int]]]  # the texts' places and their ids
Job = Callable[[], Iterator[int]]  # a run at every step, which says how many texts it was


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
                closed()
            if layout not in self._open:
                self._open[layout] = self.reopen(layout)
            return self._open[layout]

    def renew(self) -> None:
        """After a fork: whoever held the lock is not in this process."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Frees all of them."""
        with self._lock:
            self._closed = True
            opened = [self.first, *self._open.values()]
            self._open = {}
        for engine in opened:
            engine.close()


def embed(engine: Engine, input_ids: Ids, attention_mask: Ids, rows: Sequence[Sequence[int]]) -> Vectors:
    """The usual thing to ask an engine for: vectors."""
    return engine.embed(input_ids, attention_mask)


def into(out: Vectors) -> Put:
    """Puts vectors into the rows of `out`, as far as those are wide."""

    def put(places: Any, rows: Sequence[Sequence[int]], vectors: Vectors) -> None:
        out[places] = vectors[:, : out.shape[1]]

    return put


class Runner:
    """Runs texts by `plan`. tokenize: texts, or what else is asked about, to rows of token ids, from several threads at
    once. ask: what engines are asked for."""

    def __init__(
        self, engines: Engines, plan: Plan, tokenize: Tokenize, *, max_length: int, pad_token_id: int, ask: Ask = embed
    ) -> None:
        self.engines, self.plan, self._tokenize, self._ask = engines, plan, tokenize, ask
        self.max_length, self.pad_token_id = max_length, pad_token_id
        self.tokens = TokenCount(0, 0)
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(plan.batch.streams)
        self._alone: contextlib.AbstractContextManager[object] = (
            threading.Lock() if plan.bounded else contextlib.nullcontext()
        )
        self._masks: dict[tuple[int, int], Ids] = {}

    def run(self, texts: Sequence[Any], out: Vectors | Put, most_rows: int | None, progress: Progress) -> None:
        """Fills `out`, or calls it with every batch. most_rows: of one run. Shape: out (len(texts), at most the
        dimension)."""
        if not texts:
            return
        put = into(out) if isinstance(out, np.ndarray) else out
        with self._alone:
            if len(texts) == 1:
                ids = self._tokenize(texts)[0]
                put([0], [ids], self._lone(ids))
                self._count(len(ids), self._width(len(ids)))
                progress.advance()
            elif self._is_handful(texts):
                self._handful(texts, put, most_rows, progress)
            else:
                self._many(texts, put, most_rows, progress)
            self._relieve()

    def _is_handful(self, texts: Sequence[Any]) -> bool:
        if self.plan.bounded:
            return len(texts) <= BOUNDED_BLOCK
        return len(texts) <= _HANDFUL and sum(map(_characters, texts)) <= _CHARACTERS * self.plan.batch_tokens

    def warm_up(self, width: int, rows: int) -> None:
        """Runs 1, 2, 4 and so on up to `rows` texts of `width` tokens where such runs come to pass.

        Within a budget of memory all that may be run was run when it was measured.
        """
        if self.plan.bounded:
            return
        ids = [self.pad_token_id] * width
        self._lone(ids)
        size = 2
        while size <= rows and size * width <= self.plan.batch_tokens:
            if ladder(width, self.max_length, rows=size) != width:
                size *= 2
                continue
            batch = pad([ids] * size, self.pad_token_id, to=width)
            for layout in self.plan.layouts:
                self._ask(self.engines.at(layout), *batch, [ids] * size)
            size *= 2

    def open_all(self) -> None:
        """Opens every layout of the plan now, after which no file is read any more.

        Raises: EngineError.
        """
        for layout in self.plan.layouts:
            self.engines.at(layout)

    def close(self) -> None:
        """Ends the workers, after what they run now, and frees the model."""
        with self._lock:
            self._closed, pool, self._pool = True, self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        self.engines.close()

    def forget_threads(self) -> None:
        """After a fork: the workers did not come along into this process."""
        self._pool, self._lock = None, threading.Lock()
        self._turns = threading.Semaphore(self.plan.batch.streams)
        if self.plan.bounded:
            self._alone = threading.Lock()
        self.engines.renew()

    def _lone(self, ids: Sequence[int]) -> Any:
        """The answer to one text."""
        length = len(ids)
        width = self._width(length)
        row = np.full((1, width), self.pad_token_id, np.int64)
        row[0, :length] = ids
        mask = self._masks.get((length, width))
        if mask is None:
            mask = (np.arange(width) < length).astype(np.int64)[None]
            if width <= _KEPT_MASK:
                self._masks[length, width] = mask
        layout = self.plan.batch if width <= self.plan.short else self.plan.lone
        return self._ask(self.engines.at(layout), row, mask, [ids])

    def _relieve(self) -> None:
        """Within a budget: what tokenizing and the run before have freed must not be held beside what comes."""
        if self.plan.bounded:
            from edgebert.memory import give_back

            give_back()

    def _width(self, length: int) -> int:
        return ladder(length, self.max_length, coarse=self.plan.bounded)

    def _handful(self, texts: Sequence[Any], put: Put, most_rows: int | None, progress: Progress) -> None:
        """In the caller's thread when it is one run, else by the workers."""
        ids = self._tokenize(texts)
        batches = self._batches(ids, most_rows)
        engine = self.engines.at(self.plan.lone if len(batches) == 1 else self.plan.batch)
        self._spread([partial(self._runs, engine, ids, [batch], put) for batch in batches], progress)

    def _many(self, texts: Sequence[Any], put: Put, most_rows: int | None, progress: Progress) -> None:
        """Stretch by stretch; by the workers where there are any, else block by block in the caller's thread."""
        engine = self.engines.at(self.plan.batch)
        tokenized = self._one_by_one(texts) if self._is_alone else self._ahead(texts)
        with contextlib.closing(tokenized):
            for rows, ids in tokenized:
                batches = self._batches(ids, most_rows)
                self._spread([partial(self._runs, engine, ids, [batch], put, rows) for batch in batches], progress)

    @property
    def _is_alone(self) -> bool:
        """Whether the caller's thread does all itself."""
        return self.engines.reopen is None or self.plan.bounded

    def _one_by_one(self, texts: Sequence[Any]) -> Generator[Tokenized]:
        """Blocks of like length, the longest first. Bytes in UTF-8 tell tokens well in every script."""
        sizes = [_bytes(text) for text in texts]
        order = np.argsort(-np.asarray(sizes), kind="stable")
        size = BOUNDED_BLOCK if self.plan.bounded else _STRETCH
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows, self._tokenize([texts[row] for row in rows])

    def _ahead(self, texts: Sequence[Any]) -> Generator[Tokenized]:
        """Stretches in their order; the next one is being tokenized by the workers while one is used."""
        numbers = np.arange(len(texts))
        waiting = self._tokenizing(texts[:_STRETCH])
        try:
            for start in range(0, len(texts), _STRETCH):
                ids = [row for part in waiting for row in _result(part)]
                waiting = self._tokenizing(texts[start + _STRETCH : start + 2 * _STRETCH])
                yield numbers[start : start + _STRETCH], ids
        finally:
            for part in waiting:
                part.cancel()

    def _tokenizing(self, texts: Sequence[Any]) -> list[Future[list[list[int]]]]:
        """The ids of those texts, to come, in blocks."""
        futures: list[Future[list[list[int]]]] = []
        blocks = (texts[start : start + _BLOCK] for start in range(0, len(texts), _BLOCK))
        self._submit([partial(self._tokenize, block) for block in blocks], futures)
        return futures

    def _batches(self, ids: list[list[int]], most_rows: int | None) -> list[Batch]:
        lengths = [len(row) for row in ids]
        return list(
            token_batches(
                lengths, tokens=self.plan.batch_tokens, max_length=self.max_length, most_rows=most_rows,
                coarse=self.plan.bounded,
            )
        )  # fmt: skip

    def _runs(
        self, engine: Engine, ids: list[list[int]], batches: Sequence[Batch], put: Put,
        rows: NDArray[np.int64] | None = None,
    ) -> Iterator[int]:  # fmt: skip
        """One run after the other, and how many texts each was. rows: the places of `ids`, None when just so."""
        for places, width in batches:
            batch = [ids[place] for place in places]
            arrays = pad(batch, self.pad_token_id, to=width)
            self._relieve()
            with self._turns:
                answers = self._ask(engine, *arrays, batch)
            put(places if rows is None else rows[places], batch, answers)
            self._count(sum(map(len, batch)), width * len(batch))
            yield len(batch)

    def _spread(self, jobs: Sequence[Job], progress: Progress) -> None:
        """Runs the jobs on the workers; the first error ends the rest.

        Raises: what a job raises; EngineError when the model is closed meanwhile.
        """
        if self._is_alone or len(jobs) == 1:
            for job in jobs:
                for done in job():
                    progress.advance(done)
            return
        ended = threading.Event()
        futures: list[Future[int]] = []
        try:
            self._submit([partial(_until, ended, job) for job in jobs], futures)
            for future in futures:
                progress.advance(_result(future))
        finally:
            ended.set()
            # None may put anything after the caller has gone on. One that was cancelled tells no waiter.
            wait([future for future in futures if not future.cancel()])

    def _submit(self, jobs: Sequence[Callable[[], T]], futures: list[Future[T]]) -> None:
        """Gives the jobs to the workers, which are started at the first call, and adds to `futures`."""
        with self._lock:
            if self._closed:
                closed()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.plan.batch.streams + 1, thread_name_prefix="edgebert")
            for job in jobs:
                futures.append(self._pool.submit(job))

    def _count(self, tokens: int, padded: int) -> None:
        """Adds to the counts of tokens."""
        with self._lock:
            self.tokens = TokenCount(self.tokens.real + tokens, self.tokens.padded + padded)


def _characters(item: Any) -> int:
    """Of a text, of all parts of what is asked about, or about so many of tokens."""
    if isinstance(item, str):
        return len(item)
    return sum(map(len, item)) if isinstance(item, tuple) else _CHARACTERS * len(item)


def _bytes(item: Any) -> int:
    if isinstance(item, str):
        return len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
    return sum(map(_bytes, item)) if isinstance(item, tuple) else _CHARACTERS * len(item)


def _result(future: Future[T]) -> T:
    """What `future` gives.

    Raises: what its job raised; EngineError when the model was closed before its turn.
    """
    try:
        return future.result()
    except CancelledError:
        closed()


def closed() -> NoReturn:
    """Raises EngineError: the model is closed."""
    raise EngineError("the model is closed: load it again")


def _until(ended: threading.Event, job: Job) -> int:
    """Runs `job` until its call has ended, and ends it by an error; how many texts were run."""
    done = 0
    try:
        if not ended.is_set():
            for texts in job():
                done += texts
                if ended.is_set():
                    break
    except BaseException:
        ended.set()
        raise
    return done
