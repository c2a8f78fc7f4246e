"""A student before it is trained, in the shape that it will have then: what its size and speed are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from torch import nn

from edgebert.bundle import Bundle
from edgebert.distill.encoder import Dense, load_tokenizer
from edgebert.distill.narrow import narrowed
from edgebert.distill.recipe import Student
from edgebert.distill.students import StudentPlan
from edgebert.progress import Progress


def shaped(plan: StudentPlan, shape: Student, teacher: Bundle, texts: Sequence[str]) -> StudentPlan:
    """The student of `plan` with the width and feed-forward width of `shape`, chosen on `texts`, and with its map into
    the teacher's space, of random weights."""
    tokenizer = load_tokenizer(plan.tokenizer_of, max_length=plan.manifest.max_length)
    ids = (np.asarray(tokens.ids, np.int32) for tokens in tokenizer(list(texts)))
    plan = narrowed(plan, shape, ids, Progress())
    ours, theirs = plan.manifest.dimension, teacher.manifest.dimension
    if shape.projection == "drop" or (ours == theirs and shape.projection == "keep"):
        return plan
    plan.encoder.dense.append(Dense(nn.Linear(ours, theirs, bias=False), nn.Identity()))
    return dataclasses.replace(plan, manifest=dataclasses.replace(plan.manifest, dimension=theirs))
