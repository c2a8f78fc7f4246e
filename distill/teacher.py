"""The teacher's answers, computed once: float16 shards on disk, named by what they hold.

A shard's name is a hash of its texts, in a folder named by a hash of the teacher's weights, the engine that answered
and its precision. So a broken run goes on where it stopped, a corpus that shares a stretch of text shares its shards,
and nothing can be mixed up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray

from edgebert.batching import length_batches, pad
from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.distill.corpus import require_disk
from edgebert.distill.fast_teacher import Choice, TeacherEngine, choose, open_teacher
from edgebert.distill.ragged import Ragged
from edgebert.files import new_file, sha256
from edgebert.pretrained import hidden_size, read_config
from edgebert.progress import Progress

SHARD_ROWS = 4096
_BATCH = 64


class Kept(Protocol):
    """Answers in shards on disk; see `TeacherCache`."""

    def missing(self) -> list[int]: ...
    def count(self, shards: Sequence[int]) -> int: ...
    def fill(self, shards: Sequence[int], progress: Callable[[int], None] = ...) -> None: ...
    def __len__(self) -> int: ...


def fill_together(kept: Kept, what: str, state: PartialState, progress: Progress) -> None:
    """Each process computes its share of the missing shards, then all wait. what: is computed, in words."""
    missing = kept.missing()
    state.wait_for_everyone()
    known = len(kept) - kept.count(missing)
    progress.start(what, len(kept))
    progress.advance(known, note="from the cache" if known else "")
    kept.fill(missing[state.process_index :: state.num_processes], lambda n: progress.advance(n * state.num_processes))
    state.wait_for_everyone()


class TeacherCache:
    """The teacher's sentence vectors and, where `hidden` is wanted, last hidden states of every text.

    ids: the teacher's token ids, one row a text. folder: shards lie here.
    """

    def __init__(self, teacher: Bundle, ids: Ragged, *, hidden: bool, precision: str) -> None:
        self.teacher, self.ids, self.hidden, self.precision = teacher, ids, hidden, precision
        self.weights = fingerprint(teacher)
        self.width = hidden_size(read_config(teacher.root))
        self._names = [self._shard_name(s) for s in range(self.shards)]
        self._vectors: list[NDArray[np.float16] | None] = [None] * self.shards
        self._states: list[NDArray[np.float16] | None] = [None] * self.shards

    @cached_property
    def choice(self) -> Choice:
        """The engine that answers here; finding it out loads the teacher, once on a machine."""
        return choose(self.teacher, self.precision, self.weights)

    @cached_property
    def folder(self) -> Path:
        settings = {"weights": self.weights, "engine": self.choice.engine, "format": 2}
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
        return cache_folder("teachers") / name

    @property
    def shards(self) -> int:
        return -(-len(self.ids) // SHARD_ROWS)

    def missing(self) -> list[int]:
        """The numbers of the shards that are not on disk yet."""
        return [s for s in range(self.shards) if not all(is_array(path) for path in self._paths(s))]

    def __len__(self) -> int:
        return len(self.ids)

    def count(self, shards: Sequence[int]) -> int:
        """How many texts those shards have."""
        return sum(len(range(*self._rows(s).indices(len(self.ids)))) for s in shards)

    def fill(self, shards: Sequence[int], progress: Callable[[int], None] = lambda rows: None) -> None:
        """Computes those shards; `progress` is told the number of texts after each batch.

        Raises: BudgetError when the disk cannot hold them.
        """
        if not shards:
            return
        tokens = sum(int(self.ids.lengths[self._rows(s)].sum()) for s in shards)
        size = 2 * (self.count(shards) * self.teacher.manifest.dimension + (tokens * self.width if self.hidden else 0))
        require_disk(self.folder, size, "the cache of the teacher's vectors")
        engine = open_teacher(self.teacher, self.precision, self.choice)
        for shard in shards:
            self._compute(engine, shard, progress)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """The sentence vectors of texts `rows`. Shape: (len(rows), dimension)."""
        return np.stack([self._shard(self._vectors, int(r) // SHARD_ROWS, 0)[int(r) % SHARD_ROWS] for r in rows])

    def states(self, row: int) -> NDArray[np.float16]:
        """The last hidden states of text `row`. Shape: (its tokens, width)."""
        shard, first = row // SHARD_ROWS, row // SHARD_ROWS * SHARD_ROWS
        start, end = self.ids.offsets[[row, row + 1]] - self.ids.offsets[first]
        return self._shard(self._states, shard, 1)[start:end]

    def _shard(self, kept: list[Any], shard: int, which: int) -> NDArray[np.float16]:
        if kept[shard] is None:
            kept[shard] = np.load(self._paths(shard)[which], mmap_mode="r")
        shard_array: NDArray[np.float16] = kept[shard]
        return shard_array

    def _compute(self, engine: TeacherEngine, shard: int, progress: Callable[[int], None]) -> None:
        first, last, _ = self._rows(shard).indices(len(self.ids))
        ids = [self.ids[r] for r in range(first, last)]
        offsets = self.ids.offsets[first : last + 1] - self.ids.offsets[first]
        vectors = np.empty((last - first, self.teacher.manifest.dimension), np.float16)
        states = np.empty((offsets[-1] if self.hidden else 0, self.width), np.float16)
        for rows in length_batches([len(i) for i in ids], _BATCH):
            input_ids, mask = pad([ids[r] for r in rows], self.teacher.manifest.pad_token_id)
            answers = engine.answer(input_ids, mask)
            vectors[rows] = answers.vectors
            if self.hidden:
                for place, row in enumerate(rows):
                    states[offsets[row] : offsets[row + 1]] = answers.states[place, : len(ids[row])]
            progress(len(rows))
        for path, array in zip(self._paths(shard), (vectors, states), strict=False):
            with new_file(path, replace=True) as partial, partial.open("wb") as stream:
                np.save(stream, array)

    def _rows(self, shard: int) -> slice:
        return slice(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)

    def _paths(self, shard: int) -> list[Path]:
        kinds = ["vectors", "states"] if self.hidden else ["vectors"]
        return [self.folder / f"{self._names[shard]}.{kind}.npy" for kind in kinds]

    def _shard_name(self, shard: int) -> str:
        digest = hashlib.sha256()
        rows = self._rows(shard)
        first, last, _ = rows.indices(len(self.ids))
        digest.update(np.ascontiguousarray(self.ids.lengths[rows]).tobytes())
        digest.update(np.ascontiguousarray(self.ids.values[self.ids.offsets[first] : self.ids.offsets[last]]).tobytes())
        return digest.hexdigest()[:32]


def is_array(path: Path) -> bool:
    """Whether `path` is an array of its full length, as it is not after a power cut."""
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return False
    return True


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
