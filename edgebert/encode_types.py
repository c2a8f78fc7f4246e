"""What `Embedder.encode` and its two kin return, told by the literal `precision`; types alone, nothing runs here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgebert.compact import BinaryVectors, Compact, Int8Vectors, VectorPrecision
    from edgebert.vectors import Vectors

Texts = str | Sequence[str] | NDArray[np.str_]


class Encode(Protocol):
    """An encoding method, bound."""

    @overload
    def __call__(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: Literal["float32"] = "float32",
    ) -> Vectors: ...  # fmt: skip
    @overload
    def __call__(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: Literal["int8"],
    ) -> Int8Vectors: ...  # fmt: skip
    @overload
    def __call__(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: Literal["binary"],
    ) -> BinaryVectors: ...  # fmt: skip
    @overload
    def __call__(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: VectorPrecision,
    ) -> Vectors | Compact: ...  # fmt: skip


class AsyncEncode(Protocol):
    """`aencode`, bound."""

    @overload
    async def __call__(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: Literal["float32"] = "float32",
    ) -> Vectors: ...  # fmt: skip
    @overload
    async def __call__(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: Literal["int8"],
    ) -> Int8Vectors: ...  # fmt: skip
    @overload
    async def __call__(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: Literal["binary"],
    ) -> BinaryVectors: ...  # fmt: skip
    @overload
    async def __call__(
        self, sentences: Texts, *, batch_size: int | None = None, show_progress_bar: bool = False,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None, precision: VectorPrecision,
    ) -> Vectors | Compact: ...  # fmt: skip


class _Method(Protocol):
    """An encoding method in its class."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Encode: ...


def typed_by_precision(method: Callable[..., Any]) -> _Method:
    """`method` itself, with the types of `Encode`."""
    return cast(_Method, method)


class _AsyncMethod(Protocol):
    """`aencode` in its class."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> AsyncEncode: ...


def typed_by_precision_async(method: Callable[..., Any]) -> _AsyncMethod:
    """`method` itself, with the types of `AsyncEncode`."""
    return cast(_AsyncMethod, method)
