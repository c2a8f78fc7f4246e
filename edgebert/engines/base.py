"""What an engine is to the rest of EdgeBERT."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgebert.errors import EngineError
from edgebert.manifest import Artifact

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

# The number format in which an engine may compute what is float in the file.
Hint = Literal["f32", "bf16", "f16"]
_FLOAT: dict[Hint, str] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class Engine(Protocol):
    """One variant of a bundle, ready to run; `precision` is the variant's. Calls may come from several threads."""

    name: str
    precision: str

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """Shape: both inputs (batch, seq_len) -> (batch, dimension), float32, an array of the caller's own.

        Raises: EngineError when the engine fails.
        """

    def answer(
        self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None
    ) -> tuple[NDArray[np.float32], ...]:
        """The outputs that it was opened for, in their order; where it was opened for none, the vectors alone.

        Shape: inputs (batch, seq_len); token_types: 1 on the second segment, zeros by default.
        Raises: EngineError when the engine fails.
        """

    def close(self) -> None:
        """Frees the model; the engine cannot be used afterwards."""


def precision_of(artifact: Artifact, hint: Hint) -> str:
    """What is asked for and told: "int8" under any hint; an fp32 file is "bf16" or "fp16" under these, never "fp32"."""
    return _FLOAT[hint] if artifact.precision == "fp32" else artifact.precision


def in_words(engine: str, precision: str, hint: str, unproven: str = "") -> str:
    """What runs, the hint only when it is not f32: "openvino int8", "openvino int8 (hint bf16)".

    unproven: the file that runs where no golden vectors prove it.
    """
    told = [f"hint {hint}"] * (hint != "f32") + [f"{unproven}, not proven"] * bool(unproven)
    return f"{engine} {precision}" + "".join(f" ({what})" for what in told)


def feed(names: tuple[str, ...], input_ids: Ids, attention_mask: Ids) -> dict[str, Any]:
    """The graph's inputs by name. A graph that asks for token types gets zeros: one text is one segment."""
    known = {"input_ids": input_ids, "attention_mask": attention_mask}
    return {name: known[name] if name in known else np.zeros_like(input_ids) for name in names}


@contextlib.contextmanager
def engine_errors(faults: tuple[type[Exception], ...], doing: str) -> Iterator[None]:
    """Turns an engine's own exceptions into one EngineError; `doing` says what failed."""
    try:
        yield
    except faults as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise EngineError(f"{doing}: {reason[:500]}") from None
