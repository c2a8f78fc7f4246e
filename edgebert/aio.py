"""Encoding from asyncio: on threads of the encoder's own, so that the event loop goes on."""

from __future__ import annotations

import contextvars
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgebert.compact import Compact, VectorPrecision
from edgebert.encode_types import typed_by_precision_async
from edgebert.errors import EngineError
from edgebert.vectors import Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgebert.encode_types import Texts

# Each call computes on the engine's own threads; two, so that one long call does not hold up every short one.
_WORKERS = 2


class AsyncEncoding:
    """What gives a class with `encode` and `close` its `aencode` and `async with`."""

    _pool: ThreadPoolExecutor | None = None
    _pool_lock: threading.Lock
    _pool_ended = False

    def __init__(self) -> None:
        self._pool_lock = threading.Lock()

    @typed_by_precision_async
    async def aencode(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: VectorPrecision = "float32",
    ) -> Vectors | Compact:  # fmt: skip
        """`encode` in a thread of the encoder's own; the event loop is not blocked. Two calls compute at a time.

        A cancelled call that waits for its turn is never computed; one that computes ends and its vectors are dropped.
        Raises: as `encode`; EngineError, too, when the encoder is closed before its turn.
        """
        call = functools.partial(
            self.encode, sentences, batch_size=batch_size, show_progress_bar=show_progress_bar,
            normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim, prompt=prompt,
            prompt_name=prompt_name, precision=precision,
        )  # fmt: skip
        with self._pool_lock:
            if self._pool_ended:
                raise EngineError("this encoder is closed: load the model again")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="edgebert-aencode")
            future = self._pool.submit(contextvars.copy_context().run, call)
        import asyncio  # not above: who does not call this need not wait for it

        return await asyncio.wrap_future(future)

    encode: Any  # what `aencode` calls in its thread

    def close(self) -> None:
        """Frees everything."""
        raise NotImplementedError

    def end_threads(self) -> None:
        """No more `aencode`; its threads end when what they compute is done; queued calls find a closed encoder."""
        with self._pool_lock:
            pool, self._pool, self._pool_ended = self._pool, None, True
        if pool is not None:
            pool.shutdown(wait=False)

    def renew_after_fork(self) -> None:
        """The pool's threads did not come along into this process."""
        self._pool, self._pool_lock = None, threading.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
