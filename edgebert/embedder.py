"""The runtime object for sentence vectors: what a user calls. How texts run is `edgebert.runner`'s."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike

from edgebert import vectors as vector_math
from edgebert.bundle import Bundle
from edgebert.devices import Placement
from edgebert.encode_types import Texts
from edgebert.encoding import Asked, Encoding
from edgebert.engines.base import Engine, Hint, Vectors
from edgebert.errors import DataError, RecipeError
from edgebert.model import Model, is_whole
from edgebert.plan import Plan
from edgebert.progress import Progress, TerminalProgress
from edgebert.runner import Reopen
from edgebert.tokenizer import Tokenizer

if TYPE_CHECKING:
    from edgebert.compact import Compact

_CHUNK = 8192  # texts tokenized and sorted together: enough for tight batches, little enough to hold


class Embedder(Model, Encoding):
    """Texts to sentence vectors; see `Model`."""

    what = "encoder"

    def __init__(
        self, bundle: Bundle, engine: Engine, *, tokenizer: Tokenizer | None = None, hint: Hint = "f32",
        plan: Plan | None = None, reopen: Reopen | None = None, unproven: str = "", placement: Placement | None = None,
    ) -> None:  # fmt: skip
        Encoding.__init__(self)
        Model.__init__(
            self, bundle, engine, tokenizer=tokenizer, hint=hint, plan=plan, reopen=reopen, unproven=unproven,
            placement=placement,
        )  # fmt: skip

    @property
    def dimension(self) -> int:
        """The width of the vectors."""
        return self.bundle.manifest.dimension

    @property
    def prompts(self) -> Mapping[str, str]:
        """The model's prompts: name -> text put before the input."""
        return self.bundle.manifest.prompts

    def _encoded(self, sentences: Texts, asked: Asked) -> Vectors | Compact:
        """See `Encoding._encoded`."""
        texts = as_texts(sentences)
        if asked.precision != "float32":
            from edgebert.compact import require_precision

            require_precision(asked.precision, normalized=asked.normalize_embeddings)
        batch_size = asked.batch_size
        if batch_size is not None and (not is_whole(batch_size) or batch_size < 1):
            raise RecipeError(f"batch_size is {batch_size!r}; it must be 1 or more, or None")
        runner = self._running()
        out = np.empty((len(texts), self._kept(asked.truncate_dim)), np.float32)
        if before := self._prompt(asked):
            texts = [before + text for text in texts]
        with TerminalProgress() if asked.show_progress_bar else contextlib.nullcontext(Progress()) as progress:
            progress.start("encode", len(texts))
            for start in range(0, len(texts), _CHUNK):
                chunk = slice(start, start + _CHUNK)
                runner.run(texts[chunk], out[chunk], None if batch_size is None else int(batch_size), progress)
        if asked.normalize_embeddings and (out.shape[1] < self.dimension or not self.bundle.manifest.normalize):
            vector_math.normalize_rows(out)
        vectors: Vectors | Compact = out
        if asked.precision != "float32":
            from edgebert.compact import coded

            vectors = coded(out, asked.precision)
        return cast("Vectors | Compact", vectors[0]) if isinstance(sentences, str) else vectors

    def encode_stream(
        self, sentences: Iterable[str], *, chunk_size: int = 1024, batch_size: int | None = None,
        normalize_embeddings: bool = True, truncate_dim: int | None = None, prompt: str | None = None,
        prompt_name: str | None = None,
    ) -> Iterator[Vectors]:  # fmt: skip
        """The vector of each of `sentences`, in their order, as `encode` gives it; the input may be endless.

        chunk_size: so many texts are read, encoded and held at a time. Shape: (dimension,) each.
        Raises: as `encode`, when it comes to the chunk with the text; RecipeError for an option at once.
        """
        if not is_whole(chunk_size) or chunk_size < 1:
            raise RecipeError(f"chunk_size is {chunk_size!r}; it must be 1 or more")
        if isinstance(sentences, str | bytes) or not isinstance(sentences, Iterable):
            raise DataError(f"sentences are {sentences!r:.80}; something that gives strings one by one is needed")

        asked = Asked(batch_size, False, normalize_embeddings, truncate_dim, prompt, prompt_name)

        def encode(number: int, texts: list[str]) -> Vectors:
            return cast(Vectors, self._encoded(as_texts(texts, before=number * int(chunk_size)), asked))

        encode(0, [])  # options are checked now, not when the first text comes
        source = iter(sentences)
        chunks = iter(lambda: list(itertools.islice(source, int(chunk_size))), [])
        return itertools.chain.from_iterable(map(encode, itertools.count(), chunks))

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Vectors:
        """The cosine of every vector of `a` with every one of `b`. Shape: (n, dim), (m, dim) -> (n, m), float32."""
        return vector_math.similarity(a, b)

    def close(self) -> None:
        """Frees the model. Calls afterwards raise EngineError; closing twice is fine."""
        self.end_threads()
        Model.close(self)

    def renew_after_fork(self) -> None:
        """See `forking.Renewable`."""
        Encoding.renew_after_fork(self)
        Model.renew_after_fork(self)

    def _kept(self, truncate_dim: int | None) -> int:
        if truncate_dim is None:
            return self.dimension
        if not is_whole(truncate_dim) or not 1 <= truncate_dim <= self.dimension:
            raise RecipeError(f"truncate_dim is {truncate_dim!r}; it must be 1 to {self.dimension}, the model's width")
        return truncate_dim

    def _prompt(self, asked: Asked) -> str:
        """The text to put before every sentence, "" for none."""
        manifest, prompt, prompt_name = self.bundle.manifest, asked.prompt, asked.prompt_name
        if prompt is None and prompt_name is None:
            prompt_name = next((name for name in asked.first_of if name in self.prompts), None)
        for name, value in (("prompt", prompt), ("prompt_name", prompt_name)):
            if value is not None and not isinstance(value, str):
                raise RecipeError(f"{name} is {value!r:.80}; it must be a string")
        if prompt is not None and prompt_name is not None:
            raise RecipeError(f"prompt {prompt!r} and prompt_name {prompt_name!r} are both given: give one")
        if prompt is None:
            prompt_name = prompt_name if prompt_name is not None else manifest.default_prompt_name
            if prompt_name is not None and prompt_name not in self.prompts:
                known = ", ".join(sorted(self.prompts)) or "none"
                raise RecipeError(f"the model has no prompt {prompt_name!r}; it has {known}")
            prompt = "" if prompt_name is None else self.prompts[prompt_name]
        if prompt and not manifest.include_prompt:
            raise RecipeError(
                "this model leaves the prompt's tokens out of its pooling, which the exported graph cannot: "
                'encode without a prompt (prompt="")'
            )
        return prompt


def as_texts(sentences: Texts, *, before: int = 0, name: str = "sentences") -> list[str]:
    """`sentences` as a list of strings. before: so many came before these; name: what they are called, in messages.

    Raises: DataError naming the place and the value of anything that is no string.
    """
    if isinstance(sentences, str):
        return [sentences]
    if isinstance(sentences, bytes) or not isinstance(sentences, Sequence | np.ndarray):
        kind = type(sentences).__name__
        shown = " ".join(repr(sentences).split())
        raise DataError(f"{name} are {shown:.80} ({kind}); a string or a list of strings is needed")
    texts: list[str] = np.atleast_1d(sentences).tolist() if isinstance(sentences, np.ndarray) else list(sentences)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{name}[{before + i}] is {text!r:.80} ({type(text).__name__}); every one must be a string")
    return texts
