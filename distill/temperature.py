"""The temperature that makes probabilities what they say.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599: of all that was tried there, one
number that divides the logits, fitted on held-out data, does best; it changes no label. Platt 1999, "Probabilities for
SV machines", for targets that are not quite sure, the less so the fewer they are: else examples without a mistake would
make every probability 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edgebert.distill.lessons import LessonCollator
from edgebert.manifest import Head
from edgebert.tasks.task import Lesson, Task

_RANGE = (-2.3, 2.3)  # of its logarithm: a tenth to ten times
_BATCH = 64


def fit_temperature(task: Task, head: Head, lessons: Sequence[Lesson], logits: Sequence[NDArray[np.float32]]) -> float:
    """The temperature with the least loss; 1 for numbers, which have no probability.

    logits: of each lesson's row, as `Predictor` gives them.
    """
    from scipy.optimize import minimize_scalar

    if head.level == "text" and not head.labels:
        return 1.0
    collate = LessonCollator(lessons, [0], pad_token_id=0)
    batches = []
    for start in range(0, len(lessons), _BATCH):
        rows = list(range(start, min(start + _BATCH, len(lessons))))
        batch = collate(rows)
        if head.level == "text":
            answers = np.stack([logits[row] for row in rows])
        else:
            width = batch["input_ids"].shape[1]
            answers = np.stack([np.pad(logits[row], ((0, width - len(logits[row])), (0, 0))) for row in rows])
        batches.append((torch.from_numpy(answers), batch["targets"], batch["attention_mask"], len(rows)))

    unsure = 1 / (len(lessons) + 2)

    def loss(logarithm: float) -> float:
        scale = float(np.exp(logarithm))
        total = 0.0
        for answers, targets, mask, count in batches:
            right = float(task.loss(answers / scale, targets, mask, head, None))
            any_label = float(task.imitation(answers / scale, torch.zeros_like(answers), mask, head, 1.0))
            total += count * ((1 - unsure) * right + unsure * any_label)
        return total / len(lessons)

    return round(float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x)), 4)
