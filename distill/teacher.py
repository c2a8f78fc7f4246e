"""The teacher's sentence vectors and hidden states of a corpus, computed once by the fastest engine that is exact.

See `edgebert.distill.shards`: the folder is named by the teacher's weights, the engine that answered and its precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebert.batching import pad
from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.distill.corpus import require_disk
from edgebert.distill.fast_teacher import Choice, TeacherEngine, choose, open_teacher
from edgebert.distill.ragged import Ragged
from edgebert.distill.shards import Answer, Kind, Shards
from edgebert.files import sha256
from edgebert.pretrained import hidden_size, read_config

SHARD_ROWS = 4096
_BATCH = 64


class TeacherCache(Shards):
    """The teacher's sentence vectors and, where `hidden` is wanted, last hidden states of every text, in float16.

    ids: the teacher's token ids, one row a text.
    """

    def __init__(self, teacher: Bundle, ids: Ragged, *, hidden: bool, precision: str) -> None:
        self.teacher, self.ids, self.hidden, self.precision = teacher, ids, hidden, precision
        self.weights = fingerprint(teacher)
        self.width = hidden_size(read_config(teacher.root))
        kinds = [Kind("vectors", False), Kind("states", True)][: 1 + hidden]
        super().__init__(ids.lengths, kinds, size=SHARD_ROWS, batch=_BATCH)

    @cached_property
    def choice(self) -> Choice:
        """The engine that answers here; finding it out loads the teacher, once on a machine."""
        return choose(self.teacher, self.precision, self.weights)

    @cached_property
    def folder(self) -> Path:
        """See `Shards`."""
        settings = {"weights": self.weights, "engine": self.choice.engine, "format": 2}
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
        return cache_folder("teachers") / name

    def name(self, rows: range) -> str:
        """See `Shards`."""
        digest, ids = hashlib.sha256(), self.ids
        digest.update(np.ascontiguousarray(ids.lengths[rows.start : rows.stop]).tobytes())
        digest.update(np.ascontiguousarray(ids.values[ids.offsets[rows.start] : ids.offsets[rows.stop]]).tobytes())
        return digest.hexdigest()[:32]

    def opened(self, shards: Sequence[int]) -> Answer:
        """See `Shards`."""
        states = self.tokens(shards) * self.width if self.hidden else 0
        size = 2 * (self.count(shards) * self.teacher.manifest.dimension + states)
        require_disk(self.folder, size, "the cache of the teacher's vectors")
        return partial(self._answers, open_teacher(self.teacher, self.precision, self.choice))

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """The sentence vectors of texts `rows`. Shape: (len(rows), dimension)."""
        return np.stack([self.of("vectors", int(row)) for row in rows])

    def states(self, row: int) -> NDArray[np.float16]:
        """The last hidden states of text `row`. Shape: (its tokens, width)."""
        return self.of("states", row)

    def _answers(self, engine: TeacherEngine, rows: Sequence[int]) -> list[NDArray[Any]]:
        answers = engine.answer(*pad([self.ids[row] for row in rows], self.teacher.manifest.pad_token_id))
        return [answers.vectors, answers.states] if self.hidden else [answers.vectors]


def reading_of(model: Bundle) -> str:
    """SHA-256 of what decides which tokens a model reads in a text, and how it makes one vector of them."""
    manifest, tokenizer = model.manifest, model.root / "tokenizer.json"
    facts = [
        sha256(tokenizer) if tokenizer.exists() else "", manifest.max_length, dict(manifest.prompts),
        manifest.default_prompt_name, manifest.pooling, manifest.normalize,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def fingerprint(model: Bundle) -> str:
    """SHA-256 over the weights, configuration and modules of a model: what its vectors depend on."""
    names = sorted(
        p for p in model.root.rglob("*")
        if p.is_file() and (p.suffix in (".safetensors", ".bin") or p.name in ("config.json", "modules.json"))
        and not {"onnx", "openvino"} & set(p.relative_to(model.root).parts)
    )  # fmt: skip
    digest = hashlib.sha256()
    for path in names:
        digest.update(f"{path.relative_to(model.root).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()
