"""Training batches: which rows, in which order, as which tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from edgebert.batching import pad
from edgebert.distill.pairs import Pairs
from edgebert.distill.ragged import Ragged
from edgebert.distill.teacher import TeacherCache

_CHUNK_BATCHES = 64


class Rows(Dataset[int]):
    """The numbers of the training rows; what they hold is read batch by batch, in `Collator`."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> int:
        return int(self.rows[place])


class EpochSampler(Sampler[int]):
    """Gives places in an order of the epoch's own."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of that epoch."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many places an epoch has."""
        raise NotImplementedError


class LengthSampler(EpochSampler):
    """Places in random order such that each run of `batch_size` holds texts of like length.

    Rows are shuffled, cut into chunks of 64 batches, sorted by length within a chunk, and the chunk's batches are
    shuffled: padding is nearly nothing and the order still random. The same seed and epoch give the same order.
    """

    def __init__(self, lengths: NDArray[np.int64], *, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of that epoch."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        whole = len(order) // self.batch_size * self.batch_size
        size = self.batch_size * _CHUNK_BATCHES
        for start in range(0, whole, size):
            chunk = order[start : min(start + size, whole)]
            chunk = chunk[np.argsort(self.lengths[chunk], kind="stable")].reshape(-1, self.batch_size)
            yield from rng.permutation(chunk).ravel().tolist()
        yield from order[whole:].tolist()


class Collator:
    """Row numbers to the tensors that `DistillationModel.forward` takes. aligned: see `Prepared`."""

    def __init__(
        self,
        ids: Ragged,
        cache: TeacherCache,
        *,
        pad_token_id: int,
        hidden: bool,
        others: Sequence[TeacherCache] = (),
        pairs: Pairs | None = None,
        aligned: NDArray[np.bool_] | None = None,
    ) -> None:
        self.ids, self.cache, self.pad_token_id, self.hidden = ids, cache, pad_token_id, hidden
        self.others, self.pairs, self.aligned = others, pairs, aligned

    def __call__(self, rows: Sequence[int]) -> dict[str, Any]:
        """Shapes: see `DistillationModel.forward`."""
        input_ids, mask = pad([self.ids[r] for r in rows], self.pad_token_id)
        batch: dict[str, Any] = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(mask),
            "teacher_vector": torch.from_numpy(self.cache.vectors(np.asarray(rows)).astype(np.float32)),
        }
        same = np.ones(len(rows), np.bool_) if self.aligned is None else self.aligned[np.asarray(rows)]
        if self.aligned is not None:
            # Where tokens differ the teacher's stand for nothing; padding keeps what is computed of them finite.
            theirs = np.full_like(input_ids, self.cache.teacher.manifest.pad_token_id)
            for place in np.flatnonzero(same).tolist():
                known = self.cache.ids[rows[place]]
                theirs[place, : len(known)] = known
            batch |= {"aligned": torch.from_numpy(same), "teacher_ids": torch.from_numpy(theirs)}
        if self.hidden:
            states = np.zeros((*input_ids.shape, self.cache.width), np.float32)
            for place in np.flatnonzero(same).tolist():
                known = self.cache.states(rows[place])
                states[place, : len(known)] = known
            batch["teacher_states"] = torch.from_numpy(states)
        if self.others:
            vectors = [other.vectors(np.asarray(rows)).astype(np.float32) for other in self.others]
            batch["other_vectors"] = [torch.from_numpy(array) for array in vectors]
        if self.pairs is not None:
            batch |= self.pairs.draw(rows, self.pad_token_id)
        return batch
