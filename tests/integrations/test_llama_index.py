"""EdgeBertEmbedding in LlamaIndex: queries, texts, async, an index, an ingestion pipeline, written and read."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest
from frameworks import ENGINE, QUERY, TEXTS

from edgebert import Embedder
from edgebert.errors import RecipeError


@pytest.fixture
def embedding(prompted: Path) -> Any:
    from edgebert.integrations.llama_index import EdgeBertEmbedding

    return EdgeBertEmbedding(prompted, **ENGINE)


def test_vectors_are_the_encoders(embedding: Any, encoder: Embedder) -> None:
    assert embedding.get_query_embedding(TEXTS[0]) == encoder.encode_query(TEXTS[0]).tolist()
    assert embedding.get_text_embedding(TEXTS[0]) == encoder.encode_document(TEXTS[0]).tolist()
    assert embedding.get_query_embedding(TEXTS[0]) != embedding.get_text_embedding(TEXTS[0])
    assert embedding.get_text_embedding_batch(TEXTS) == encoder.encode_document(TEXTS).tolist()
    assert embedding.get_text_embedding_batch([]) == []


def test_the_asynchronous_methods_give_the_same(embedding: Any) -> None:
    async def all_three() -> tuple[Any, Any, Any]:
        return (
            await embedding.aget_query_embedding(TEXTS[0]),
            await embedding.aget_text_embedding(TEXTS[0]),
            await embedding.aget_text_embedding_batch(TEXTS),
        )

    assert asyncio.run(all_three()) == (
        embedding.get_query_embedding(TEXTS[0]),
        embedding.get_text_embedding(TEXTS[0]),
        embedding.get_text_embedding_batch(TEXTS),
    )


def test_llama_index_hands_over_as_many_as_it_is_told(prompted: Path, encoder: Embedder) -> None:
    from edgebert.integrations.llama_index import EdgeBertEmbedding

    embedding = EdgeBertEmbedding(prompted, **ENGINE, embed_batch_size=16)
    parts = [encoder.encode_document(TEXTS[i : i + 16]).tolist() for i in range(0, 40, 16)]
    assert embedding.get_text_embedding_batch(TEXTS) == [vector for part in parts for vector in part]


def test_an_index_finds_what_the_encoder_finds(embedding: Any, encoder: Embedder) -> None:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.schema import TextNode

    nodes = IngestionPipeline(transformations=[embedding]).run(nodes=[TextNode(text=text) for text in TEXTS])
    assert [node.embedding for node in nodes] == encoder.encode_document(TEXTS).tolist()
    found = VectorStoreIndex(nodes, embed_model=embedding).as_retriever(similarity_top_k=3).retrieve(QUERY)
    cosines = encoder.similarity(encoder.encode_query(QUERY), encoder.encode_document(TEXTS))[0]
    assert [hit.node.get_content() for hit in found] == [TEXTS[i] for i in cosines.argsort()[::-1][:3]]


def test_written_and_pickled_it_is_loaded_again(prompted: Path, encoder: Embedder) -> None:
    from edgebert.integrations.llama_index import EdgeBertEmbedding

    embedding = EdgeBertEmbedding(prompted, **ENGINE, truncate_dim=8, query_prompt="")
    wanted = encoder.encode("a dog", truncate_dim=8).tolist()
    for again in (EdgeBertEmbedding.from_dict(embedding.to_dict()), pickle.loads(pickle.dumps(embedding))):
        assert again.get_query_embedding("a dog") == wanted
        assert again.to_dict() == embedding.to_dict()
        assert (again.model_name, again.class_name()) == (str(prompted), "EdgeBertEmbedding")


def test_an_embedder_is_written_as_what_it_runs(encoder: Embedder) -> None:
    from edgebert.integrations.llama_index import EdgeBertEmbedding

    embedding = EdgeBertEmbedding(encoder)
    facts = embedding.to_dict()
    assert (facts["model_name"], facts["engine"], facts["precision"]) == (
        encoder.bundle.source, "onnxruntime", "int8",
    )  # fmt: skip
    assert embedding.get_query_embedding("a dog") == encoder.encode_query("a dog").tolist()
    with pytest.raises(RecipeError, match="engine is 'openvino', but the model is loaded already"):
        EdgeBertEmbedding(encoder, engine="openvino")
