"""The fastest recipe that keeps the task: recipes from cheap to dear, each built, measured and told why it was left.

One recipe serves both engines where they like the same one; an engine in which another is much faster has that one.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx

from edgebert.bundle import Bundle
from edgebert.errors import BudgetError, EngineError, RecipeError
from edgebert.manifest import Artifact
from edgebert.progress import Progress
from edgebert.quantize.context import Context
from edgebert.quantize.export import export_openvino
from edgebert.quantize.parity import Gates, Measured, require
from edgebert.quantize.recipe import Recipe
from edgebert.quantize.reference import Reference
from edgebert.quantize.task_gate import TaskGate
from edgebert.quantize.worker import measured, timings
from edgebert.timing import Timing

Status = Literal["chosen", "passed", "rejected", "failed", "not tried"]
ENOUGH = 3  # recipes that pass: dearer ones are slower, so they need not be tried
CANDIDATES = ".candidates"
_SINGLES = 32
_INTEGERS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
INT8 = ("onnxruntime-int8", "openvino-int8")
_ENGINES = dict(zip(INT8, ("ONNX Runtime", "OpenVINO"), strict=True))
_MUCH = 1.1  # times the speed: for less an engine has no recipe of its own


@dataclass
class Attempt:
    """One recipe: its artifacts, what was measured of them, how fast they are, and why it was left.

    status: "rejected" by a gate in either engine, "failed" when an engine did, "not tried" when enough others passed,
    "chosen" where it is so for one or both. faults: what is below a gate, or how the engine failed, by artifact, ""
    where nothing. measured: of those whose engine did not fail. taken: the artifacts for which it is chosen.
    """

    recipe: Recipe
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    size_mb: float | None = None
    measured: dict[str, Measured] = field(default_factory=dict)
    timing: dict[str, Timing] = field(default_factory=dict)
    status: Status = "not tried"
    why: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    taken: tuple[str, ...] = ()

    @property
    def retention(self) -> float | None:
        """The smaller one of the engines' shares of torch fp32's score."""
        return min((found.retention for found in self.measured.values()), default=None)

    @property
    def sentences_s(self) -> float:
        """Sentences a second in the faster engine, 0 where it was not timed."""
        return max(map(self.speed, self.timing), default=0.0)

    def speed(self, name: str) -> float:
        """Sentences a second in one engine, by the artifact's name, 0 where it was not timed."""
        return self.timing[name].sentences_s if name in self.timing else 0.0

    def passes(self, name: str) -> bool:
        """Whether that artifact was measured and nothing is below a gate."""
        return self.faults.get(name) == ""

    def state(self, name: str) -> Status:
        """The status in one engine, by the artifact's name."""
        if self.status == "not tried" or name in self.taken:
            return self.status
        return "passed" if self.passes(name) else "rejected" if name in self.measured else "failed"


class Search:
    """Tries recipes on one exported model.

    bundle: with the fp32 artifacts, in the folder that is being written. ranked: the MatMul nodes of the most sensitive
    layers, asked for only where a recipe leaves layers in float.
    """

    def __init__(
        self, bundle: Bundle, context: Context, known: Reference, gates: Gates, task: TaskGate | None,
        ranked: Callable[[], tuple[str, ...]], progress: Progress,
    ) -> None:  # fmt: skip
        self.bundle, self.context, self.known, self.gates, self.task = bundle, context, known, gates, task
        self.ranked, self.progress = ranked, progress
        self.attempts: list[Attempt] = []

    def run(self, recipes: Iterable[Recipe], *, enough: int = 1) -> dict[str, Attempt]:
        """For each int8 artifact the fastest attempt, proven at every length: of the first `enough` that pass in both
        engines, or of any where one engine is much faster with another, or where none passes in both.

        Raises: BudgetError with the nearest miss when none passes in an engine.
        """
        waiting = list(recipes)
        passed: list[Attempt] = []
        best: Attempt | None = None
        while best is None:
            while waiting and len(passed) < enough:
                attempt = self._tried(waiting.pop(0))
                self.attempts.append(attempt)
                if attempt.status == "passed":
                    passed.append(attempt)
            if not all(any(one.passes(name) for one in self.attempts) for name in INT8):
                raise BudgetError(self._nearest_miss())
            self._time(enough)
            if not passed:
                break
            best = max(passed, key=lambda attempt: attempt.sentences_s)
            if not self._proven(best, INT8):
                passed.remove(best)
                best = None
        chosen = {name: self._faster(name, best) or best for name in INT8}
        if None in chosen.values():
            raise BudgetError(self._nearest_miss())
        self.attempts += [Attempt(recipe, why=f"{enough} cheaper ones pass") for recipe in waiting]
        return _taken({name: attempt for name, attempt in chosen.items() if attempt is not None}, best)

    def _faster(self, name: str, best: Attempt | None) -> Attempt | None:
        """What passes in that engine, proven at every length, and is much faster there than `best`, or the fastest
        where that is None."""
        found = [one for one in self.attempts if one.passes(name)]
        if best is not None:
            least = _MUCH * best.speed(name) if name in best.timing else float("inf")
            found = [one for one in found if one.speed(name) > least]
        for one in sorted(found, key=lambda one: -one.speed(name)):
            if self._proven(one, (name,)):
                return one
        return None

    def with_artifacts(self, attempt: Attempt) -> Bundle:
        """The bundle with the attempt's artifacts beside the fp32 ones."""
        artifacts = {**self.bundle.manifest.artifacts, **attempt.artifacts}
        return dataclasses.replace(self.bundle, manifest=dataclasses.replace(self.bundle.manifest, artifacts=artifacts))

    def _tried(self, recipe: Recipe) -> Attempt:
        """The recipe built and measured at a sample of lengths."""
        if recipe.float_layers:
            recipe = recipe.excluding(self.ranked()[: recipe.float_layers])
        attempt = Attempt(recipe)
        self.progress.start(f"recipe {recipe.name}", 1 + len(INT8))
        try:
            attempt.artifacts = self._build(recipe)
            attempt.size_mb = max(
                sum(self.bundle.path(file).stat().st_size for file in artifact.files) / 1e6
                for artifact in attempt.artifacts.values()
            )
            self.progress.advance()
            self._measure(attempt, self.known.sample(), INT8)
        except EngineError as problem:
            attempt.status, attempt.why = "failed", str(problem)
        if attempt.why:
            self.progress.say(f"recipe {recipe.name}: {attempt.why}")
        return attempt

    def _measure(self, attempt: Attempt, known: Reference, names: tuple[str, ...]) -> None:
        bundle = self.with_artifacts(attempt)
        for name in names:
            try:
                attempt.measured[name] = found = measured(bundle, name, known, self.task)
                attempt.faults[name] = found.faults(self.gates, self.task)
            except EngineError as problem:
                attempt.measured.pop(name, None)
                attempt.faults[name] = str(problem)
            self.progress.advance()
        attempt.why = "; ".join(f"{name}: {fault}" for name, fault in attempt.faults.items() if fault)
        failed = any(name not in attempt.measured for name in attempt.faults)
        attempt.status = "failed" if failed else "rejected" if attempt.why else "passed"

    def _proven(self, attempt: Attempt, names: tuple[str, ...]) -> bool:
        """Whether those artifacts of it pass at every length too."""
        self.progress.start(f"prove {attempt.recipe.name} at every length", len(names))
        self._measure(attempt, self.known, names)
        if all(attempt.passes(name) for name in names):
            return True
        self.progress.say(f"recipe {attempt.recipe.name}: {attempt.why}")
        return False

    def _build(self, recipe: Recipe) -> dict[str, Artifact]:
        """The recipe's two int8 artifacts, in a folder of candidates: an ONNX file, and the same for OpenVINO."""
        inputs = self.context.inputs
        folder = self.bundle.root / CANDIDATES / recipe.name
        folder.mkdir(parents=True)
        path = folder / "model_qint8.onnx"
        model = recipe.run(self.context)
        if not any(tensor.data_type in _INTEGERS for tensor in model.graph.initializer):
            raise RecipeError(f"the recipe {recipe.name!r} rounds nothing: no weight of the graph became an integer")
        onnx.save(model, path)
        openvino = export_openvino(path, folder / "openvino_model_qint8.xml", "int8", inputs)
        facts: dict[str, Any] = {"recipe": recipe.facts(), "min_cosine": self.gates.cosines}
        base = f"{CANDIDATES}/{recipe.name}"
        files = [Path(file).name for file in openvino.files]
        return {
            INT8[0]: Artifact("onnxruntime", "int8", (f"{base}/{path.name}",), inputs, **facts),
            INT8[1]: Artifact("openvino", "int8", tuple(f"{base}/{name}" for name in files), inputs, **facts),
        }

    def _time(self, enough: int) -> None:
        """The speeds of all that ran, side by side, where there is a choice."""
        ran = [attempt for attempt in self.attempts if attempt.measured]
        if enough < 2 or all(a.timing for a in ran):
            return
        self.progress.start("time the recipes side by side", 1)
        named = {
            f"{attempt.recipe.name}/{name}": artifact
            for attempt in ran
            for name, artifact in attempt.artifacts.items() if name in attempt.measured
        }  # fmt: skip
        manifest = dataclasses.replace(self.bundle.manifest, artifacts=named)
        try:
            found = timings(
                dataclasses.replace(self.bundle, manifest=manifest), tuple(named), self.known.timed, _SINGLES
            )
        except EngineError as problem:
            self.progress.say(f"the recipes could not be timed, the cheapest that passes is taken: {problem}")
            return
        for attempt in ran:
            attempt.timing = {
                n: found[key] for n in attempt.artifacts if (key := f"{attempt.recipe.name}/{n}") in found
            }
        self.progress.advance()

    def _nearest_miss(self) -> str:
        def shortfall(attempt: Attempt) -> float:
            if attempt.status == "failed":
                return float("inf")
            parities = [found.parity for found in attempt.measured.values()]
            gaps = [self.gates.min_cosine - p.ordinary_min for p in parities]
            gaps += [self.gates.min_degenerate - p.degenerate_min for p in parities]
            gaps += [self.gates.min_agreement - (found.agreement or 0.0) for found in attempt.measured.values()]
            if self.task is not None:
                gaps += [self.task.min_retention - found.retention for found in attempt.measured.values()]
            return max(gaps, default=float("inf"))

        nearest = min(self.attempts, key=shortfall)
        try:
            require({f"{nearest.recipe.name}, the nearest of {len(self.attempts)} recipes": nearest.why})
        except BudgetError as problem:
            return str(problem)
        raise AssertionError("unreachable: an attempt that has no fault passed")


def _taken(chosen: dict[str, Attempt], best: Attempt | None) -> dict[str, Attempt]:
    """Notes what was chosen, and why. best: what passes in both engines."""
    for name, attempt in chosen.items():
        attempt.taken += (name,)
    for attempt in chosen.values():
        attempt.status, attempt.why = "chosen", _reason(attempt, both=attempt is best)
    return chosen


def _reason(attempt: Attempt, *, both: bool) -> str:
    """Why it is chosen; what is wrong with it in an engine that has another."""
    told = f"the {'fastest' if attempt.timing else 'first'} one that passes"
    if attempt.taken == INT8:
        return told
    own = _ENGINES[attempt.taken[0]]
    if both:
        return f"{told} in both engines, for {own}"
    left = (f"left for {_ENGINES[name]}: {fault}" for name, fault in attempt.faults.items() if fault)
    return "; ".join((f"{told} in {own}", *left))


def keep(chosen: dict[str, Attempt], root: Path) -> dict[str, Artifact]:
    """Moves the chosen artifacts' files to their places in the bundle and removes the other candidates."""
    kept = {}
    for name, attempt in chosen.items():
        artifact = attempt.artifacts[name]
        folder = "onnx" if artifact.engine == "onnxruntime" else "openvino"
        files = []
        for file in artifact.files:
            (root / folder).mkdir(exist_ok=True)
            target = f"{folder}/{Path(file).name}"
            (root / file).rename(root / target)
            files.append(target)
        kept[name] = dataclasses.replace(artifact, files=tuple(files))
    shutil.rmtree(root / CANDIDATES)
    return kept
