"""The gate of a model of a task that comes without labelled examples: torch's own answers are the right ones.

Vectors say little of them: a tagger's may agree where its names change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgebert.embedder import Embedder
from edgebert.errors import DataError
from edgebert.progress import Progress
from edgebert.quantize.task_gate import Judged, TaskGate
from edgebert.tasks.asked import Item
from edgebert.tasks.scoring import predictors
from edgebert.tasks.task import Task

ENOUGH = 100  # answers, of which the default gate lets two change


def own_answers(
    model: Embedder, items: Sequence[Item], folder: Path, progress: Progress
) -> tuple[TaskGate | None, Judged]:
    """A gate on what `model` says of `items`, whose files are written into `folder`, and the model judged by it.

    No gate where the heads cannot be asked about the items or say too little, of which `progress` is told.
    """
    try:
        files = _files(model, items, folder)
        gate = TaskGate("task", files, min_retention=0.0)
        return gate, gate.reference(model)
    except DataError as problem:
        progress.say(f"vectors are compared with torch's, answers are not: {problem}")
        return None, Judged()


def _files(model: Embedder, items: Sequence[Item], folder: Path) -> tuple[str, ...]:
    """The items with the model's answers as labels, for each head.

    Raises: DataError for what a head cannot be asked, and where the answers are too few to say anything.
    """
    heads, files = model.bundle.manifest.heads, list[str]()
    for head, task, predictor in predictors(model):
        asked = [item for item in items if _fits(item, task)]
        said = predictor.results(asked)
        if (count := sum(map(task.weight, said))) < ENOUGH:
            raise DataError(
                f"on the text that calibration does not see {head.name!r} gives {count}, and {ENOUGH} are needed; give "
                "more text, or labelled examples (--eval)"
            )
        path = folder / f"answers-{len(files)}.jsonl"
        rows = [task.labelled(item, one, head) for item, one in zip(asked, said, strict=True)]
        path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
        files.append(str(path) if len(heads) == 1 else f"{head.name}={path}")
    return tuple(files)


def _fits(item: Any, task: Task) -> bool:
    """Whether the task can be asked about the item."""
    if isinstance(item, str):
        return not task.two_texts
    return task.two_texts and all(text.strip() for text in item)
