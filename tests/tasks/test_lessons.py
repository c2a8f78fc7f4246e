"""Lessons as batches."""

from __future__ import annotations

import numpy as np
import torch

from edgebert.distill.lessons import LessonCollator
from edgebert.tasks.reading import Row
from edgebert.tasks.task import IGNORED, Lesson


def test_as_many_labels_as_tokens_are_not_taken_for_labels_of_tokens() -> None:
    lesson = Lesson(Row([2, 5, 6, 3], [0] * 4), np.array([0, 1, 0, 1], np.float32))
    targets = LessonCollator([lesson] * 2, [0], pad_token_id=0)([0, 1])["targets"]
    assert targets.dtype == torch.float32
    assert targets.tolist() == [[0, 1, 0, 1]] * 2


def test_labels_of_tokens_are_filled_up() -> None:
    lessons = [Lesson(Row([2] * n, [0] * n), np.arange(n)) for n in (2, 4)]
    targets = LessonCollator(lessons, [0], pad_token_id=0)([0, 1])["targets"]
    assert targets.tolist() == [[0, 1, IGNORED, IGNORED], [0, 1, 2, 3]]
