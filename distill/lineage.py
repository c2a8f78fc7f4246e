"""Where a student comes from, as its manifest tells it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from edgebert.distill.agreement import Agreement
from edgebert.distill.job import Job, told_data
from edgebert.distill.recipe import Recipe
from edgebert.distill.students import name_of
from edgebert.distill.teacher import fingerprint
from edgebert.distill.training import Trained
from edgebert.schema import plain


def lineage_of(
    job: Job, engine: str, before: Agreement, trained: Trained, imitated: Agreement | None
) -> dict[str, object]:
    """The manifest's lineage of a trained student.

    engine: the teacher's. before: the agreement before training. imitated: that of the student imitating int8.
    """
    text, prepared, recipe = job.text, job.prepared, job.recipe
    lineage: dict[str, object] = {
        "teacher": name_of(job.teacher),
        "teacher_sha256": fingerprint(job.teacher),
        "student": job.plan.start,
        "corpus": plain(text.counts)
        | {"truncated": prepared.truncated, "left_out": prepared.left_out, "sha256": text.fingerprint}
        | {"unknown_tokens": round(job.reading.unknown, 6)},
        "objectives": job.weights,
        "recipe": _told(recipe),
        "agreement_before_training": before.spearman,
        "teacher_engine": engine,
        "final_loss": trained.history.loss,
        "training_seconds": round(trained.seconds, 1),
        "versions": {name: metadata.version(name) for name in ("edgebert", "torch", "transformers")},
    }
    if prepared.aligned is not None:
        lineage["aligned_share"] = round(prepared.aligned_share, 4)
    if job.start is not None and job.start.is_sealed:
        lineage["start"] = dict(job.start.manifest.lineage)
    if job.plan.vocabulary is not None:
        lineage["vocabulary"] = job.plan.vocabulary
    if job.others:
        lineage["teachers"] = [
            {"teacher": name_of(other), "teacher_sha256": fingerprint(other)} for other in job.others
        ]
    if job.pairs is not None:
        lineage["pairs"] = {"count": len(job.pairs), "sha256": job.pairs_sha256}
    if job.qat is not None and imitated is not None:
        lineage["qat"] = {**plain(job.qat), "imitating_int8": plain(imitated)}
    if recipe.training.patience and (best := trained.history.best) is not None:
        lineage["early_stop"] = {"stopped_at": trained.stopped, "kept_step": best.step}
    return lineage


def _told(recipe: Recipe) -> dict[str, object]:
    """The recipe with files and local models by their own names: where they lie here is nobody's business."""
    student, teachers = plain(recipe.student), [plain(other) for other in recipe.teachers]
    for facts, key in ((student, "start"), *((other, "model") for other in teachers)):
        if Path(facts[key]).exists():
            facts[key] = Path(facts[key]).resolve().name
    told: dict[str, object] = plain(recipe) | {"student": student, "teachers": teachers, "data": told_data(recipe)}
    return told
