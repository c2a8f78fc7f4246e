"""The agreement of a student in training with its teacher, on the texts that are held out."""

from __future__ import annotations

import contextlib

import numpy as np

from edgebert.distill.agreement import Agreement, agreement
from edgebert.distill.encoder import encode_ids
from edgebert.distill.model import DistillationModel
from edgebert.distill.prepare import Prepared
from edgebert.distill.teacher import TeacherCache


class HeldOut:
    """Measures `model` as it is, or with `int8=True` while it imitates int8."""

    def __init__(self, model: DistillationModel, prepared: Prepared, teacher: TeacherCache, pad_token_id: int) -> None:
        self.model, self.pad_token_id = model, pad_token_id
        self._ids = [prepared.student_ids[row] for row in prepared.held_out]
        self._vectors = teacher.vectors(prepared.held_out).astype(np.float32)

    def __call__(self, *, int8: bool = False) -> Agreement:
        encoder, ranges = self.model.encoder, self.model.fake_quant
        with ranges.int8(encoder) if int8 and ranges else contextlib.nullcontext():
            return agreement(encode_ids(encoder, self._ids, self.pad_token_id), self._vectors)
