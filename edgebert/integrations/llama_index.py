"""LlamaIndex's `BaseEmbedding`: what its indexes, retrievers and ingestion pipelines take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from edgebert.embedder import Embedder
from edgebert.errors import MissingExtraError
from edgebert.integrations.options import EncodeOptions, LoadOptions
from edgebert.integrations.options import model_name as name_of

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.callbacks import CallbackManager
except ImportError as problem:
    raise MissingExtraError(problem.name or "llama_index", "llama-index", "edgebert.integrations.llama_index") from None


class EdgeBertEmbedding(BaseEmbedding):
    """Queries and texts to lists of floats, for LlamaIndex.

    model_name: an Embedder, or a name or path that `edgebert.load` opens with the load options. Written with to_dict
    or pickled it is the name and the options, and is loaded again from them; an Embedder is written as its name,
    engine and precision. embed_batch_size: how many texts LlamaIndex hands over at a time; batch_size: how many of
    these the engine computes at a time, sorted by length. Options: see `edgebert.load` and `EncodeOptions`.
    """

    engine: str
    precision: str
    threads: int | None
    revision: str | None
    batch_size: int | None
    truncate_dim: int | None
    query_prompt: str | None
    document_prompt: str | None
    _encoder: Embedder = PrivateAttr()
    _options: EncodeOptions = PrivateAttr()

    def __init__(
        self, model_name: Embedder | str | Path, *, engine: str = "auto", precision: str = "auto",
        threads: int | None = None, revision: str | None = None, batch_size: int | None = None,
        truncate_dim: int | None = None, query_prompt: str | None = None, document_prompt: str | None = None,
        embed_batch_size: int = 256, num_workers: int | None = None, callback_manager: CallbackManager | None = None,
        embeddings_cache: Any = None, rate_limiter: Any = None,
    ) -> None:  # fmt: skip
        encoder = LoadOptions(engine, precision, threads, revision).open(model_name)
        ready = isinstance(model_name, Embedder)
        fields: dict[str, Any] = {
            "model_name": name_of(model_name), "engine": encoder.engine if ready else engine,
            "precision": encoder.precision if ready else precision, "threads": threads, "revision": revision,
            "batch_size": batch_size, "truncate_dim": truncate_dim, "query_prompt": query_prompt,
            "document_prompt": document_prompt, "embed_batch_size": embed_batch_size, "num_workers": num_workers,
            "callback_manager": callback_manager or CallbackManager([]), "embeddings_cache": embeddings_cache,
            "rate_limiter": rate_limiter,
        }  # fmt: skip
        super().__init__(**fields)  # LlamaIndex's own signature names none of our fields
        self._encoder = encoder
        self._options = EncodeOptions(batch_size, truncate_dim, query_prompt, document_prompt)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes beside the options."""
        return "EdgeBertEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return cast("list[float]", self._options.query(self._encoder, query).tolist())

    def _get_text_embedding(self, text: str) -> list[float]:
        return cast("list[float]", self._options.document(self._encoder, text).tolist())

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return cast("list[list[float]]", self._options.document(self._encoder, texts).tolist())

    # In a thread: LlamaIndex's own would compute on the event loop, and texts one by one.
    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
