"""Labelled examples as training batches: rows of tokens with targets, of one task or of several in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgebert.batching import pad
from edgebert.distill.batches import EpochSampler, LengthSampler
from edgebert.tasks.reading import types_of
from edgebert.tasks.task import IGNORED, Lesson


class LessonCollator:
    """Row numbers, all of one task, to the tensors that `edgebert.distill.task_model.TaskModel.forward` takes.

    lessons: of every task, one list behind the other. firsts: the row at which each task's begin.
    """

    def __init__(self, lessons: Sequence[Lesson], firsts: Sequence[int], *, pad_token_id: int) -> None:
        self.lessons, self.firsts = lessons, np.asarray(firsts)
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[int]) -> dict[str, Any]:
        """Shapes: see `TaskModel.forward`."""
        chosen = [self.lessons[row] for row in rows]
        input_ids, mask = pad([lesson.row for lesson in chosen], self.pad_token_id)
        batch: dict[str, Any] = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(mask),
            "targets": torch.from_numpy(_targets(chosen, input_ids.shape[1])),
            "head": int(np.searchsorted(self.firsts, rows[0], side="right")) - 1,
        }
        types = types_of([lesson.row for lesson in chosen], input_ids.shape)
        if types is not None:
            batch["token_type_ids"] = torch.from_numpy(types)
        return batch


def _targets(lessons: Sequence[Lesson], width: int) -> NDArray[Any]:
    """The targets stacked; those of tokens, whole numbers, are filled up with `IGNORED`.

    Several labels of a text are not whole numbers, and may be as many as it has tokens.
    """
    if all(lesson.target.dtype.kind == "i" and lesson.target.shape == (len(lesson.row),) for lesson in lessons):
        filled = np.full((len(lessons), width), IGNORED, np.int64)
        for place, lesson in enumerate(lessons):
            filled[place, : len(lesson.target)] = lesson.target
        return filled
    return np.stack([lesson.target for lesson in lessons])


class TaskSampler(EpochSampler):
    """Rows in random order in which each run of `batch_size` is of one task and of like length.

    Where there are several tasks, each one's last run is filled up with its first rows.
    """

    def __init__(self, lessons: Sequence[Lesson], firsts: Sequence[int], *, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed, self.firsts = batch_size, seed, list(firsts)
        lengths = np.array([len(lesson.row) for lesson in lessons], np.int64)
        ends = [*self.firsts[1:], len(lessons)]
        self.parts = [
            LengthSampler(lengths[first:end], batch_size=batch_size, seed=seed + number)
            for number, (first, end) in enumerate(zip(self.firsts, ends, strict=True))
        ]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """See `EpochSampler`."""
        self.epoch = int(epoch)
        for part in self.parts:
            part.set_epoch(epoch)

    def __len__(self) -> int:
        if len(self.parts) == 1:
            return len(self.parts[0])
        return sum(-(-len(part) // self.batch_size) * self.batch_size for part in self.parts)

    def __iter__(self) -> Iterator[int]:
        if len(self.parts) == 1:
            yield from self.parts[0]
            return
        batches = []
        for part, first in zip(self.parts, self.firsts, strict=True):
            order = np.fromiter(part, np.int64) + first
            whole = np.resize(order, -(-len(order) // self.batch_size) * self.batch_size)
            batches += list(whole.reshape(-1, self.batch_size))
        for place in np.random.default_rng([self.seed, self.epoch]).permutation(len(batches)).tolist():
            yield from batches[place].tolist()
