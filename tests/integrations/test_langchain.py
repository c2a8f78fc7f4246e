"""EdgeBertEmbeddings in LangChain: sync, async, in a vector store and its retriever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from frameworks import ENGINE, QUERY, TEXTS
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from edgebert import Embedder
from edgebert.errors import DataError, RecipeError
from edgebert.integrations.langchain import EdgeBertEmbeddings


@pytest.fixture
def embeddings(prompted: Path) -> EdgeBertEmbeddings:
    return EdgeBertEmbeddings(prompted, **ENGINE)


def test_vectors_are_the_encoders(embeddings: EdgeBertEmbeddings, encoder: Embedder) -> None:
    assert isinstance(embeddings, Embeddings)
    assert embeddings.embed_documents(TEXTS) == encoder.encode_document(TEXTS).tolist()
    assert embeddings.embed_query(TEXTS[0]) == encoder.encode_query(TEXTS[0]).tolist()
    assert embeddings.embed_query(TEXTS[0]) != embeddings.embed_documents(TEXTS[:1])[0]
    assert embeddings.embed_documents([]) == []


def test_the_asynchronous_methods_give_the_same(embeddings: EdgeBertEmbeddings) -> None:
    async def both() -> tuple[list[list[float]], list[float]]:
        return await embeddings.aembed_documents(TEXTS), await embeddings.aembed_query(TEXTS[0])

    assert asyncio.run(both()) == (embeddings.embed_documents(TEXTS), embeddings.embed_query(TEXTS[0]))


def test_a_retriever_finds_what_the_encoder_finds(embeddings: EdgeBertEmbeddings, encoder: Embedder) -> None:
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    cosines = encoder.similarity(encoder.encode_query(QUERY), encoder.encode_document(TEXTS))[0]
    nearest = [TEXTS[i] for i in cosines.argsort()[::-1][:3]]
    assert [document.page_content for document in store.as_retriever(search_kwargs={"k": 3}).invoke(QUERY)] == nearest


def test_options_and_a_ready_embedder(encoder: Embedder) -> None:
    embeddings = EdgeBertEmbeddings(encoder, truncate_dim=8, query_prompt="", batch_size=3)
    assert embeddings.encoder is encoder
    assert embeddings.embed_query("a dog") == encoder.encode("a dog", truncate_dim=8).tolist()
    assert embeddings.embed_documents(TEXTS) == encoder.encode_document(TEXTS, truncate_dim=8, batch_size=3).tolist()
    assert repr(embeddings) == f"EdgeBertEmbeddings({encoder!r})"


def test_errors_are_the_encoders(embeddings: EdgeBertEmbeddings, encoder: Embedder) -> None:
    with pytest.raises(DataError, match=r"sentences\[1\] is 3 \(int\)"):
        embeddings.embed_documents(["a", 3])  # type: ignore[list-item]
    with pytest.raises(RecipeError, match="threads is 2, but the model is loaded already"):
        EdgeBertEmbeddings(encoder, threads=2)
