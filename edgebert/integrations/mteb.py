"""MTEB's encoder protocol: `mteb.evaluate(EdgeBertEncoder("bundle/"), tasks)`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.embedder import Embedder
from edgebert.engines.base import Vectors
from edgebert.errors import DataError, MissingExtraError
from edgebert.integrations.options import EncodeOptions, LoadOptions
from edgebert.manifest import manifest_bytes
from edgebert.vectors import row_cosines

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import get_prompt_name
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType
except ImportError as problem:
    raise MissingExtraError(problem.name or "mteb", "mteb", "edgebert.integrations.mteb") from None

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mteb.abstasks.task_metadata import TaskMetadata

_FRAMEWORKS: Mapping[str, Any] = {"onnxruntime": "ONNX", "openvino": "OpenVINO", "torch": "PyTorch"}


class EdgeBertEncoder:
    """An encoder for `mteb.evaluate`: queries by `encode_query`, documents by `encode_document`, the rest by `encode`.

    A prompt of the model that is named as MTEB names them (task, task type, or these with "-query") goes before its
    own for queries and documents, and `query_prompt` and `document_prompt` before all. Results are kept under the
    bundle's name and the hash of its manifest, with engine and precision. Options: see `edgebert.load` and
    `EncodeOptions`; a batch_size in MTEB's encode_kwargs goes before the one here.
    """

    def __init__(
        self, model: Embedder | str | Path, *, engine: str = "auto", precision: str = "auto",
        threads: int | None = None, revision: str | None = None, batch_size: int | None = None,
        truncate_dim: int | None = None, query_prompt: str | None = None, document_prompt: str | None = None,
    ) -> None:  # fmt: skip
        self.encoder = LoadOptions(engine, precision, threads, revision).open(model)
        self.options = EncodeOptions(batch_size, truncate_dim, query_prompt, document_prompt)
        self.mteb_model_meta = _meta(self.encoder, self.options)

    def encode(
        self, inputs: Iterable[Mapping[str, Any]], *, task_metadata: TaskMetadata, hf_split: str, hf_subset: str,
        prompt_type: PromptType | None = None, batch_size: int | None = None, show_progress_bar: bool = False,
    ) -> Vectors:  # fmt: skip
        """The vectors of all batches of `inputs`, each with its texts under "text". Shape: (texts, kept dimensions).

        Raises: DataError for batches without texts.
        """
        texts = [text for batch in inputs for text in _texts(batch, task_metadata.name)]
        asked = {PromptType.query: self.options.query_prompt, PromptType.document: self.options.document_prompt}
        prompt = None if prompt_type is None else asked[prompt_type]
        name = None if prompt is not None else get_prompt_name(dict(self.encoder.prompts), task_metadata, prompt_type)
        by_type = {PromptType.query: self.encoder.encode_query, PromptType.document: self.encoder.encode_document}
        encode = self.encoder.encode if prompt_type is None else by_type[prompt_type]
        return encode(
            texts, batch_size=batch_size or self.options.batch_size, show_progress_bar=show_progress_bar,
            truncate_dim=self.options.truncate_dim, prompt=prompt, prompt_name=name,
        )  # fmt: skip

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Vectors:
        """The cosine of every vector with every other. Shape: (n, dim), (m, dim) -> (n, m)."""
        return self.encoder.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Vectors:
        """The cosine of each vector with the one in its place. Shape: (n, dim), twice -> (n,)."""
        pairs = (np.atleast_2d(np.asarray(e, np.float32)) for e in (embeddings1, embeddings2))
        return row_cosines(*pairs).astype(np.float32)


def _texts(batch: Mapping[str, Any], task: str) -> list[str]:
    if "text" not in batch:
        raise DataError(f"{task} has {', '.join(batch)} in its batches and no text: only text can be encoded")
    texts: list[str] = batch["text"]
    return texts


def _meta(encoder: Embedder, options: EncodeOptions) -> ModelMeta:
    """What MTEB keeps with the results."""
    bundle = encoder.bundle
    name = bundle.source if bundle.source.count("/") == 1 and not Path(bundle.source).exists() else None
    different = {k: v for k, v in vars(options).items() if k != "batch_size" and v is not None}
    return ModelMeta(
        loader=None, name=name or f"edgebert/{Path(bundle.source).resolve().name}",
        revision=hashlib.sha256(manifest_bytes(bundle.manifest)).hexdigest()[:16], release_date=None, languages=None,
        n_parameters=None, memory_usage_mb=None, max_tokens=encoder.max_length,
        embed_dim=options.truncate_dim or encoder.dimension, license=None, open_weights=True,
        public_training_code=None, public_training_data=None, framework=[_FRAMEWORKS[encoder.engine]],
        similarity_fn_name=ScoringFunction.COSINE, use_instructions=bool(encoder.prompts), training_datasets=None,
        experiment_kwargs={"engine": encoder.engine, "precision": encoder.precision, **different},
    )  # fmt: skip
