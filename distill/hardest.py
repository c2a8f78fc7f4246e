"""Disagreement sampling: of the training texts, those on which the untrained student is farthest from the teacher.

It pays where the student starts from a trained one, as in the second of two stages: what it already answers as the
teacher does teaches it little. Source: Lewis and Gale 1994, "A Sequential Algorithm for Training Text Classifiers", who
choose the least certain; here the teacher is known, and so is the error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgebert.distill.encoder import encode_ids
from edgebert.distill.model import DistillationModel
from edgebert.distill.prepare import Prepared
from edgebert.distill.teacher import TeacherCache
from edgebert.files import new_file
from edgebert.progress import Progress
from edgebert.vectors import row_cosines

_CHUNK = 2048


def count_hardest(rows: int, share: float | None) -> int:
    """How many of `rows` texts the share `share` is, at least one; None is all of them."""
    return rows if share is None else max(1, round(share * rows))


def hardest(
    model: DistillationModel, prepared: Prepared, cache: TeacherCache, share: float, *, pad_token_id: int, path: Path,
    progress: Progress,
) -> NDArray[np.int64]:  # fmt: skip
    """The share `share` of the training rows with the least cosine to the teacher, ascending.

    path: where they are kept, so that a run that goes on has the same ones.
    """
    if path.exists():
        found: NDArray[np.int64] = np.load(path)
        return found
    rows, cosines = prepared.rows, []
    progress.start("choosing the hardest texts", len(rows))
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        ours = encode_ids(model.encoder, [prepared.student_ids[r] for r in chunk], pad_token_id)
        with torch.inference_mode():
            mapped = model.to_teacher(torch.from_numpy(ours)).numpy()
        cosines.append(row_cosines(mapped, cache.vectors(chunk).astype(np.float32)))
        progress.advance(len(chunk))
    whole = np.concatenate(cosines)
    chosen = np.sort(rows[np.argsort(whole, kind="stable")[: count_hardest(len(rows), share)]])
    with new_file(path, replace=True) as partial, partial.open("wb") as sink:
        np.save(sink, chosen)
    progress.say(
        f"trained on the {len(chosen)} of {len(rows)} texts with the least cosine to the teacher: "
        f"{np.mean(np.sort(whole)[: len(chosen)]):.4f} on the mean, {np.mean(whole):.4f} over all"
    )
    return chosen
