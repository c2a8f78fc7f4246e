"""EdgeBertEncoder in real MTEB tasks, made of texts in this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from frameworks import ENGINE, TEXTS
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.models_protocols import EncoderProtocol
from mteb.types import PromptType
from scipy.stats import spearmanr

from edgebert import Embedder
from edgebert.errors import DataError
from edgebert.integrations.mteb import EdgeBertEncoder

QUERIES = TEXTS[:5]
DOCUMENTS = [f"{text} today" for text in TEXTS]


def _facts(name: str, kind: str, score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name, type=kind, main_score=score, description="made up", reference="https://example.org",
        dataset={"path": "NA", "revision": "NA"}, category="t2t", modalities=["text"], eval_splits=["test"],
        eval_langs=["eng-Latn"], date=("2026-01-01", "2026-01-01"), domains=[], task_subtypes=[],
        license="cc0-1.0", annotations_creators="derived", dialect=[], sample_creation="created", bibtex_citation="",
    )  # fmt: skip


class Similarity(AbsTaskSTS):
    metadata = _facts("MadeUpSimilarity", "STS", "cosine_spearman")

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        pairs = {"sentence1": TEXTS[:10], "sentence2": TEXTS[10:20], "score": [i / 2 for i in range(10)]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(pairs)})
        self.data_loaded = True


class Retrieval(AbsTaskRetrieval):
    metadata = _facts("MadeUpRetrieval", "Retrieval", "ndcg_at_10")

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        corpus = {"id": [f"d{i}" for i in range(40)], "text": DOCUMENTS, "title": [""] * 40}
        queries = {"id": [f"q{i}" for i in range(5)], "text": QUERIES}
        split = {
            "corpus": Dataset.from_dict(corpus), "queries": Dataset.from_dict(queries),
            "relevant_docs": {f"q{i}": {f"d{i}": 1} for i in range(5)}, "top_ranked": None,
        }  # fmt: skip
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


@pytest.fixture
def model(prompted: Path) -> EdgeBertEncoder:
    return EdgeBertEncoder(prompted, **ENGINE)


def _scores(model: EdgeBertEncoder, task: Any) -> dict[str, Any]:
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    (found,) = result.task_results
    scores: dict[str, Any] = found.scores["test"][0]
    return scores


def test_similarity_is_scored_by_the_encoders_vectors(model: EdgeBertEncoder, encoder: Embedder) -> None:
    a, b = encoder.encode(TEXTS[:10], prompt_name="STS"), encoder.encode(TEXTS[10:20], prompt_name="STS")
    wanted = spearmanr(np.diag(encoder.similarity(a, b)), range(10)).statistic
    assert _scores(model, Similarity())["cosine_spearman"] == pytest.approx(wanted, abs=1e-6)


def test_retrieval_is_scored_by_the_encoders_vectors(model: EdgeBertEncoder, encoder: Embedder) -> None:
    cosines = encoder.similarity(encoder.encode_query(QUERIES), encoder.encode_document(DOCUMENTS))
    ranks = [int((row > row[i]).sum()) for i, row in enumerate(cosines)]
    wanted = np.mean([1 / np.log2(rank + 2) if rank < 10 else 0 for rank in ranks])
    assert _scores(model, Retrieval())["ndcg_at_10"] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("task", "kind", "method", "name"),
    [
        (Retrieval, PromptType.query, "encode_query", None),
        (Retrieval, PromptType.document, "encode_document", None),
        (Retrieval, None, "encode", None),
        (Similarity, None, "encode", "STS"),
    ],
)
def test_vectors_are_the_encoders(
    model: EdgeBertEncoder, encoder: Embedder, task: Any, kind: PromptType | None, method: str, name: str | None
) -> None:
    batches = [{"text": TEXTS[:30]}, {"text": TEXTS[30:]}]
    found = model.encode(batches, task_metadata=task.metadata, hf_split="test", hf_subset="default", prompt_type=kind)
    assert found.tolist() == getattr(encoder, method)(TEXTS, prompt_name=name).tolist()


def test_own_prompts_go_before_the_models(encoder: Embedder) -> None:
    model = EdgeBertEncoder(encoder, query_prompt="the dog ", document_prompt="", truncate_dim=8)
    where = {"task_metadata": Retrieval.metadata, "hf_split": "test", "hf_subset": "default", "batch_size": 7}
    found = model.encode([{"text": TEXTS}], prompt_type=PromptType.query, **where)
    assert found.tolist() == encoder.encode(TEXTS, prompt="the dog ", truncate_dim=8, batch_size=7).tolist()
    found = model.encode([{"text": TEXTS}], prompt_type=PromptType.document, **where)
    assert found.tolist() == encoder.encode(TEXTS, truncate_dim=8, batch_size=7).tolist()


def test_it_is_an_encoder_to_mteb(model: EdgeBertEncoder, prompted: Path, encoder: Embedder) -> None:
    assert isinstance(model, EncoderProtocol)
    meta = model.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.max_tokens) == ("edgebert/bundle", 64, 48)
    assert meta.experiment_kwargs == {"engine": "onnxruntime", "precision": "int8"}
    assert meta.framework == ["ONNX"]
    other = EdgeBertEncoder(encoder, truncate_dim=8, query_prompt="x").mteb_model_meta
    assert (other.embed_dim, other.revision) == (8, meta.revision)
    assert other.experiment_kwargs == {**meta.experiment_kwargs, "truncate_dim": 8, "query_prompt": "x"}


def test_similarities_are_cosines(model: EdgeBertEncoder) -> None:
    a, b = np.eye(3, dtype=np.float32), 2 * np.eye(3, dtype=np.float32)[::-1].copy()
    assert model.similarity(a, b).tolist() == np.eye(3)[::-1].tolist()
    assert model.similarity_pairwise(a, b).tolist() == [0, 1, 0]


def test_another_model_has_another_revision(model: EdgeBertEncoder, tiny_bundle: Path) -> None:
    assert EdgeBertEncoder(tiny_bundle, **ENGINE).mteb_model_meta.revision != model.mteb_model_meta.revision


def test_batches_without_text_are_refused(model: EdgeBertEncoder) -> None:
    with pytest.raises(DataError, match="MadeUpRetrieval has image in its batches and no text"):
        model.encode([{"image": []}], task_metadata=Retrieval.metadata, hf_split="test", hf_subset="default")
