"""A scikit-learn transformer: texts to vectors, before any classifier, regressor or clusterer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.embedder import Embedder
from edgebert.engines.base import Vectors
from edgebert.errors import DataError, MissingExtraError
from edgebert.integrations.options import LoadOptions, named

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
except ImportError as problem:
    raise MissingExtraError(problem.name or "sklearn", "scikit-learn", "edgebert.integrations.scikit_learn") from None


class EdgeBertVectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Texts to vectors in a scikit-learn pipeline. Nothing is learnt: `fit` opens the model and is not required.

    model: a name or path, opened with the load options at the first use, or an Embedder. Clones share the opened
    model. Pickled it is the name and the options, and opens the model again at its next use; with an Embedder it
    cannot be pickled. prompt: text put before every text; None is the model's default one, "" none.
    Options: see `edgebert.load` and `Embedder.encode`.
    """

    def __init__(
        self, model: Embedder | str | Path, *, engine: str = "auto", precision: str = "auto",
        threads: int | None = None, revision: str | None = None, batch_size: int | None = None,
        truncate_dim: int | None = None, prompt: str | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.engine = engine
        self.precision = precision
        self.threads = threads
        self.revision = revision
        self.batch_size = batch_size
        self.truncate_dim = truncate_dim
        self.prompt = prompt

    def fit(self, X: Any, y: Any = None) -> EdgeBertVectorizer:
        """Itself, the model opened and `X` checked, not encoded.

        Raises: DataError for what are no texts; RecipeError for an option out of range; as `edgebert.load`.
        """
        _texts(X)
        self._encode([])  # the options' faults show here, not after minutes of a grid search
        return self

    def transform(self, X: Any) -> Vectors:
        """The vectors of the texts `X`, a list, a 1-D array or a column. Shape: (len(X), kept dimensions), float32.

        Raises: as `fit`.
        """
        return self._encode(_texts(X))

    def _encode(self, texts: list[str]) -> Vectors:
        return self._encoder().encode(
            texts, batch_size=self.batch_size, truncate_dim=self.truncate_dim, prompt=self.prompt
        )

    def _encoder(self) -> Embedder:
        """The model, opened at the first call, and again when a parameter of its loading was changed."""
        asked = (self.model, LoadOptions(self.engine, self.precision, self.threads, self.revision))
        opened = self.__dict__.get("_opened")
        if opened is None or opened[0] != asked:
            self._opened = opened = (asked, asked[1].open(self.model))
        encoder: Embedder = opened[1]
        return encoder

    @property
    def _n_features_out(self) -> int:
        return self.truncate_dim or self._encoder().dimension

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_clone__(self) -> EdgeBertVectorizer:
        """A copy with the same parameters that shares the opened model: an Embedder has no copies."""
        clone = type(self)(**self.get_params(deep=False))
        for name in ("_opened", "_metadata_request", "_sklearn_output_config"):
            if name in self.__dict__:
                value = self.__dict__[name]
                setattr(clone, name, value if name == "_opened" else copy.deepcopy(value))
        return clone

    def __getstate__(self) -> dict[str, Any]:
        """Raises: RecipeError when it was made with an Embedder."""
        named(self.model, "pickling a vectorizer")
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_opened"}


def _texts(X: Any) -> list[str]:
    """The texts of a list, a 1-D array or a column of a data frame.

    Raises: DataError for one string, for several columns, and naming the place of what is no string.
    """
    shape = getattr(X, "shape", None)
    if isinstance(X, str | bytes) or not hasattr(X, "__len__") or (shape is not None and len(shape) != 1):
        got = f"{X!r:.80}" if shape is None else f"of shape {tuple(shape)}"
        raise DataError(
            f"X is {got}; a list of strings or one column is needed (in a ColumnTransformer 'a', not ['a'])"
        )
    texts = np.asarray(X, dtype=object).tolist() if shape is not None else list(X)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"X[{i}] is {text!r:.80} ({type(text).__name__}); every one must be a string")
    return texts
