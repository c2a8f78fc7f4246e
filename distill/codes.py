"""Word vectors made of codes: product quantization of the word table, before training, which learns to live with it.

Each run of `width` dimensions of a word vector becomes the nearest of 256 vectors, so that a byte names it. The table
stays frozen, hence what is trained with is what is stored: `edgebert.quantize` finds the codes again without loss.

Source: Jégou, Douze and Schmid 2011, "Product Quantization for Nearest Neighbor Search", TPAMI 33(1).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgebert.distill.prepare import Prepared
from edgebert.distill.recipe import Student
from edgebert.distill.students import StudentPlan
from edgebert.errors import RecipeError
from edgebert.files import new_file
from edgebert.progress import Progress
from edgebert.quantize.table_codes import CODES, table_codes

_ROUNDS = 15  # of k-means; further ones gain less than a hundredth of the error


def check_codes(plan: StudentPlan, shape: Student) -> None:
    """Raises: RecipeError when the codes that `shape` asks for do not divide the width of the word vectors."""
    table = _table(plan)
    if shape.table_codes is not None and table.embedding_dim % shape.table_codes:
        raise RecipeError(
            f"student.table_codes is {shape.table_codes}, which does not divide the width of the word vectors, "
            f"{table.embedding_dim}"
        )


def is_coded(plan: StudentPlan) -> bool:
    """Whether the student's word table is made of codes, as a start's can be."""
    return table_codes(_table(plan).weight.detach().numpy()) is not None


def code_plan(
    plan: StudentPlan, shape: Student, prepared: Prepared, path: Path, *, seed: int, progress: Progress
) -> StudentPlan:
    """The student with its word table made of codes, if `shape` asks for it; the table is kept in the file `path`."""
    if shape.table_codes is None:
        return plan
    table = _table(plan)
    ids = np.concatenate([prepared.student_ids[row] for row in prepared.rows.tolist()])
    counts = torch.from_numpy(np.bincount(ids, minlength=table.num_embeddings)).float()
    weight = table.weight.detach()
    if not path.exists():
        found = code_table(weight, counts, shape.table_codes, seed=seed, progress=progress)
        with new_file(path, replace=True) as partial, partial.open("wb") as stream:
            np.save(stream, found.numpy())
    coded = torch.from_numpy(np.load(path))
    lost = ((coded - weight) ** 2).sum(1) / (weight**2).sum(1).clamp_min(1e-12)
    share = 100 * float((lost * counts).sum() / counts.sum())
    progress.say(f"word table: codes of {shape.table_codes} dimensions; {share:.1f} % of a token's square is lost")
    with torch.no_grad():
        table.weight.copy_(coded)
    return dataclasses.replace(plan, start=f"{plan.start}, word vectors in codes of {shape.table_codes} dimensions")


def _table(plan: StudentPlan) -> nn.Embedding:
    table = plan.encoder.backbone.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    return table


def code_table(table: Tensor, counts: Tensor, width: int, *, seed: int = 0, progress: Progress | None = None) -> Tensor:
    """`table` with each run of `width` columns made of at most 256 different vectors, exact in float16.

    Found by k-means in which a row weighs the square root of its count, and at least 1: frequent words lose least, and
    no word is given up. Runs that have no more values than that stay as they are. Shape: table (rows, columns), counts
    (rows,) -> (rows, columns); `width` divides the columns.
    """
    weights = counts.float().clamp_min(1).sqrt()
    generator = torch.Generator().manual_seed(seed)
    progress = progress or Progress()
    progress.start("codes of the word table", table.shape[1] // width)
    parts = []
    for start in range(0, table.shape[1], width):
        parts.append(_k_means(table[:, start : start + width].float().contiguous(), weights, generator))
        progress.advance(1)
    return torch.cat(parts, dim=1)


def _k_means(points: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
    """Each point's nearest centre. Shape: points (rows, width), weights (rows,) -> (rows, width)."""
    if len(np.unique(points.numpy(), axis=0)) <= CODES:
        return points.half().float()
    drawn = torch.multinomial(weights, CODES, generator=generator)
    centres = points[drawn].clone()
    for _ in range(_ROUNDS):
        nearest = _nearest(points, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points * weights[:, None])
        mass = torch.zeros(CODES).index_add_(0, nearest, weights)
        spare = points[torch.multinomial(weights, CODES, generator=generator)]  # for a centre that nothing is near to
        centres = torch.where(mass[:, None] > 0, sums / mass[:, None].clamp_min(1e-12), spare)
    centres = centres.half().float()
    return centres[_nearest(points, centres)]


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The number of each point's nearest centre. Shape: (rows,)."""
    return ((centres**2).sum(1) - 2 * points @ centres.T).argmin(1)
