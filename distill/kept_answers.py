"""What a teacher's head says of the rows of a task, computed once: training asks for the same rows in every epoch.

See `edgebert.distill.shards`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgebert.batching import pad
from edgebert.cache import cache_folder
from edgebert.distill.corpus import require_disk
from edgebert.distill.lessons import LessonCollator
from edgebert.distill.shards import Answer, Kind, Shards
from edgebert.distill.task_model import Master
from edgebert.tasks.reading import Row, types_of
from edgebert.tasks.task import Lesson

SHARD_ROWS = 1024  # those of a context are long
_BATCH = 32


class KeptAnswers(Shards):
    """The logits of a master's head, in float32, and its last hidden states, in float16, of every row.

    asked: rows as the master reads them. weights: the fingerprint of its model. precision: "bf16" computes under
    autocast. Where the master's states say nothing to the student (`Master.hidden`) none are kept.
    """

    def __init__(self, master: Master, asked: Sequence[Row], *, weights: str, precision: str) -> None:
        self.master, self.asked, self.precision = master, asked, precision
        settings = json.dumps(["task answers", 1, weights, master.place, precision, torch.cuda.is_available()])
        self._folder = cache_folder("teachers") / hashlib.sha256(settings.encode()).hexdigest()[:24]
        lengths = np.array([len(row) for row in asked], np.int64)
        kinds = [Kind("logits", master.over_tokens, np.float32), Kind("states", True)][: 1 + master.hidden]
        super().__init__(lengths, kinds, size=SHARD_ROWS, batch=_BATCH)

    @property
    def folder(self) -> Path:
        """See `Shards`."""
        return self._folder

    def name(self, rows: range) -> str:
        """See `Shards`."""
        digest, asked = hashlib.sha256(), self.asked[rows.start : rows.stop]
        digest.update(np.array([len(row) for row in asked], np.int64).tobytes())
        for row in asked:
            digest.update(np.array([row, row.types], np.int64).tobytes())
        return digest.hexdigest()[:32]

    def opened(self, shards: Sequence[int]) -> Answer:
        """See `Shards`."""
        if self.master.hidden:
            size = 2 * self.master.encoder.backbone.config.hidden_size * self.tokens(shards)
            instead = "learn without hidden states (task.hidden = 0 in a recipe)"
            require_disk(self.folder, size, "the cache of the teacher's states", instead=instead)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.master.encoder.to(device).eval()
        return partial(self._answers, device)

    def logits(self, row: int) -> NDArray[np.float32]:
        """Of the head for one row. Shape: (labels,) of a head over the text, (tokens, labels) of one over tokens."""
        return self.of("logits", row)

    def states(self, row: int) -> NDArray[np.float16]:
        """The last hidden states of one row. Shape: (tokens, width)."""
        return self.of("states", row)

    def _answers(self, device: torch.device, rows: Sequence[int]) -> list[NDArray[Any]]:
        chosen = [self.asked[row] for row in rows]
        input_ids, mask = pad(chosen, 0)
        types = types_of(chosen, input_ids.shape)
        tensors = [None if a is None else torch.from_numpy(a).to(device) for a in (input_ids, mask, types)]
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            encoded = self.master.encoder(*tensors)
        said = [encoded.logits[self.master.place]]
        if self.master.hidden:
            said.append(encoded.last_hidden_state)
        return [tensor.float().cpu().numpy() for tensor in said]


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
