"""What was measured in the course of training: kept in every checkpoint, written beside the student as CSV and SVG."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

from edgebert.distill.svg import begin
from edgebert.errors import EdgeBertError
from edgebert.files import disk_errors, new_file

FILE = "history.json"
_SIZES = _WIDTH, _HEIGHT, _LEFT, _TOP, _PLOT_W, _PLOT_H = 760, 400, 70, 50, 610, 280
_LOSS, _SCORE, _INT8 = "#1f5fbf", "#c8560a", "#2e7d32"


@dataclass(frozen=True)
class Point:
    """After `step` steps: the running mean of the loss, and the score where it was measured, also imitating int8."""

    step: int
    loss: float
    score: float | None = None
    score_int8: float | None = None


@dataclass
class History:
    """The points so far, in the order of their steps, and the running mean of the loss as it is now.

    metric: what the score is called.
    """

    points: list[Point] = field(default_factory=list)
    loss: float | None = None
    metric: str = "agreement"

    @property
    def best(self) -> Point | None:
        """The first of the points with the highest score."""
        measured = [point for point in self.points if point.score is not None]
        return max(measured, key=lambda point: point.score or 0.0, default=None)

    @property
    def without_gain(self) -> int:
        """How many measurements there were after the best one."""
        best = self.best
        return 0 if best is None else sum(p.score is not None and p.step > best.step for p in self.points)

    @property
    def last(self) -> Point | None:
        """The last of the points with a score."""
        return next((point for point in reversed(self.points) if point.score is not None), None)

    def write(self, folder: Path) -> None:
        """Writes it into a checkpoint."""
        (folder / FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> History:
        """That of a checkpoint."""
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls([Point(**point) for point in data["points"]], data["loss"], data["metric"])


def require_figures(out: Path) -> None:
    """Raises EdgeBertError where a file that is no earlier student's figures has the place of those of `out`."""
    for suffix, begins in (("csv", "step,loss,"), ("svg", "<svg ")):
        path = _beside(out, suffix)
        with disk_errors(path):
            if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(begins):
                raise EdgeBertError(
                    f"{path} exists and holds no figures of a training, which are to be written there: choose another "
                    "name for the output, or move the file"
                )


def write_beside(out: Path, history: History, *, title: str) -> None:
    """Writes OUT.training.csv and OUT.training.svg beside the folder `out`, over those of an earlier student.

    Where nothing was trained there are none, and the earlier ones go.
    """
    paths = {suffix: _beside(out, suffix) for suffix in ("csv", "svg")}
    if not history.points:
        for path in paths.values():
            path.unlink(missing_ok=True)
        return
    for suffix, content in (("csv", as_csv(history)), ("svg", as_svg(history, title))):
        with new_file(paths[suffix], replace=True) as partial:
            partial.write_text(content, encoding="utf-8", newline="\n")


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.name}.training.{suffix}")


def as_csv(history: History) -> str:
    """A header and a line a point; empty cells where nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "loss", history.metric, f"{history.metric}_int8"])
    for point in history.points:
        values = astuple(point)
        writer.writerow("" if v is None else f"{v:.8g}" if isinstance(v, float) else v for v in values)
    return text.getvalue()


def as_svg(history: History, title: str) -> str:
    """Loss (left axis) and score (right axis) over the steps, as one picture that needs nothing else."""
    points = history.points
    last = max((p.step for p in points), default=1)
    losses = [(p.step, p.loss) for p in points]
    scores = [(p.step, p.score) for p in points if p.score is not None]
    imitated = [(p.step, p.score_int8) for p in points if p.score_int8 is not None]
    left, right = _range([y for _, y in losses]), _range([y for _, y in (*scores, *imitated)])
    parts = [
        *begin(title, _SIZES),
        *_axis(left, _LEFT - 8, "end", _LOSS),
        *_axis(right, _LEFT + _PLOT_W + 8, "start", _SCORE),
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + share * _PLOT_W
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _PLOT_H + 20}" text-anchor="middle">{round(share * last)}</text>')
    parts.append(f'<text x="{_LEFT + _PLOT_W / 2}" y="{_TOP + _PLOT_H + 40}" text-anchor="middle">steps</text>')
    place = _LEFT
    for name, values, limits, colour in (
        ("loss", losses, left, _LOSS),
        (history.metric, scores, right, _SCORE),
        (f"{history.metric}, imitating int8", imitated, right, _INT8),
    ):
        if values:
            parts += _line(values, last, limits, colour)
            parts.append(f'<text x="{place}" y="{_HEIGHT - 8}" fill="{colour}">{name}</text>')
            place += 30 + 8 * len(name)
    return "\n".join([*parts, "</svg>\n"])


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.05 * (high - low) or max(0.5, 0.05 * abs(high))  # more than a great number's last digit
    return low - room, high + room


def _axis(limits: tuple[float, float], x: float, anchor: str, colour: str) -> list[str]:
    ticks = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, value = _TOP + (1 - share) * _PLOT_H, limits[0] + share * (limits[1] - limits[0])
        ticks.append(f'<text x="{x}" y="{y + 4:.1f}" text-anchor="{anchor}" fill="{colour}">{value:.3g}</text>')
    return ticks


def _line(values: Sequence[tuple[int, float]], last: int, limits: tuple[float, float], colour: str) -> list[str]:
    places = [
        (_LEFT + step / max(last, 1) * _PLOT_W, _TOP + (limits[1] - y) / (limits[1] - limits[0]) * _PLOT_H)
        for step, y in values
    ]
    drawn = [f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
             + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>']  # fmt: skip
    if len(values) <= 20:
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return drawn
