"""The candidates as one picture that needs nothing else: size against retention, with p99 in words."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from edgebert.distill.fit.budget import Budget
from edgebert.distill.fit.outcome import Row
from edgebert.distill.svg import begin

_SIZES = _WIDTH, _HEIGHT, _LEFT, _TOP, _PLOT_W, _PLOT_H = 760, 420, 80, 50, 620, 290
_CHOSEN, _FRONT, _BEATEN, _LIMIT = "#c8560a", "#1f5fbf", "#999999", "#b00020"
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
Range = tuple[float, float]


def as_svg(rows: Sequence[Row], budget: Budget, title: str) -> str:
    """The trained rows: the Pareto set filled, the chosen one in another colour, the budget's limits dashed."""
    trained = [row for row in rows if row.retention is not None]
    across = _range([row.size_mb for row in trained], budget.max_mb)
    up = _range([row.retention or 0.0 for row in trained], budget.min_retention)
    parts = [
        *begin(title, _SIZES),
        *_ticks(across, up),
        *_limits(budget, across, up),
        *(part for row in trained for part in _mark(row, across, up)),
    ]
    words = (("chosen", _CHOSEN), ("no other beats it", _FRONT), ("beaten", _BEATEN), ("budget", _LIMIT))
    parts += [
        f'<text x="{_LEFT + 160 * place}" y="{_HEIGHT - 8}" fill="{colour}">{name}</text>'
        for place, (name, colour) in enumerate(words)
    ]
    return "\n".join([*parts, "</svg>\n"])


def _range(values: Sequence[float], limit: float | None) -> Range:
    """From the least to the greatest value, the limit among them, with some room."""
    there = [*values, *([] if limit is None else [limit])]
    low, high = min(there, default=0.0), max(there, default=1.0)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def _x(value: float, across: Range) -> float:
    return _LEFT + (value - across[0]) / (across[1] - across[0]) * _PLOT_W


def _y(value: float, up: Range) -> float:
    return _TOP + (up[1] - value) / (up[1] - up[0]) * _PLOT_H


def _ticks(across: Range, up: Range) -> list[str]:
    found = []
    for share in _SHARES:
        size, kept = across[0] + share * (across[1] - across[0]), up[0] + share * (up[1] - up[0])
        found.append(
            f'<text x="{_x(size, across):.1f}" y="{_TOP + _PLOT_H + 20}" text-anchor="middle">{size:.3g}</text>'
        )
        found.append(f'<text x="{_LEFT - 8}" y="{_y(kept, up) + 4:.1f}" text-anchor="end">{kept:.4g}</text>')
    middle = _LEFT + _PLOT_W / 2
    return [
        *found,
        f'<text x="{middle}" y="{_TOP + _PLOT_H + 40}" text-anchor="middle">MB of the package</text>',
        f'<text x="{_LEFT}" y="42" fill="#555">retention in int8; beside each point its p99</text>',
    ]


def _limits(budget: Budget, across: Range, up: Range) -> list[str]:
    style = f'stroke="{_LIMIT}" stroke-dasharray="5 4"'
    found = []
    if budget.max_mb is not None:
        x = _x(budget.max_mb, across)
        found.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_H}" {style}/>')
    if budget.min_retention is not None:
        y = _y(budget.min_retention, up)
        found.append(f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT_W}" y1="{y:.1f}" y2="{y:.1f}" {style}/>')
    return found


def _mark(row: Row, across: Range, up: Range) -> list[str]:
    colour = {"chosen": _CHOSEN, "pareto": _FRONT}.get(row.status, _BEATEN)
    x, y = _x(row.size_mb, across), _y(row.retention or 0.0, up)
    fill = "white" if colour == _BEATEN else colour
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2">'
        f"<title>{escape(row.figures())}</title></circle>",
        f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" font-size="11" fill="#555">{row.p99_ms or 0:.1f} ms</text>',
    ]
