"""What a candidate costs on the device, found out before it is trained: its package's size, and its speed in int8."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebert.bench import Subject, bench
from edgebert.bundle import Bundle, seal
from edgebert.distill.corpus import Corpus
from edgebert.distill.decide import check_shape
from edgebert.distill.fit.device import Device
from edgebert.distill.fit.kept import keep, read_kept
from edgebert.distill.fit.quick import quick_int8
from edgebert.distill.fit.space import Candidate
from edgebert.distill.fit.untrained import shaped
from edgebert.distill.folder import write_model
from edgebert.distill.layer_map import shape_of
from edgebert.distill.recipe import Recipe
from edgebert.distill.students import build_student
from edgebert.distill.trim import trim_plan
from edgebert.errors import TargetError
from edgebert.manifest import MANIFEST_NAME
from edgebert.pretrained import read_config
from edgebert.processor import processor
from edgebert.progress import Progress
from edgebert.stamps import engine_version
from edgebert.targets.build import build_package
from edgebert.threads import checked_threads
from edgebert.version import VERSION

_TOGETHER = 4  # models that are timed in turns: each is a process with its memory
_SINGLES, _ROUNDS = 100, 5  # 500 single texts, so that a 99th percentile is more than the slowest one


@dataclass(frozen=True)
class Built:
    """What a candidate is when built: the size of its package in MB, its tokens, and its shape."""

    size_mb: float
    tokens: int
    layers: int
    width: int
    heads: int
    feed_forward: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """See `MeasuredShape.shape`."""
        return self.layers, self.width, self.heads, self.feed_forward


@dataclass(frozen=True)
class Speed:
    """One text alone in milliseconds, median and 99th percentile, and texts a second in batches."""

    p50_ms: float
    p99_ms: float
    texts_per_second: float


@dataclass(frozen=True)
class Costs:
    """Measures candidates; what was measured is kept in `folder`.

    fitting: rows of the text that vocabularies are chosen by. calibration: text for int8. timed: texts to time with, as
    long as those to come.
    """

    teacher: Bundle
    text: Corpus
    fitting: NDArray[np.int64]
    recipe: Recipe
    device: Device
    folder: Path
    calibration: Sequence[str]
    timed: Sequence[str]
    threads: int | None
    progress: Progress

    def built(self, candidate: Candidate) -> Built:
        """Its size and shape; it is built untrained and quantized."""
        path = self.folder / "sizes" / f"{candidate.id}-{_digest(self._packing())}.json"
        found = read_kept(path, Built)
        if found is None:
            found = self.size(Bundle.open(self._build(candidate)))
            keep(path, found)
        return found

    def _packing(self) -> list[object]:
        """What the size of a package depends on beside the candidate."""
        profile = self.device.profile
        return [VERSION, profile.artifacts, profile.one_file, profile.static]

    def speeds(self, candidates: Sequence[Candidate]) -> dict[Candidate, Speed]:
        """How fast each is: on this machine, in turns, or by the device's table.

        Raises: TargetError for a shape that the table has not; EngineError when a model cannot be run.
        """
        if not self.device.here:
            return {candidate: self.listed(self.built(candidate)) for candidate in candidates}
        where = [processor(), VERSION, *map(engine_version, ("openvino", "onnxruntime")), checked_threads(self.threads)]
        key = _digest([*where, self.device.artifact])
        paths = {candidate: self.folder / "times" / f"{candidate.id}-{key}.json" for candidate in candidates}
        found = {candidate: read_kept(path, Speed) for candidate, path in paths.items()}
        missing = [candidate for candidate, speed in found.items() if speed is None]
        for start in range(0, len(missing), _TOGETHER):
            together = missing[start : start + _TOGETHER]
            for candidate, speed in zip(together, self.time([self._build(c) for c in together]), strict=True):
                keep(paths[candidate], speed)
                found[candidate] = speed
        return {candidate: speed for candidate, speed in found.items() if speed is not None}

    def size(self, bundle: Bundle) -> Built:
        """Of a quantized bundle."""
        config = read_config(bundle.root)
        shape = shape_of(config)
        with self.scratch() as temporary:
            package = temporary / "package.edgebert"
            build_package(bundle, package, dataclasses.replace(self.device.profile, max_size_mb=None))
            # As `build_package` counts: without the manifest, which grows with what is told of a fit.
            with zipfile.ZipFile(package) as archive:
                size = sum(entry.file_size for entry in archive.infolist() if entry.filename != MANIFEST_NAME) / 1e6
        feed_forward = int(config.get("intermediate_size") or config["hidden_dim"])
        return Built(size, int(config["vocab_size"]), shape.layers, shape.width, shape.heads, feed_forward)

    def time(self, bundles: Sequence[Path]) -> list[Speed]:
        """Of quantized bundles on this machine, each in a process of its own, in turns on the same text."""
        subjects = [Subject(str(bundle), artifact=self.device.artifact) for bundle in bundles]
        with tempfile.TemporaryDirectory() as cache:  # what engines keep of models that soon are gone
            found = bench(
                subjects, list(self.timed), threads=self.threads, rounds=_ROUNDS, singles=_SINGLES,
                progress=self.progress, environment={**os.environ, "EDGEBERT_CACHE": cache},
            )  # fmt: skip
        return [Speed(m.timing.p50_ms, m.timing.p99_ms, m.timing.sentences_s) for m in found]

    def listed(self, built: Built) -> Speed:
        """By the device's table.

        Raises: TargetError when it has no such shape.
        """
        rows = {row.shape: row for row in self.device.profile.measured}
        if (row := rows.get(built.shape)) is None:
            raise TargetError(
                f"the table of {self.device.profile.name} has no model of {built.layers} layers, width {built.width}, "
                f"{built.heads} heads and feed_forward {built.feed_forward}: measure it there with `edgebert fit "
                "--measure-only`, or leave that shape out of the space"
            )
        return Speed(row.p50_ms, row.p99_ms, row.texts_per_second)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that is removed, at the next fit where this one is killed."""
        home = self.folder / "scratch"
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as temporary:
            yield Path(temporary)

    def tidy(self) -> None:
        """Removes what was built to be measured, and what a killed process left."""
        for name in ("built", "scratch"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _build(self, candidate: Candidate) -> Path:
        place, shape = self.folder / "built" / candidate.id, candidate.student(self.recipe.student)
        if place.exists():
            return place
        plan = build_student(self.teacher, shape, seed=self.recipe.training.seed)
        tokenizers = self.folder / "tokenizers"
        plan = trim_plan(
            plan,
            shape,
            self.text,
            self.fitting,
            tokenizers / f"{shape.vocabulary}-{shape.coverage}-{shape.characters}",
            self.progress,
        )
        plan = shaped(plan, shape, self.teacher, self.calibration)
        weights = self.recipe.objectives.weights(aligned=True)
        check_shape(self.recipe, weights, plan, self.teacher)  # what cannot be trained is told now
        with self.scratch() as temporary:
            model = temporary / "model"
            model.mkdir()
            untrained = seal(model, write_model(model, plan.encoder, plan.tokenizer_of, plan.manifest))
            quick_int8(untrained, self.calibration, place, tables=candidate.tables)
        return place


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
