"""What every adapter is given: a model with how to load it, and how to encode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgebert.embedder import Embedder
from edgebert.encode_types import Texts
from edgebert.engines.base import Vectors
from edgebert.errors import RecipeError
from edgebert.loading import load


@dataclass(frozen=True)
class LoadOptions:
    """The options of `edgebert.load`."""

    engine: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    revision: str | None = None

    def open(self, model: Embedder | str | Path) -> Embedder:
        """`model` itself where it is an Embedder, else what `edgebert.load` opens by that name or path.

        Raises: RecipeError for load options beside an Embedder, which is loaded already, and for anything that is
        neither; else as `edgebert.load`.
        """
        if isinstance(model, Embedder):
            for name, default in vars(LoadOptions()).items():
                if (value := getattr(self, name)) != default:
                    raise RecipeError(f"{name} is {value!r}, but the model is loaded already: give it to edgebert.load")
            return model
        if not isinstance(model, str | Path):
            kind = type(model).__name__
            raise RecipeError(f"model is {model!r:.80} ({kind}); an Embedder, a path or a name is needed")
        return load(
            model, engine=self.engine, precision=self.precision, threads=self.threads, revision=self.revision,
            task="embedding",
        )  # fmt: skip


@dataclass(frozen=True)
class EncodeOptions:
    """How texts become vectors.

    A prompt is text put before every input; None leaves it to the model: its prompt "query" for queries, "document",
    "passage" or "corpus" for documents, its default one else. "" is none at all.
    """

    batch_size: int | None = None
    truncate_dim: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None

    def query(self, encoder: Embedder, texts: Texts) -> Vectors:
        """The vectors of queries. Shape: (len(texts), kept dimensions), or (kept dimensions,) for one string."""
        return encoder.encode_query(
            texts, batch_size=self.batch_size, truncate_dim=self.truncate_dim, prompt=self.query_prompt
        )

    def document(self, encoder: Embedder, texts: Texts) -> Vectors:
        """The vectors of documents. Shape: as `query`."""
        return encoder.encode_document(
            texts, batch_size=self.batch_size, truncate_dim=self.truncate_dim, prompt=self.document_prompt
        )


def model_name(model: Embedder | str | Path) -> str:
    """The name or path that `model` was asked for by."""
    return model.bundle.source if isinstance(model, Embedder) else str(model)


def named(model: Embedder | str | Path, doing: str) -> str:
    """The name or path `model`, for what is written down and opened again.

    Raises: RecipeError for an Embedder, whose name alone does not say how it was loaded.
    """
    if isinstance(model, Embedder):
        raise RecipeError(f"{doing} needs the model's name or path, not {model!r}: make it with one")
    return str(model)
