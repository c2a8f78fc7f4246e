"""What a fit found out: a row for each candidate, as a table, as CSV and in words."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from edgebert.bundle import Bundle
from edgebert.distill.fit.budget import Budget
from edgebert.distill.fit.pareto import pareto
from edgebert.files import new_file

Status = Literal["chosen", "pareto", "beaten", "missed", "over budget"]
HEAD = ("candidate", "MB", "p50 ms", "p99 ms", "texts/s", "epochs", "retention", "")


@dataclass(frozen=True)
class Row:
    """One candidate. What was not measured is None: the speed of what is too large, what is kept of what was not
    trained.

    epochs: how long it was trained, in passes over the text. retention: in int8. status: "pareto" when no other trained
    candidate beats it in size, p99 and retention, else "beaten"; "missed" when it was quantized and proven and missed a
    limit then; "over budget" when it was not trained. why: of the last two.
    """

    candidate: str
    size_mb: float
    tokens: int
    p50_ms: float | None = None
    p99_ms: float | None = None
    texts_per_second: float | None = None
    epochs: float = 0.0
    retention: float | None = None
    status: Status = "over budget"
    why: str = ""

    def cells(self) -> list[str]:
        """As one line of a table."""
        told = f"{self.status}: {self.why}" if self.why else self.status
        speed = [_cell(self.p50_ms, 2), _cell(self.p99_ms, 2), _cell(self.texts_per_second, 0)]
        kept = [_cell(self.epochs or None, 3), _cell(self.retention, 4)]
        return [self.candidate, f"{self.size_mb:.2f}", *speed, *kept, told]

    def figures(self) -> str:
        """In words."""
        told = f"{self.candidate} with {self.size_mb:.2f} MB"
        told += "" if self.p99_ms is None else f", p99 {self.p99_ms:.2f} ms"
        return told + ("" if self.retention is None else f", retention {self.retention:.4f}")


@dataclass(frozen=True)
class Outcome:
    """bundle: the chosen student. metric, data: what retention means. device: whose speeds these are."""

    bundle: Bundle
    rows: tuple[Row, ...]
    budget: Budget
    device: str
    metric: str
    data: str

    @property
    def chosen(self) -> Row:
        """The row of the chosen student."""
        return next(row for row in self.rows if row.status == "chosen")


def ranked(rows: Sequence[Row]) -> list[Row]:
    """`rows` with "pareto" and "beaten" told apart among the trained ones."""
    trained = [row for row in rows if row.retention is not None]
    front = pareto([(row.size_mb, row.p99_ms or 0.0, row.retention or 0.0) for row in trained])
    best = {id(trained[place]) for place in front}
    return [
        replace(row, status="pareto" if id(row) in best else "beaten") if row.status in ("pareto", "beaten") else row
        for row in rows
    ]


def nearest_miss(rows: Sequence[Row], budget: Budget) -> str:
    """Which row comes nearest to the budget, and which limits must be loosened to what for it."""

    def far(row: Row) -> float:
        misses = budget.misses(row.size_mb, row.p99_ms, row.retention)
        return max((miss.far for miss in misses), default=1.0)

    # What is too large was not timed: it comes after what was, as more may be wrong with it.
    nearest = min(rows, key=lambda row: (row.retention is None, row.p99_ms is None, far(row)))
    misses = budget.misses(nearest.size_mb, nearest.p99_ms, nearest.retention)
    told = f"the nearest of {len(rows)} is {nearest.figures()}"
    if not misses:  # the gates of int8 refused it
        return f"{told}: {nearest.why}"
    wanted = " and ".join(
        f"{'lower' if miss.option == '--min-retention' else 'raise'} {miss.option} from {miss.limit:g} to "
        f"{miss.enough:g}"
        for miss in misses
    )
    return f"{told}: {wanted}"


def as_csv(rows: Sequence[Row]) -> str:
    """A header and a line a candidate; empty cells where nothing was measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _plain(value) for key, value in asdict(row).items()})
    return text.getvalue()


def write_beside(out: Path, suffix: str, content: str) -> None:
    """Writes OUT.fit.`suffix`, over that of an earlier fit."""
    with new_file(out.with_name(f"{out.name}.fit.{suffix}"), replace=True) as partial:
        partial.write_text(content, encoding="utf-8", newline="\n")


def _plain(value: Any) -> Any:
    return "" if value is None else f"{value:.8g}" if isinstance(value, float) else value


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
