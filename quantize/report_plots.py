"""The plots of the report: plotly figures of sizes, speeds, layers and lengths."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from edgebert.quantize.passes.dynamic_int8 import DynamicInt8
from edgebert.quantize.passes.static_int8 import StaticInt8
from edgebert.quantize.recipe import Recipe
from edgebert.quantize.search import Attempt

if TYPE_CHECKING:
    from edgebert.quantize.stage import Findings, Options

COLOURS = {"onnxruntime": "#1f5fbf", "openvino": "#c8560a", "torch": "#555555"}
ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch"}
SYMBOLS = {"chosen": "star", "passed": "circle", "rejected": "x", "failed": "triangle-down", "fp32": "diamond"}
_BESIDE = {"onnxruntime": "middle left", "openvino": "middle right", "torch": "top center"}
MOST_LAYERS = 40
_GATE = "#b00020"
_LEAST_COST = 1e-9  # what rounding cannot be told from; the axis is logarithmic
_FONT = {"family": "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'Noto Sans CJK SC', sans-serif", "size": 14}


@dataclass(frozen=True)
class Point:
    """One engine with one recipe, or in fp32. label: its place in the table of recipes.

    sentences_s: None where it was not timed. tells: the lines of its hover.
    """

    name: str
    label: str
    engine: str
    status: str
    retention: float
    size_mb: float
    sentences_s: float | None
    tells: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether it may be chosen: no gate rejects it, no engine failed."""
        return self.status in ("chosen", "passed", "fp32")


def points(findings: Findings) -> list[Point]:
    """What was measured: every attempt in every engine, the fp32 files and torch."""
    made = [_reference(row.name, findings) for row in findings.table if not row.name.endswith("int8")]
    for place, attempt in enumerate(findings.attempts, start=1):
        made += [_tried(attempt, str(place), name, findings) for name in attempt.measured]
    return made


def _reference(name: str, findings: Findings) -> Point:
    row = next(row for row in findings.table if row.name == name)
    found = findings.measured.get(name)
    kept = 1.0 if found is None else found.retention
    tells = ["the reference" if found is None else f"agreement with torch fp32 {kept:.5f}"]
    engine = name.split("-")[0]
    label = engine if found is None else ""
    return Point(name, label, engine, "fp32", kept, row.size_mb, row.timing.sentences_s, tuple(tells))


def _tried(attempt: Attempt, label: str, name: str, findings: Findings) -> Point:
    """The point of one engine; what the search did not time or weigh, the table has for the chosen one."""
    found = attempt.measured[name]
    row = next((row for row in findings.table if row.name == name), None) if name in attempt.taken else None
    timing = attempt.timing.get(name) or (row.timing if row is not None else None)
    size = row.size_mb if row is not None else attempt.size_mb or 0.0
    parity = found.parity
    tells = [
        f"kept {found.retention:.5f}",
        f"cosine at least {parity.ordinary_min:.5f}, on degenerate text {parity.degenerate_min:.5f}",
        *([f"agreement {parity.agreement:.5f}"] if parity.agreement is not None else []),
        *([f"{timing.p50_ms:.2f} ms for one text"] if timing is not None else []),
        *([f"why: {attempt.why}"] if attempt.why else []),
    ]
    speed, state = timing.sentences_s if timing is not None else None, attempt.state(name)
    name, engine = attempt.recipe.name, name.split("-")[0]
    return Point(name, label, engine, state, found.retention, size, speed, tuple(tells))


def front(made: Iterable[Point], axis: Literal["size_mb", "sentences_s"]) -> list[Point]:
    """The usable points that no other beats in both: smaller or faster, and nearer to torch. In the axis' order."""
    better = -1 if axis == "size_mb" else 1
    usable = [point for point in made if point.usable]
    by_axis = sorted(usable, key=lambda point: (-better * float(getattr(point, axis)), -point.retention))
    kept: list[Point] = []
    for point in by_axis:
        if not kept or point.retention > kept[-1].retention:
            kept.append(point)
    return sorted(kept, key=lambda point: float(getattr(point, axis)))


def trade_off(made: Sequence[Point], axis: Literal["size_mb", "sentences_s"], gate: float, kept: str) -> go.Figure:
    """What is kept (the axis' title is `kept`) over size or speed, with the Pareto front and the gate."""
    shown = [point for point in made if getattr(point, axis) is not None]
    floor = _floor(shown, gate)
    figure = go.Figure()
    best = front(shown, axis)
    figure.add_scatter(
        x=[getattr(p, axis) for p in best], y=[p.retention for p in best], mode="lines", name="Pareto front",
        line={"color": "#999", "dash": "dot"}, hoverinfo="skip",
    )  # fmt: skip
    for engine in ENGINES:
        for status, symbol in SYMBOLS.items():
            some = [point for point in shown if (point.engine, point.status) == (engine, status)]
            if some:
                figure.add_scatter(
                    x=[getattr(p, axis) for p in some], y=[max(p.retention, floor) for p in some], mode="markers+text",
                    name=f"{ENGINES[engine]}, {status}" if engine != "torch" else "torch fp32",
                    text=[f"  {p.label}  " for p in some], cliponaxis=False, textfont={"size": 13},
                    textposition=_BESIDE[engine],
                    hovertext=[_hover(p) for p in some], hoverinfo="text",
                    marker={"color": COLOURS[engine], "symbol": symbol, "size": 17 if status == "chosen" else 11},
                )  # fmt: skip
    figure.add_hline(y=gate, line={"color": _GATE, "dash": "dash", "width": 1.5},
                     annotation={"text": f"gate {gate:g}", "font": {"color": _GATE}, "yanchor": "top", "yshift": -2},
                     annotation_position="bottom left")  # fmt: skip
    if axis == "size_mb":
        figure.update_xaxes(title="MB on disk, a logarithmic axis", **_log_ticks([point.size_mb for point in shown]))
    else:
        figure.update_xaxes(title="sentences a second, batches of 32", rangemode="tozero")
    top = max([1.0, *(p.retention for p in shown)])
    room = top - floor
    figure.update_yaxes(title=kept, range=[floor - 0.12 * room, top + 0.1 * room], tickformat=".4~f")
    return _laid_out(figure, 460)


def _log_ticks(sizes: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis around `sizes` whose ticks are plain numbers."""
    low, high = 0.85 * min(sizes), 1.15 * max(sizes)
    ticks = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 1.5, 2, 3, 4, 5, 7)]
    shown = [tick for tick in ticks if low <= tick <= high]
    return {"type": "log", "range": [math.log10(low), math.log10(high)], "tickvals": shown,
            "ticktext": [f"{tick:g}" for tick in shown]}  # fmt: skip


def _floor(shown: Iterable[Point], gate: float) -> float:
    """Below this, points are drawn at it: one bad recipe must not press all others together."""
    low = min([gate, *(point.retention for point in shown if point.usable)])
    floor = low - max(0.005, 0.6 * (1 - low))
    return max(floor, min([gate, *(point.retention for point in shown)]))


def _hover(point: Point) -> str:
    size = [f"{point.size_mb:.1f} MB"]
    if point.sentences_s is not None:
        size.append(f"{point.sentences_s:.0f} sentences/s")
    first = f"<b>{_plain(point.name)}</b>, {ENGINES[point.engine]}, {point.status}"
    return "<br>".join([first, ", ".join(size), *(_wrapped(line) for line in point.tells)])


def _wrapped(text: str, width: int = 80) -> str:
    words, lines = text.split(" "), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(_plain(line) for line in lines)


def _plain(text: str) -> str:
    """Text that plotly, which reads some tags in it, shows as it is."""
    return html.escape(text, quote=False)


def in_float(recipe: Recipe, layers: Iterable[str]) -> set[str]:
    """Those of the layers whose MatMul the recipe leaves in float, by the exporter's naming."""
    rounding = [one for one in recipe.passes if isinstance(one, StaticInt8 | DynamicInt8)]
    excluded = {node.replace("/", ".") for one in rounding for node in one.exclude}
    return {name for name in layers if not rounding or f".encoder.backbone.{name}.MatMul" in excluded}


def short(layer: str) -> str:
    """A layer's name without what all names share: "encoder.layer.3.attention.self.query" is "3 attention query"."""
    name = re.sub(r"^.*?\.(\d+)\.", r"\1 ", layer, count=1)
    return re.sub(r"\.(self|attn)\.", ".", name).replace(".", " ")


def layers(sensitivity: dict[str, float], floats: set[str]) -> go.Figure:
    """A bar a layer, the most sensitive on top; those in `floats` in another colour and with a word."""
    shown = list(sensitivity.items())[:MOST_LAYERS]
    names = [_plain(short(name)) for name, _ in shown]
    costs = [max(cost, _LEAST_COST) for _, cost in shown]
    clash = len(set(names)) < len(names)
    figure = go.Figure()
    for label, colour, wanted in (("int8", COLOURS["onnxruntime"], False), ("left in float", "#8a8a8a", True)):
        some = [(name, cost) for name, cost in shown if (name in floats) is wanted]
        if some:
            figure.add_bar(
                x=[max(cost, _LEAST_COST) for _, cost in some],
                y=[_plain(name if clash else short(name)) for name, _ in some],
                orientation="h", name=label, marker={"color": colour, "pattern": {"shape": "/" if wanted else ""}},
                text=[f"{cost:.1e}{', float' if wanted else ''}" for _, cost in some], textposition="outside",
                cliponaxis=False, hovertext=[f"{_plain(name)}<br>{cost:.3e}" for name, cost in some],
                hoverinfo="text",
            )  # fmt: skip
    order = [_plain(name) for name, _ in shown] if clash else names
    figure.update_yaxes(categoryorder="array", categoryarray=order, autorange="reversed", dtick=1, automargin=True,
                        tickfont={"size": 13}, ticksuffix=" ")  # fmt: skip
    figure.update_xaxes(type="log", title="mean of 1 - cosine when this layer alone is rounded", exponentformat="power",
                        dtick=1, range=[math.log10(costs[-1]) - 0.2, math.log10(costs[0]) + 0.45])  # fmt: skip
    figure.update_layout(bargap=0.25, barmode="overlay")
    return _laid_out(figure, 150 + 22 * len(shown))


def lengths(findings: Findings, options: Options) -> go.Figure:
    """The least cosine at each length, ordinary text above and degenerate below, a line for each int8 artifact."""
    gates = options.gates.cosines
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12,
                           subplot_titles=[f"{kind} text" for kind in gates])  # fmt: skip
    for row, (kind, gate) in enumerate(gates.items(), start=1):
        lowest = gate
        for name, found in findings.measured.items():
            if not name.endswith("int8"):
                continue
            least = _least(found.lengths, kind)
            lowest = min([lowest, *least.values()])
            engine = name.split("-")[0]
            figure.add_scatter(
                x=list(least), y=list(least.values()), mode="lines+markers", name=f"{ENGINES[engine]} int8",
                legendgroup=engine, showlegend=row == 1, line={"color": COLOURS[engine], "width": 1.5},
                marker={"size": 4, "symbol": "circle" if engine == "openvino" else "square"},
                hovertemplate="%{x} tokens: cosine %{y:.5f}", row=row, col=1,
            )  # fmt: skip
        figure.add_hline(y=gate, row=row, col=1, line={"color": _GATE, "dash": "dash", "width": 1.5},
                         annotation={"text": f"gate {gate:g}", "font": {"color": _GATE}},
                         annotation_position="top right")  # fmt: skip
        room = max(1 - lowest, 1e-3)
        figure.update_yaxes(title="cosine", range=[lowest - 0.1 * room, 1 + 0.05 * room], row=row, col=1)
    figure.update_xaxes(title="tokens", row=2, col=1)
    figure.update_xaxes(showticklabels=True, rangemode="tozero")
    return _laid_out(figure, 660)


def _least(measured: Iterable[tuple[int, str, float]], kind: str) -> dict[int, float]:
    least: dict[int, float] = {}
    for tokens, of, cosine in sorted(measured):
        if of == kind:
            least[tokens] = min(cosine, least.get(tokens, cosine))
    return least


def _laid_out(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="plotly_white", height=height, font=_FONT, margin={"l": 80, "r": 40, "t": 90, "b": 60},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "yref": "paper"}, showlegend=True,
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"color": "#1a1a1a"}},
    )  # fmt: skip
    figure.update_xaxes(showline=True, linecolor="#888", gridcolor="#e6e6e6", zeroline=False)
    figure.update_yaxes(showline=True, linecolor="#888", gridcolor="#e6e6e6", zeroline=False)
    return figure
