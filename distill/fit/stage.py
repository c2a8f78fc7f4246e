"""The stage: teacher, text and a budget in, the student that fits it out."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle, seal
from edgebert.cache import cache_folder
from edgebert.card import model_card
from edgebert.distill.corpus import Corpus, open_corpus
from edgebert.distill.fit.costs import Built, Costs, Speed
from edgebert.distill.fit.device import Device
from edgebert.distill.fit.halving import halve, schedule
from edgebert.distill.fit.judge import Judge
from edgebert.distill.fit.outcome import Outcome, Row, as_csv, nearest_miss, ranked, write_beside
from edgebert.distill.fit.plot import as_svg
from edgebert.distill.fit.rungs import Chain, Rungs
from edgebert.distill.fit.space import Budget, Candidate, Space
from edgebert.distill.lock import sole_user
from edgebert.distill.prepare import draw, prompted, prompts_of
from edgebert.distill.recipe import Recipe
from edgebert.distill.select import content_of
from edgebert.distill.teacher import fingerprint
from edgebert.errors import BudgetError, DataError, RecipeError
from edgebert.files import disk_errors, new_folder, require_writable, sha256
from edgebert.manifest import Quality
from edgebert.processor import processor_name
from edgebert.progress import Progress
from edgebert.schema import plain
from edgebert.targets.profile import MeasuredShape

_CALIBRATION, _TIMED = 5000, 256
_LEAST = 40  # texts to train on: quantizing takes 16 and more to calibrate and to compare


@dataclass(frozen=True)
class Options:
    """space: of candidates. recipe: how they are trained; its student is the candidates' start, its epochs those of
    the last rung. column: the text's in JSONL, CSV, TSV and Parquet. dev: text pairs with scores to judge by. threads:
    of the timed models. work: where all is kept, by default the cache.
    """

    space: Space = dataclasses.field(default_factory=Space)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    column: str | None = None
    dev: Path | None = None
    threads: int | None = None
    work: Path | None = None


def fit(
    teacher: Bundle, corpus: Sequence[str | Path], out: Path, budget: Budget, device: Device,
    options: Options | None = None, *, progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """The student of `teacher` that meets `budget` on `device` and keeps most, as the new bundle `out`; beside it a
    table and a plot of all candidates.

    What was measured and trained is kept in the cache under teacher, text and recipe: the same call, with another
    budget too, goes on from there.
    Raises: BudgetError with the nearest miss when no candidate meets the budget; BundleError, DataError, RecipeError,
    TargetError; EdgeBertError when another process fits the same.
    """
    options = options or Options()
    require_writable(out)
    with _opened(teacher, corpus, device, options, progress or Progress()) as found:
        return _Fit(found, budget, device, out).run()


def measure(
    teacher: Bundle, corpus: Sequence[str | Path], device: Device, options: Options | None = None, *,
    progress: Progress | None = None,
) -> tuple[MeasuredShape, ...]:  # fmt: skip
    """The speeds of all shapes of the space on this machine, each once: what a profile's table holds.

    Raises: as `fit`.
    """
    options = options or Options()
    with _opened(teacher, corpus, device, options, progress or Progress()) as (rungs, candidates):
        shapes: dict[tuple[int, ...], Candidate] = {}
        for candidate in candidates:
            shapes.setdefault(rungs.costs.built(candidate).shape, candidate)
        speeds = rungs.costs.speeds(list(shapes.values()))
        rungs.costs.tidy()
        return tuple(
            MeasuredShape(*rungs.costs.built(candidate).shape, **vars(speeds[candidate]))
            for candidate in shapes.values()
        )


Found = tuple[Rungs, tuple[Candidate, ...]]


@contextlib.contextmanager
def _opened(
    teacher: Bundle, corpus: Sequence[str | Path], device: Device, options: Options, progress: Progress
) -> Iterator[Found]:
    """All that a fit works with, in its folder, which is locked while it works."""
    recipe = options.recipe
    if recipe.student.start != "teacher":
        raise RecipeError(
            f"student.start is {recipe.student.start!r}; edgebert fit copies the teacher's layers: leave it out"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("edgebert fit times models and runs in one process: start it without torchrun")
    if any(str(path) == "-" for path in corpus):
        raise DataError("standard input (-) can be read once, and a fit reads the text again and again: write the "
                        "text to a file first")  # fmt: skip
    candidates = options.space.candidates(teacher)
    if teacher.is_sealed:
        teacher.check()
    text = open_corpus(corpus, column=options.column)
    drawn = draw(text, teacher, recipe, progress)
    rows = drawn.chosen[drawn.rows]
    if len(rows) < _LEAST:
        raise DataError(f"{len(rows)} sentences to train on are too few to fit a budget: at least {_LEAST} are needed")
    folder = (options.work or cache_folder("fits")) / _key(teacher, text.fingerprint, recipe, options.dev)
    with contextlib.ExitStack() as open_things:
        with disk_errors(folder):
            open_things.enter_context(sole_user(folder))
        costs = Costs(
            teacher, text, recipe, device, folder, _evenly(text, rows, _CALIBRATION), _evenly(text, rows, _TIMED),
            options.threads, progress,
        )  # fmt: skip
        shutil.rmtree(folder / "scratch", ignore_errors=True)
        for left in folder.rglob(".*.partial"):
            shutil.rmtree(left, ignore_errors=True)  # of a run that was killed
        held_out = [prompted(text, int(row), prompts_of(teacher)) for row in drawn.chosen[drawn.held_out]]
        yield Rungs(costs, Judge(teacher, held_out, options.dev, folder), corpus, options.column), candidates


class _Fit:
    """One run of the stage. `rows` is what is known of each candidate, in the order of the space."""

    def __init__(self, found: Found, budget: Budget, device: Device, out: Path) -> None:
        (self.rungs, self.candidates), self.budget, self.device, self.out = found, budget, device, out
        self.costs, self.judge, self.progress = self.rungs.costs, self.rungs.judge, self.rungs.costs.progress
        self.rows: dict[Candidate, Row] = {}
        self.chains: dict[str, Chain] = {}

    def run(self) -> Outcome:
        """Everything from the first size to the sealed bundle."""
        self.judge.prepare()
        fitting = self._fitting()
        self._train(fitting)
        self.progress.start("int8 of what was trained", len(fitting))
        for candidate in fitting:
            kept = self.rungs.int8(candidate, self.chains[candidate.unit])
            epochs = sum(self.chains[candidate.unit])
            self._note(candidate, retention=kept, epochs=epochs, status="beaten")
            self.progress.advance()
        candidate, bundle = self._choose(fitting)
        rows = tuple(ranked(list(self.rows.values())))
        self._seal(candidate, bundle, rows)
        title = f"{self.out.name}: {len(rows)} candidates"
        write_beside(self.out, "csv", as_csv(rows))
        write_beside(self.out, "svg", as_svg(rows, self.budget, title))
        name = self.device.profile.name
        return Outcome(Bundle.open(self.out), rows, self.budget, name, self.judge.metric, self.judge.data)

    def _fitting(self) -> list[Candidate]:
        """The candidates that meet the budget's size and p99.

        Raises: BudgetError with the nearest miss when there is none.
        """
        self.progress.start("sizes of the candidates", len(self.candidates))
        for candidate in self.candidates:
            built = self.costs.built(candidate)
            self.rows[candidate] = Row(candidate.words(built.tokens), built.size_mb, built.tokens)
            self.progress.advance()
        small = [candidate for candidate in self.candidates if not self._over(candidate)]
        for candidate, speed in self.costs.speeds(small).items():
            self._note(candidate, **vars(speed))
        self.costs.tidy()
        fitting = [candidate for candidate in small if not self._over(candidate)]
        if not fitting:
            raise BudgetError(
                "no candidate fits the budget, nothing was trained: "
                + nearest_miss(list(self.rows.values()), self.budget)
                + "; or give smaller candidates with --space"
            )
        return fitting

    def _over(self, candidate: Candidate) -> bool:
        row = self.rows[candidate]
        if misses := self.budget.misses(row.size_mb, row.p99_ms, None):
            why = ", ".join(miss.words for miss in misses)
            self.progress.say(f"dropped: {row.candidate}: {why}")
            self._note(candidate, why=why)
        return bool(misses)

    def _train(self, fitting: Sequence[Candidate]) -> None:
        """Successive halving over what is trained; candidates that differ in their table's bits alone train once."""
        # Those with the teacher's tokenizer first: they need its states, and what the others need is kept beside.
        units = {candidate.unit: candidate for candidate in sorted(fitting, key=lambda c: c.trims)}
        rungs = schedule(len(units), self.costs.recipe.training.epochs)

        def train(unit: str, chain: Chain) -> float:
            number = f"rung {len(chain)} of {len(rungs)}, {chain[-1]:g} epochs"
            self.progress.say(f"{number}: {units[unit].words().rpartition(',')[0]}")
            score = self.rungs.train(units[unit], chain)
            self.progress.say(f"retention in fp32 {score:.4f}")
            return score

        self.chains = halve(list(units), rungs, train)

    def _choose(self, fitting: Sequence[Candidate]) -> tuple[Candidate, Bundle]:
        """The candidate that keeps most and, quantized and proven, meets the whole budget.

        Raises: BudgetError with the nearest miss when there is none.
        """
        for candidate in sorted(fitting, key=lambda c: -(self.rows[c].retention or 0.0)):
            row = self.rows[candidate]
            if self.budget.misses(row.size_mb, row.p99_ms, row.retention):
                continue
            try:
                bundle = self.rungs.quantized(candidate, self.chains[candidate.unit])
            except BudgetError as problem:
                self._note(candidate, status="missed", why=str(problem))
                continue
            built, speed = self._proven(bundle)
            self._note(candidate, **vars(speed), size_mb=built.size_mb, retention=self.rungs.retention(bundle))
            row = self.rows[candidate]
            misses = self.budget.misses(row.size_mb, row.p99_ms, row.retention)
            if not misses:
                self._note(candidate, status="chosen")
                return candidate, bundle
            self._note(candidate, status="missed", why=", ".join(miss.words for miss in misses))
            self.progress.say(f"quantized and proven it misses the budget: {self.rows[candidate].figures()}")
        trained = [self.rows[candidate] for candidate in fitting]
        raise BudgetError(
            f"no candidate meets the whole budget after training: {nearest_miss(trained, self.budget)}; what was "
            "trained is kept, and the same command with another budget goes on from there. More text or --epochs "
            "keep more"
        )

    def _proven(self, bundle: Bundle) -> tuple[Built, Speed]:
        """Size and speed of the bundle itself."""
        built = self.costs.size(bundle)
        return built, self.costs.time([bundle.root])[0] if self.device.here else self.costs.listed(built)

    def _note(self, candidate: Candidate, **facts: object) -> None:
        self.rows[candidate] = dataclasses.replace(self.rows[candidate], **facts)  # type: ignore[arg-type]

    def _seal(self, candidate: Candidate, bundle: Bundle, rows: Sequence[Row]) -> None:
        """The bundle of the chosen candidate under its own name, with what was asked, tried and measured."""
        row, of = self.rows[candidate], bundle.manifest
        facts = {
            "budget": plain(self.budget),
            "device": self.device.profile.name,
            "timed_on": processor_name() if self.device.here else "the device's own table",
            "artifact": self.device.artifact,
            "metric": self.judge.metric,
            "measured": plain(row),
            "tried": plain(list(rows)),
            "rungs": list(self.chains[candidate.unit]),
        }
        kept = Quality(
            f"{self.judge.metric}_of_the_teacher", round(row.retention or 0.0, 6), self.judge.data, self.device.artifact
        )
        lineage = self.rungs.lineage(candidate, self.chains[candidate.unit], of.lineage) | {"fit": facts}
        manifest = dataclasses.replace(of, quality=(*of.quality, kept), lineage=lineage, files={})
        with new_folder(self.out) as partial:
            shutil.copytree(bundle.root, partial, dirs_exist_ok=True)
            (partial / "README.md").write_text(model_card(manifest, self.out.name, partial), encoding="utf-8")
            seal(partial, manifest)


def _evenly(text: Corpus, rows: NDArray[np.int64], count: int) -> list[str]:
    """At most `count` of those texts, evenly spread."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    return [text[int(rows[place])] for place in places]


def _key(teacher: Bundle, text: str, recipe: Recipe, dev: Path | None) -> str:
    """A name for all that is the same in fits that share what they measure and train: not their budgets, spaces and
    epochs, which name the parts of the folder."""
    if dev is not None and not dev.is_file():
        raise DataError(f"no such file: {dev}")
    training = dataclasses.replace(recipe.training, epochs=0.0, tensorboard=None)
    data = plain(recipe.data) | {"exclude": content_of(recipe.data.exclude)}
    facts = [fingerprint(teacher), text, plain(dataclasses.replace(recipe, training=training)) | {"data": data}]
    return hashlib.sha256(json.dumps([*facts, dev and sha256(dev)], sort_keys=True).encode()).hexdigest()[:32]
