"""What a teacher's head says of the rows of a task, computed once: shards on disk, named by what they hold.

As `edgebert.distill.teacher` keeps sentence vectors: training asks for the same rows in every epoch, and a broken run
or another recipe finds them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgebert.batching import length_batches, pad
from edgebert.cache import cache_folder
from edgebert.distill.corpus import require_disk
from edgebert.distill.lessons import LessonCollator
from edgebert.distill.task_model import Master
from edgebert.distill.teacher import is_array
from edgebert.files import new_file
from edgebert.tasks.reading import Row, types_of
from edgebert.tasks.task import Lesson

_BATCH, _SHARD = 32, 1024  # rows; those of a context are long


class KeptAnswers:
    """The logits of a master's head, in float32, and its last hidden states, in float16, of every row.

    rows: as the master reads them. weights: the fingerprint of its model. precision: "bf16" computes under autocast.
    Where the master's states say nothing to the student (`Master.hidden`) none are kept.
    """

    def __init__(self, master: Master, rows: Sequence[Row], *, weights: str, precision: str) -> None:
        self.master, self.rows, self.precision = master, rows, precision
        settings = json.dumps(["task answers", 1, weights, master.place, precision, torch.cuda.is_available()])
        self.folder = cache_folder("teachers") / hashlib.sha256(settings.encode()).hexdigest()[:24]
        self._names = [_name(self._rows(shard)) for shard in range(-(-len(rows) // _SHARD))]
        self._open: list[tuple[Any, ...] | None] = [None] * len(self._names)
        starts = [np.cumsum([0, *map(len, self._rows(shard))]) for shard in range(len(self._names))]
        self._starts: list[NDArray[np.int64]] = starts

    def missing(self) -> list[int]:
        """The numbers of the shards that are not on disk yet."""
        return [shard for shard in range(len(self._names)) if not all(map(is_array, self._paths(shard)))]

    def __len__(self) -> int:
        return len(self.rows)

    def count(self, shards: Sequence[int]) -> int:
        """How many rows those shards have."""
        return sum(len(self._rows(shard)) for shard in shards)

    def fill(self, shards: Sequence[int], progress: Callable[[int], None] = lambda rows: None) -> None:
        """Computes those shards; `progress` is told the number of rows after each batch.

        Raises: BudgetError when the disk cannot hold them.
        """
        config = self.master.encoder.backbone.config
        if self.master.hidden:
            size = 2 * config.hidden_size * sum(int(self._starts[shard][-1]) for shard in shards)
            instead = "learn without hidden states (task.hidden = 0 in a recipe)"
            require_disk(self.folder, size, "the cache of the teacher's states", instead=instead)
        for shard in shards:
            for path, array in zip(self._paths(shard), self._computed(shard, progress), strict=True):
                with new_file(path, replace=True) as partial, partial.open("wb") as stream:
                    np.save(stream, array)

    def logits(self, row: int) -> NDArray[np.float32]:
        """Of the head for one row. Shape: (labels,) of a head over the text, (tokens, labels) of one over tokens."""
        shard, place = divmod(row, _SHARD)
        found: NDArray[np.float32] = self._shard(shard)[0]
        return found[self._stretch(shard, place)] if self.master.over_tokens else found[place]

    def states(self, row: int) -> NDArray[np.float16]:
        """The last hidden states of one row. Shape: (tokens, width)."""
        shard, place = divmod(row, _SHARD)
        found: NDArray[np.float16] = self._shard(shard)[1][self._stretch(shard, place)]
        return found

    def _stretch(self, shard: int, place: int) -> slice:
        return slice(int(self._starts[shard][place]), int(self._starts[shard][place + 1]))

    def _shard(self, shard: int) -> tuple[Any, ...]:
        known = self._open[shard]
        if known is None:
            known = self._open[shard] = tuple(np.load(path, mmap_mode="r") for path in self._paths(shard))
        return known

    def _computed(self, shard: int, progress: Callable[[int], None]) -> list[NDArray[Any]]:
        """Logits and, where they are kept, states, of one row behind the other."""
        rows, starts, encoder = self._rows(shard), self._starts[shard], self.master.encoder
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        encoder.to(device).eval()
        logits: NDArray[np.float32] | None = None
        states = np.empty((starts[-1], encoder.backbone.config.hidden_size), np.float16) if self.master.hidden else None
        for batch in length_batches([len(row) for row in rows], _BATCH):
            chosen = [rows[row] for row in batch]
            input_ids, mask = pad(chosen, 0)
            types = types_of(chosen, input_ids.shape)
            tensors = [None if a is None else torch.from_numpy(a).to(device) for a in (input_ids, mask, types)]
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                encoded = encoder(*tensors)
            said = encoded.logits[self.master.place].float().cpu().numpy()
            if logits is None:
                logits = np.empty((starts[-1] if self.master.over_tokens else len(rows), said.shape[-1]), np.float32)
            if self.master.over_tokens:
                for place, row in enumerate(batch):
                    logits[starts[row] : starts[row + 1]] = said[place, : len(rows[row])]
            else:
                logits[batch] = said
            if states is not None:
                last = encoded.last_hidden_state.float().cpu().numpy()
                for place, row in enumerate(batch):
                    states[starts[row] : starts[row + 1]] = last[place, : len(rows[row])]
            progress(len(batch))
        return [array for array in (logits, states) if array is not None]

    def _rows(self, shard: int) -> Sequence[Row]:
        return self.rows[shard * _SHARD : (shard + 1) * _SHARD]

    def _paths(self, shard: int) -> list[Path]:
        kinds = ["logits", "states"] if self.master.hidden else ["logits"]
        return [self.folder / f"{self._names[shard]}.{kind}.npy" for kind in kinds]


def _name(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    digest.update(np.array([len(row) for row in rows], np.int64).tobytes())
    for row in rows:
        digest.update(np.array([row, row.types], np.int64).tobytes())
    return digest.hexdigest()[:32]


class ImitationCollator(LessonCollator):
    """Row numbers, all of one task, to the tensors that `edgebert.distill.task_model.ImitationModel.forward` takes.

    answers: of each task's master to its lessons.
    """

    def __init__(
        self, lessons: Sequence[Lesson], firsts: Sequence[int], answers: Sequence[KeptAnswers], *, pad_token_id: int
    ) -> None:
        super().__init__(lessons, firsts, pad_token_id=pad_token_id)
        self.answers = answers

    def __call__(self, rows: Sequence[int]) -> dict[str, Any]:
        """Shapes: see `ImitationModel.forward`."""
        batch = super().__call__(rows)
        kept, first = self.answers[batch["head"]], int(self.firsts[batch["head"]])
        own, shape = [int(row) - first for row in rows], tuple(batch["input_ids"].shape)
        logits = [kept.logits(row) for row in own]
        batch["wanted"] = torch.from_numpy(_filled(logits, shape) if kept.master.over_tokens else np.stack(logits))
        if kept.master.hidden:
            batch["states"] = torch.from_numpy(_filled([kept.states(row) for row in own], shape))
        return batch


def _filled(parts: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """What is said of tokens, filled up with zeros. Shape: (batch, seq_len, the last of each part)."""
    out = np.zeros((*shape, parts[0].shape[-1]), np.float32)
    for place, part in enumerate(parts):
        out[place, : len(part)] = part
    return out
