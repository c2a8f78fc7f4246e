"""LangChain's `Embeddings`: what its vector stores and retrievers take."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from edgebert.embedder import Embedder
from edgebert.errors import MissingExtraError
from edgebert.integrations.options import EncodeOptions, LoadOptions

try:
    from langchain_core.embeddings import Embeddings
except ImportError as problem:
    raise MissingExtraError(problem.name or "langchain_core", "langchain", "edgebert.integrations.langchain") from None


class EdgeBertEmbeddings(Embeddings):
    """Queries and documents to lists of floats, for LangChain.

    model: an Embedder, or a name or path that `edgebert.load` opens with the load options. The asynchronous methods
    run in LangChain's executor. Options: see `edgebert.load` and `EncodeOptions`.
    """

    def __init__(
        self, model: Embedder | str | Path, *, engine: str = "auto", precision: str = "auto",
        threads: int | None = None, revision: str | None = None, batch_size: int | None = None,
        truncate_dim: int | None = None, query_prompt: str | None = None, document_prompt: str | None = None,
    ) -> None:  # fmt: skip
        self.encoder = LoadOptions(engine, precision, threads, revision).open(model)
        self.options = EncodeOptions(batch_size, truncate_dim, query_prompt, document_prompt)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The documents' vectors in their order. Shape: (len(texts), kept dimensions)."""
        return cast("list[list[float]]", self.options.document(self.encoder, texts).tolist())

    def embed_query(self, text: str) -> list[float]:
        """The query's vector. Shape: (kept dimensions,)."""
        return cast("list[float]", self.options.query(self.encoder, text).tolist())

    def __repr__(self) -> str:
        return f"EdgeBertEmbeddings({self.encoder!r})"
