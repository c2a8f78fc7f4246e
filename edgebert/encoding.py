"""What is asked of an encoder: `encode` and its kin, in the caller's thread or from asyncio.

`Embedder` and `Watched` answer alike, so what a call looks like stands here, once; how it is answered is theirs.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from edgebert.encode_types import Texts, typed_by_precision, typed_by_precision_async
from edgebert.errors import EngineError

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgebert.compact import Compact, VectorPrecision
    from edgebert.vectors import Vectors

# Each call computes on the engine's own threads; two, so that one long call does not hold up every short one.
_WORKERS = 2
_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True)
class Asked:
    """The options of one call, see `Encoding.encode`. first_of: where no prompt is asked for, the first of these that
    the model has."""

    batch_size: int | None = None
    show_progress_bar: bool = False
    normalize_embeddings: bool = True
    truncate_dim: int | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    precision: VectorPrecision = "float32"
    first_of: tuple[str, ...] = ()


class Encoding:
    """What gives a class with `_encoded` and `close` its `encode`, `encode_query`, `encode_document`, `aencode` and
    `async with`."""

    _pool: ThreadPoolExecutor | None = None
    _pool_lock: threading.Lock
    _pool_ended = False

    def __init__(self) -> None:
        self._pool_lock = threading.Lock()

    @typed_by_precision
    def encode(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: VectorPrecision = "float32",
    ) -> Vectors | Compact:  # fmt: skip
        """The vectors of `sentences` in their order, float32, or coded as Int8Vectors or BinaryVectors.

        Shape: (len(sentences), dimension), or (dimension,) for one string.
        batch_size: texts in one run at most; by default only the plan's number of tokens bounds it.
        normalize_embeddings: give unit vectors. False leaves them as the model gives them; a model that normalises
        itself (`bundle.manifest.normalize`) gives unit vectors even so, unless `truncate_dim` cuts them.
        truncate_dim: keep that many leading dimensions; cut before normalising.
        prompt: text put before every sentence, or `prompt_name`, one of `prompts`; by default the model's own default.
        precision: of the vectors, "int8" or "binary" (`edgebert.compact`); `Embedder.precision` is the model's.
        Raises: DataError for what is no string; RecipeError for an option out of range; EngineError.
        """
        asked = Asked(
            batch_size, show_progress_bar, normalize_embeddings, truncate_dim, prompt, prompt_name, precision,
        )  # fmt: skip
        return self._encoded(sentences, asked)

    @typed_by_precision
    def encode_query(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: VectorPrecision = "float32",
    ) -> Vectors | Compact:  # fmt: skip
        """`encode` with the model's prompt "query" where it has one and none is given."""
        asked = Asked(
            batch_size, show_progress_bar, normalize_embeddings, truncate_dim, prompt, prompt_name, precision,
            _QUERY_PROMPTS,
        )  # fmt: skip
        return self._encoded(sentences, asked)

    @typed_by_precision
    def encode_document(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: VectorPrecision = "float32",
    ) -> Vectors | Compact:  # fmt: skip
        """`encode` with the model's prompt "document", "passage" or "corpus" where it has one and none is given."""
        asked = Asked(
            batch_size, show_progress_bar, normalize_embeddings, truncate_dim, prompt, prompt_name, precision,
            _DOCUMENT_PROMPTS,
        )  # fmt: skip
        return self._encoded(sentences, asked)

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
        asked = Asked(
            batch_size, show_progress_bar, normalize_embeddings, truncate_dim, prompt, prompt_name, precision,
        )  # fmt: skip
        import asyncio  # not above: who does not call this need not wait for it

        call = functools.partial(self._encoded, sentences, asked)
        with self._pool_lock:
            if self._pool_ended:
                raise EngineError("this encoder is closed: load the model again")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="edgebert-aencode")
            future = self._pool.submit(contextvars.copy_context().run, call)
        return await asyncio.wrap_future(future)

    def _encoded(self, sentences: Texts, asked: Asked) -> Vectors | Compact:
        """What `encode` gives."""
        raise NotImplementedError

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
