"""Haystack's text embedder (for queries) and document embedder (for indexing)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgebert.embedder import Embedder
from edgebert.errors import DataError, MissingExtraError
from edgebert.integrations.options import EncodeOptions, LoadOptions, model_name, named

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as problem:
    raise MissingExtraError(problem.name or "haystack", "haystack", "edgebert.integrations.haystack") from None


@component
class EdgeBertTextEmbedder:
    """One query to its vector, for Haystack's query pipelines.

    model: a name or path that `warm_up` opens with the load options, or an Embedder, with which the component cannot
    be written to YAML. prompt: text put before the query instead of the model's own prompt for queries.
    Options: see `edgebert.load` and `Embedder.encode`.
    """

    def __init__(
        self, model: Embedder | str | Path, *, engine: str = "auto", precision: str = "auto",
        threads: int | None = None, revision: str | None = None, truncate_dim: int | None = None,
        prompt: str | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.load_options = LoadOptions(engine, precision, threads, revision)
        self.options = EncodeOptions(truncate_dim=truncate_dim, query_prompt=prompt)
        self._encoder: Embedder | None = None

    def to_dict(self) -> dict[str, Any]:
        """The component as data. Raises: RecipeError when it was made with an Embedder."""
        data: dict[str, Any] = default_to_dict(
            self, model=named(self.model, "writing a component"), **vars(self.load_options),
            truncate_dim=self.options.truncate_dim, prompt=self.options.query_prompt,
        )  # fmt: skip
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EdgeBertTextEmbedder:
        """The component that `to_dict` wrote."""
        made: EdgeBertTextEmbedder = default_from_dict(cls, data)
        return made

    def warm_up(self) -> None:
        """Opens the model, once. Raises: as `edgebert.load`."""
        if self._encoder is None:
            self._encoder = self.load_options.open(self.model)

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """`embedding`, the query's vector, and `meta`, what computed it.

        Raises: DataError for what is no string.
        """
        if not isinstance(text, str):
            raise DataError(
                f"text is {text!r:.80} ({type(text).__name__}); a string is needed. "
                "EdgeBertDocumentEmbedder takes documents"
            )
        self.warm_up()
        assert self._encoder is not None
        return {"embedding": self.options.query(self._encoder, text).tolist(), "meta": _meta(self._encoder)}

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` in a thread."""
        return await asyncio.to_thread(self.run, text)


@component
class EdgeBertDocumentEmbedder:
    """Documents with their vectors, for Haystack's indexing pipelines.

    meta_fields_to_embed: metadata put before the content, joined with `embedding_separator`; absent ones are left
    out. prompt: text put before every document instead of the model's own prompt for documents. The rest: see
    `EdgeBertTextEmbedder`.
    """

    def __init__(
        self, model: Embedder | str | Path, *, engine: str = "auto", precision: str = "auto",
        threads: int | None = None, revision: str | None = None, batch_size: int | None = None,
        truncate_dim: int | None = None, prompt: str | None = None, meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:  # fmt: skip
        self.model = model
        self.load_options = LoadOptions(engine, precision, threads, revision)
        self.options = EncodeOptions(batch_size, truncate_dim, document_prompt=prompt)
        self.meta_fields_to_embed = list(meta_fields_to_embed or [])
        self.embedding_separator = embedding_separator
        self._encoder: Embedder | None = None

    def to_dict(self) -> dict[str, Any]:
        """The component as data. Raises: RecipeError when it was made with an Embedder."""
        data: dict[str, Any] = default_to_dict(
            self, model=named(self.model, "writing a component"), **vars(self.load_options),
            batch_size=self.options.batch_size, truncate_dim=self.options.truncate_dim,
            prompt=self.options.document_prompt, meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
        )  # fmt: skip
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EdgeBertDocumentEmbedder:
        """The component that `to_dict` wrote."""
        made: EdgeBertDocumentEmbedder = default_from_dict(cls, data)
        return made

    def warm_up(self) -> None:
        """Opens the model, once. Raises: as `edgebert.load`."""
        if self._encoder is None:
            self._encoder = self.load_options.open(self.model)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """`documents`, new ones with `embedding` set, in their order, and `meta`, what computed it.

        Raises: DataError for what is no list of documents.
        """
        if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
            raise DataError(
                f"documents are {documents!r:.80}; a list of haystack Documents is needed. "
                "EdgeBertTextEmbedder takes a string"
            )
        self.warm_up()
        assert self._encoder is not None
        vectors = self.options.document(self._encoder, [self._text(document) for document in documents]).tolist()
        embedded = [replace(document, embedding=v) for document, v in zip(documents, vectors, strict=True)]
        return {"documents": embedded, "meta": _meta(self._encoder)}

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` in a thread."""
        return await asyncio.to_thread(self.run, documents)

    def _text(self, document: Document) -> str:
        """The chosen metadata and the content, as one text."""
        chosen = (document.meta.get(name) for name in self.meta_fields_to_embed)
        return self.embedding_separator.join([*(str(v) for v in chosen if v is not None), document.content or ""])


def _meta(encoder: Embedder) -> dict[str, Any]:
    return {"model": model_name(encoder), "engine": encoder.engine, "precision": encoder.precision}
