"""The runtime object for sentence vectors: what a user calls. How texts run is `edgebert.runner`'s."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from types import TracebackType
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike

from edgebert import forking
from edgebert import vectors as vector_math
from edgebert.batching import widths
from edgebert.bundle import Bundle
from edgebert.devices import Placement
from edgebert.encode_types import Texts
from edgebert.encoding import Asked, Encoding
from edgebert.engines.base import Engine, Hint, Vectors, in_words
from edgebert.errors import DataError, EngineError, RecipeError
from edgebert.plan import Plan, one_layout
from edgebert.processor import processor_name
from edgebert.progress import Progress, TerminalProgress
from edgebert.runner import Engines, Reopen, Runner, TokenCount
from edgebert.tokenizer import Tokenizer, open_tokenizer

if TYPE_CHECKING:
    from edgebert.compact import Compact

logger = logging.getLogger(__name__)

_CHUNK = 8192  # texts tokenized and sorted together: enough for tight batches, little enough to hold


class Embedder(Encoding):
    """Texts to sentence vectors, by one artifact of a bundle. Made by `edgebert.load`; a context manager.

    `engine`, `precision` and `hint` are what really runs; `runs` says it in words, `placement` where and why there.
    `unproven`: the file that runs where no golden vectors prove it, else "".
    Calls may come from several threads. `truncated` counts the texts that were longer than `max_length` and were cut.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, *, tokenizer: Tokenizer | None = None, hint: Hint = "f32",
        plan: Plan | None = None, reopen: Reopen | None = None, unproven: str = "", placement: Placement | None = None,
    ) -> None:  # fmt: skip
        self.bundle = bundle
        self.tokenizer = tokenizer or open_tokenizer(bundle)
        self.engine, self.precision, self.hint = engine.name, engine.precision, hint
        self.unproven = unproven
        self.placement = placement or Placement("cpu", engine.name, engine.precision, "cpu", full_name=processor_name())
        self.truncated = 0
        self._lock = threading.Lock()
        chosen = plan or one_layout(1)
        self._runner: Runner | None = Runner(
            Engines(engine, chosen.lone, reopen), chosen, self._ids, max_length=self.max_length,
            pad_token_id=bundle.manifest.pad_token_id,
        )  # fmt: skip
        super().__init__()
        forking.renew(self)

    @property
    def runs(self) -> str:
        """Engine and precision, the hint when it is not f32, the device when it is not the CPU.

        Such as "openvino int8", "openvino int8 (hint bf16)", "openvino int8 (hint f16) on the NPU".
        """
        where = "" if self.placement.device == "cpu" else f" on the {self.placement.device.upper()}"
        return in_words(self.engine, self.precision, self.hint, self.unproven) + where

    @property
    def opened(self) -> Engine:
        """The engine as it was opened, which a lone text runs in.

        Raises: EngineError when the encoder is closed.
        """
        return self._running().engines.first

    @property
    def plan(self) -> Plan:
        """How texts are run here: threads, streams, tokens at a time."""
        return self._running().plan

    @property
    def tokens(self) -> TokenCount:
        """Tokens that were run so far, without and with padding."""
        return self._running().tokens

    @property
    def dimension(self) -> int:
        """The width of the vectors."""
        return self.bundle.manifest.dimension

    @property
    def max_length(self) -> int:
        """The longest input in tokens, special ones included; what goes on after it is cut."""
        return self.bundle.manifest.max_length

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
        if batch_size is not None and (not _is_whole(batch_size) or batch_size < 1):
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
        if not _is_whole(chunk_size) or chunk_size < 1:
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

    def warm_up(self, texts_at_once: int = 1) -> None:
        """Runs every width once, so that no later text waits for an engine to build its kernels; seconds.

        texts_at_once: the most texts of one call that it is to be ready for.
        Raises: RecipeError unless it is 1 or more; EngineError.
        """
        if not _is_whole(texts_at_once) or texts_at_once < 1:
            raise RecipeError(f"texts_at_once is {texts_at_once!r}; it must be 1 or more")
        runner = self._running()
        for width in widths(self.max_length):
            runner.warm_up(width, texts_at_once)

    def open_all(self) -> None:
        """Opens all that a call may need later: no file of the model is read any more, but in a forked child.

        Raises: EngineError.
        """
        from edgebert.engines.static_ladder import StaticLadder  # not above: most models need nothing of it

        if isinstance(self.opened, StaticLadder):
            self.opened.open_all()
        self._running().open_all()

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Vectors:
        """The cosine of every vector of `a` with every one of `b`. Shape: (n, dim), (m, dim) -> (n, m), float32."""
        return vector_math.similarity(a, b)

    def close(self) -> None:
        """Frees the model. Calls afterwards raise EngineError; closing twice is fine."""
        runner, self._runner = self._runner, None
        self.end_threads()
        if runner is not None:
            runner.close()

    def renew_after_fork(self) -> None:
        """See `forking.Renewable`."""
        super().renew_after_fork()
        self._lock = threading.Lock()
        if self._runner is not None:
            self._runner.forget_threads()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        hint = "" if self.hint == "f32" else f", hint={self.hint!r}"
        unproven = f", unproven={self.unproven!r}" if self.unproven else ""
        return f"Embedder({self.bundle.source!r}, engine={self.engine!r}, precision={self.precision!r}{hint}{unproven})"

    def _running(self) -> Runner:
        if (runner := self._runner) is None:
            raise EngineError(f"this encoder of {self.bundle.source} is closed: load the model again")
        return runner

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The texts' token ids; cut texts are counted, and the first one is logged."""
        tokens = self.tokenizer(texts)
        if cut := sum(t.truncated for t in tokens):
            with self._lock:
                first, self.truncated = self.truncated == 0, self.truncated + cut
            if first:
                logger.info("a text is longer than %d tokens and was cut; more are only counted", self.max_length)
        return [t.ids for t in tokens]

    def _kept(self, truncate_dim: int | None) -> int:
        if truncate_dim is None:
            return self.dimension
        if not _is_whole(truncate_dim) or not 1 <= truncate_dim <= self.dimension:
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


def _is_whole(number: object) -> bool:
    """Whether it is an integer, of Python or numpy."""
    return isinstance(number, Integral) and not isinstance(number, bool)


def as_texts(sentences: Texts, *, before: int = 0) -> list[str]:
    """`sentences` as a list of strings. before: so many came before these, in messages.

    Raises: DataError naming the place and the value of anything that is no string.
    """
    if isinstance(sentences, str):
        return [sentences]
    if isinstance(sentences, bytes) or not isinstance(sentences, Sequence | np.ndarray):
        kind = type(sentences).__name__
        raise DataError(f"sentences are {sentences!r:.80} ({kind}); a string or a list of strings is needed")
    texts: list[str] = np.atleast_1d(sentences).tolist() if isinstance(sentences, np.ndarray) else list(sentences)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"sentences[{before + i}] is {text!r:.80} ({type(text).__name__}); every one must be a string"
            )
    return texts
