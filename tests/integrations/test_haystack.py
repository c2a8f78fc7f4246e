"""Haystack's components: alone, in pipelines, written to YAML and loaded again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from frameworks import ENGINE, QUERY, TEXTS
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.core.errors import DeserializationError
from haystack.document_stores.in_memory import InMemoryDocumentStore

from edgebert import Embedder
from edgebert.errors import BundleError, DataError, RecipeError
from edgebert.integrations.haystack import EdgeBertDocumentEmbedder, EdgeBertTextEmbedder


def test_the_text_embedder_gives_the_encoders_vector(prompted: Path, encoder: Embedder) -> None:
    embedder = EdgeBertTextEmbedder(prompted, **ENGINE)
    embedder.warm_up()
    answer = embedder.run(text=TEXTS[0])
    assert answer["embedding"] == encoder.encode_query(TEXTS[0]).tolist()
    assert answer["meta"] == {"model": str(prompted), "engine": "onnxruntime", "precision": "int8"}
    assert asyncio.run(embedder.run_async(text=TEXTS[0])) == answer


def test_the_document_embedder_gives_the_encoders_vectors(prompted: Path, encoder: Embedder) -> None:
    documents = [Document(content=text, meta={"place": i}) for i, text in enumerate(TEXTS)]
    embedder = EdgeBertDocumentEmbedder(prompted, **ENGINE)
    embedded = embedder.run(documents=documents)["documents"]
    assert [d.embedding for d in embedded] == encoder.encode_document(TEXTS).tolist()
    assert [(d.content, d.meta, d.id) for d in embedded] == [(d.content, d.meta, d.id) for d in documents]
    assert all(d.embedding is None for d in documents)  # new ones were made
    assert asyncio.run(embedder.run_async(documents=documents))["documents"] == embedded
    assert embedder.run(documents=[])["documents"] == []


def test_chosen_metadata_is_embedded_with_the_content(prompted: Path, encoder: Embedder) -> None:
    embedder = EdgeBertDocumentEmbedder(
        prompted, **ENGINE, meta_fields_to_embed=["title", "year", "absent"], embedding_separator=" . ",
        truncate_dim=8, prompt="",
    )  # fmt: skip
    document = Document(content="the dog runs", meta={"year": 0, "title": "a house", "other": "red"})
    wanted = encoder.encode(["a house . 0 . the dog runs", ""], truncate_dim=8)
    embedded = embedder.run(documents=[document, Document(content=None)])["documents"]
    assert [d.embedding for d in embedded] == wanted.tolist()


def test_pipelines_survive_yaml(prompted: Path, encoder: Embedder) -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing = Pipeline()
    indexing.add_component("embedder", EdgeBertDocumentEmbedder(str(prompted), **ENGINE, meta_fields_to_embed=["kind"]))
    indexing.add_component("writer", DocumentWriter(document_store=store))
    indexing.connect("embedder.documents", "writer.documents")
    assert Pipeline.loads(indexing.dumps(), allowed_modules=["edgebert"]).to_dict() == indexing.to_dict()
    indexing.run({"embedder": {"documents": [Document(content=text) for text in TEXTS]}})

    asking = Pipeline()
    asking.add_component("embedder", EdgeBertTextEmbedder(prompted, **ENGINE, prompt="the question "))
    asking.add_component("retriever", InMemoryEmbeddingRetriever(document_store=store, top_k=3))
    asking.connect("embedder.embedding", "retriever.query_embedding")
    cosines = encoder.similarity(encoder.encode_query(QUERY), encoder.encode_document(TEXTS))[0]
    nearest = [TEXTS[i] for i in cosines.argsort()[::-1][:3]]
    assert _found(asking, QUERY) == nearest

    written = Pipeline()
    written.add_component("embedder", EdgeBertTextEmbedder(prompted, **ENGINE, prompt="the question "))
    again = Pipeline.loads(written.dumps(), allowed_modules=["edgebert"])
    assert again.to_dict() == written.to_dict()
    again.add_component("retriever", InMemoryEmbeddingRetriever(document_store=store, top_k=3))
    again.connect("embedder.embedding", "retriever.query_embedding")
    assert _found(again, QUERY) == nearest


def _found(pipeline: Pipeline, query: str) -> list[str]:
    documents = pipeline.run({"embedder": {"text": query}})["retriever"]["documents"]
    return [document.content for document in documents]


def test_haystack_asks_whom_it_may_load(prompted: Path) -> None:
    pipeline = Pipeline()
    pipeline.add_component("embedder", EdgeBertTextEmbedder(prompted))
    with pytest.raises(DeserializationError, match="edgebert"):
        Pipeline.loads(pipeline.dumps())


def test_from_dict_gives_what_to_dict_wrote(prompted: Path) -> None:
    text = EdgeBertTextEmbedder(prompted, engine="openvino", precision="fp32", threads=2, revision="r", prompt="p")
    data = text.to_dict()
    assert data["type"] == "edgebert.integrations.haystack.EdgeBertTextEmbedder"
    assert EdgeBertTextEmbedder.from_dict(data).to_dict() == data
    many = EdgeBertDocumentEmbedder(prompted, batch_size=4, truncate_dim=8, prompt="p", meta_fields_to_embed=["t"])
    assert EdgeBertDocumentEmbedder.from_dict(many.to_dict()).to_dict() == many.to_dict()


def test_the_model_is_opened_at_warm_up_and_once(prompted: Path, tmp_path: Path) -> None:
    absent = EdgeBertTextEmbedder(tmp_path / "absent")
    with pytest.raises(BundleError, match="absent"):
        absent.warm_up()
    embedder = EdgeBertDocumentEmbedder(prompted, **ENGINE)
    embedder.warm_up()
    first = embedder._encoder
    embedder.warm_up()
    assert embedder._encoder is first is not None


def test_a_ready_embedder_runs_and_cannot_be_written(encoder: Embedder) -> None:
    for made in (EdgeBertTextEmbedder(encoder), EdgeBertDocumentEmbedder(encoder)):
        with pytest.raises(RecipeError, match="writing a component needs the model's name or path, not Embedder"):
            made.to_dict()
    assert EdgeBertTextEmbedder(encoder).run(text="a dog")["embedding"] == encoder.encode_query("a dog").tolist()


def test_the_wrong_input_is_told_which_component_takes_it(encoder: Embedder) -> None:
    with pytest.raises(DataError, match=r"\(list\); a string is needed. EdgeBertDocumentEmbedder takes documents"):
        EdgeBertTextEmbedder(encoder).run(text=["a"])  # type: ignore[arg-type]
    for wrong in ("a", ["a"]):
        with pytest.raises(DataError, match="a list of haystack Documents is needed. EdgeBertTextEmbedder takes"):
            EdgeBertDocumentEmbedder(encoder).run(documents=wrong)  # type: ignore[arg-type]
