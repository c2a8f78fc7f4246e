"""The stage: teacher, text and a budget in, the student that fits it out."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from edgebert.bundle import Bundle, seal
from edgebert.card import model_card
from edgebert.distill.fit.budget import Budget
from edgebert.distill.fit.costs import Built, Speed
from edgebert.distill.fit.device import Device
from edgebert.distill.fit.halving import halve, schedule
from edgebert.distill.fit.opening import Found, Options, opened
from edgebert.distill.fit.outcome import Outcome, Row, as_csv, nearest_miss, ranked, write_beside
from edgebert.distill.fit.plot import as_svg
from edgebert.distill.fit.rungs import Chain
from edgebert.distill.fit.space import Candidate
from edgebert.errors import BudgetError
from edgebert.files import new_folder, require_writable
from edgebert.manifest import Quality
from edgebert.processor import processor_name
from edgebert.progress import Progress
from edgebert.schema import plain


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
    with opened(teacher, corpus, device, options, progress or Progress()) as found:
        return _Fit(found, budget, device, out).run()


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
        # Those with the teacher's tokenizer first: with its vectors they keep its states, which others may not need.
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
        kept = Quality(self.judge.metric, round(row.retention or 0.0, 6), self.judge.data, self.device.artifact)
        lineage = self.rungs.lineage(candidate, self.chains[candidate.unit], of.lineage) | {"fit": facts}
        manifest = dataclasses.replace(of, quality=(*of.quality, kept), lineage=lineage, files={})
        with new_folder(self.out) as partial:
            shutil.copytree(bundle.root, partial, dirs_exist_ok=True)
            (partial / "README.md").write_text(model_card(manifest, self.out.name, partial), encoding="utf-8")
            seal(partial, manifest)
