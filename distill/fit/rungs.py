"""Training candidates rung by rung, each from the student of the rung before, and turning them into int8."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.bundle import Bundle
from edgebert.distill.encoder import torch_embedder
from edgebert.distill.fit.costs import Costs
from edgebert.distill.fit.judge import Judge, Scored
from edgebert.distill.fit.kept import keep, read_kept
from edgebert.distill.fit.quick import quick_int8
from edgebert.distill.fit.space import Candidate
from edgebert.distill.recipe import Recipe, Student
from edgebert.distill.stage import distill
from edgebert.embedder import Embedder
from edgebert.engines import open_engine
from edgebert.quantize.stage import Options, quantize

Chain = tuple[float, ...]  # the epochs of the rungs that a student went through


@dataclass(frozen=True)
class Rungs:
    """Students and what they keep, all kept in the folder of `costs`, so that nothing is trained or measured twice."""

    costs: Costs
    judge: Judge
    corpus: Sequence[str | Path]
    column: str | None

    def train(self, candidate: Candidate, chain: Chain) -> float:
        """Trains `candidate` through the rungs of `chain`, of which the last may be missing; what it keeps in fp32."""
        path = self._path(candidate, chain)
        work = self.costs.folder / "runs" / f"{candidate.unit}-{path.name}"
        if not path.exists():
            distill(
                self.costs.teacher, self.corpus, path, self._recipe(candidate, chain), column=self.column, work=work,
                progress=self.costs.progress,
            )  # fmt: skip
        shutil.rmtree(work, ignore_errors=True)  # a process that is killed just after its student is whole leaves it
        return self._scored(self._beside(path, "fp32"), lambda: torch_embedder(Bundle.open(path)))

    def int8(self, candidate: Candidate, chain: Chain) -> float:
        """What the student of `chain` keeps in int8, by the quick road."""
        path = self._path(candidate, chain)
        name = self.costs.device.artifact
        kept = self._beside(path, f"{name}-t{candidate.tables}")
        if (found := read_kept(kept, Scored)) is not None:
            return found.value
        with contextlib.ExitStack() as things:
            folder = things.enter_context(self.costs.scratch())
            bundle = quick_int8(Bundle.open(path), self.costs.calibration, folder / "int8", tables=candidate.tables)
            model = things.enter_context(Embedder(bundle, open_engine(bundle, name, threads=self.costs.threads)))
            return self._scored(kept, lambda: model)

    def quantized(self, candidate: Candidate, chain: Chain) -> Bundle:
        """The student of `chain`, quantized and proven.

        Raises: BudgetError when no recipe passes the gates.
        """
        path = self._path(candidate, chain)
        out = path.with_name(f"{path.name}-t{candidate.tables}")
        if out.exists():
            return Bundle.open(out)
        options = Options(tables=candidate.tables)
        return quantize(Bundle.open(path), self.costs.calibration, out, options, progress=self.costs.progress)[0]

    def retention(self, bundle: Bundle) -> float:
        """What a quantized bundle keeps."""
        engine = open_engine(bundle, self.costs.device.artifact, threads=self.costs.threads)
        with Embedder(bundle, engine) as model:
            return self.judge.retention(model)

    def lineage(self, candidate: Candidate, chain: Chain, quantized: Mapping[str, Any]) -> dict[str, Any]:
        """The lineage of a quantized student as if it had been trained at once: what it began as, all its seconds."""
        through = [Bundle.open(self._path(candidate, c)).manifest.lineage for c in itertools.accumulate(
            ((epochs,) for epochs in chain), lambda before, one: before + one)]  # fmt: skip
        first = through[0]
        told = {**quantized, **{key: first[key] for key in ("student", "agreement_before_training")}}
        told["recipe"] = {**quantized["recipe"], "student": first["recipe"]["student"]}
        told["training_seconds"] = round(sum(lineage["training_seconds"] for lineage in through), 1)
        return told | ({"vocabulary": first["vocabulary"]} if "vocabulary" in first else {})

    def _recipe(self, candidate: Candidate, chain: Chain) -> Recipe:
        recipe = self.costs.recipe
        training, student = dataclasses.replace(recipe.training, epochs=chain[-1]), candidate.student(recipe.student)
        if len(chain) > 1:
            before = self._path(candidate, chain[:-1])
            student = Student(start=str(before), max_length=student.max_length, projection=student.projection)
            if training.freeze_embeddings is None:  # they still are the teacher's
                training = dataclasses.replace(training, freeze_embeddings=True)
        return dataclasses.replace(recipe, student=student, training=training)

    def _scored(self, kept: Path, model: Any) -> float:
        if (found := read_kept(kept, Scored)) is None:
            found = Scored(self.judge.retention(model()))
            keep(kept, found)
        return found.value

    def _path(self, candidate: Candidate, chain: Chain) -> Path:
        return self.costs.folder / "rungs" / candidate.unit / "-".join(f"{epochs:g}" for epochs in chain)

    def _beside(self, path: Path, what: str) -> Path:
        return path.with_name(f"{path.name}.{what}.json")
