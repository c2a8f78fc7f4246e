"""What a graph takes and gives: as its artifact says, else as the graph itself says when it is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebert.engines.base import Ids
from edgebert.errors import EngineError
from edgebert.manifest import OFFSET_POSITIONS, OUTPUT, Artifact, Manifest

SPAN_OUTPUTS = ("start_logits", "end_logits")  # transformers' names, in files that others exported
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")  # optimum's name, and sentence-transformers'
_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
# As ONNX Runtime and OpenVINO name them.
_TYPES: Mapping[str, type[np.integer[Any]]] = {
    "tensor(int64)": np.int64,
    "i64": np.int64,
    "tensor(int32)": np.int32,
    "i32": np.int32,
}


@dataclass(frozen=True)
class Signature:
    """inputs: their types by name; output: the vectors', "" where there is none; outputs: those of `Engine.answer`;
    first_position: None where positions are 0, 1 .., else the padding id, behind which they are counted."""

    inputs: Mapping[str, type[np.integer[Any]]]
    output: str
    first_position: int | None = None
    outputs: tuple[str, ...] = ()

    def feed(self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None) -> dict[str, Any]:
        """The graph's inputs by name. Token types are zeros by default: one text is one segment. Shape: each (batch,
        seq_len)."""
        return {
            name: self._input(name, input_ids, attention_mask, token_types).astype(t, copy=False)
            for name, t in self.inputs.items()
        }

    def gathered(self, found: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
        """What `Engine.answer` gives, of `outputs`: start and end are one answer. Shape: (batch, seq_len, 2) of it."""
        return (np.stack(found, axis=-1),) if self.outputs == SPAN_OUTPUTS else tuple(found)

    def _input(self, name: str, input_ids: Ids, attention_mask: Ids, token_types: Ids | None) -> Ids:
        if name == "input_ids":
            return input_ids
        if name == "attention_mask":
            return attention_mask
        if name != "position_ids":
            return np.zeros_like(input_ids) if token_types is None else token_types
        if self.first_position is not None:
            return np.cumsum(attention_mask, axis=1) * attention_mask + self.first_position
        return np.ascontiguousarray(np.broadcast_to(np.arange(input_ids.shape[1]), input_ids.shape))


def require_vectors(output: str, path: Path) -> None:
    """Raises: EngineError where `output`, a signature's, says that there are none."""
    if not output:
        raise EngineError(f"{path} gives logits alone and no vectors: it was exported for a task")


def settle(
    artifact: Artifact, manifest: Manifest, path: Path, inputs: Mapping[str, str], outputs: Iterable[str],
    asked: Sequence[str] = (),
) -> Signature:  # fmt: skip
    """How the graph in `path` is called. inputs: the engine's names of their types; outputs: all names it gives; asked:
    those of `Engine.answer`.

    A graph without vectors is one that others exported for a task. Raises: EngineError when it takes what a sentence
    encoder has not, or gives nothing that is known.
    """
    given = list(outputs)
    wanted = (artifact.output,) if artifact.output else (OUTPUT, *TOKEN_OUTPUTS)
    output = next((name for name in wanted if name in given), "")
    if asked and not set(asked) <= set(given) and set(SPAN_OUTPUTS) <= set(given):
        asked = SPAN_OUTPUTS
    if not output and (artifact.output or not asked):
        raise EngineError(f"{path} gives {', '.join(given) or 'nothing'}; it must give {' or '.join(wanted)}")
    if absent := [name for name in asked if name not in given]:
        raise EngineError(f"{path} gives {', '.join(given)}; it must give {absent[0]}")
    names = artifact.inputs or tuple(inputs)
    for name in names:
        if name not in _INPUTS or inputs.get(name) not in _TYPES:
            raise EngineError(
                f"{path} takes {', '.join(f'{n} ({t})' for n, t in inputs.items())}; it must take "
                f"{', '.join(artifact.inputs or _INPUTS[:2])} and may take {', '.join(_INPUTS[2:])}, as int64 or int32"
            )
    if "input_ids" not in names:
        raise EngineError(f"{path} takes {', '.join(names) or 'nothing'}; it must take input_ids")
    offset = manifest.pad_token_id if manifest.architecture in OFFSET_POSITIONS else None
    types = {name: _TYPES[inputs[name]] for name in names}
    return Signature(types, output, offset, tuple(asked) or (output,))
