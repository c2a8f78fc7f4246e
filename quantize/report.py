"""The report of a quantization as one HTML page that loads nothing: what was tried, what was kept, and why."""

from __future__ import annotations

import datetime
import html
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.bundle import Bundle
from edgebert.errors import EdgeBertError, MissingExtraError
from edgebert.files import disk_errors, new_file, refuse_existing
from edgebert.processor import processor
from edgebert.quantize.recipe import Recipe
from edgebert.quantize.search import INT8, Attempt
from edgebert.stamps import engine_version

if TYPE_CHECKING:
    from edgebert.quantize.stage import Findings, Options

WORDS = {
    "smooth-quant": "moves part of the range of activations into the weights (SmoothQuant)",
    "split-outliers": "spreads input channels with outliers over several int8 channels, where that takes few",
    "outliers": "keeps input channels with outliers in float, beside the int8 product",
    "static-int8": "linear layers in int8: weights with a scale a channel, activations with one fixed scale",
    "dynamic-int8": "linear layers in int8, activations with the scale of their batch",
    "bias-correction": "takes the mean error of rounded weights out of the bias",
    "weight-only": "packs tables, and weights where it says so, in few bits; they compute in float",
    "float16": "weights in float16 on disk; they compute in float",
}
_FEATURES = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")  # what int8 speed depends on
# The page may run its own script and style and fetch nothing at all.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_STYLE = """
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif; color: #1a1a1a;
  background: #fff; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid #ccc; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; min-width: 60%; }
caption { text-align: left; padding: .3rem 0; color: #444; }
th, td { padding: .35rem .45rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top;
  white-space: nowrap; }
thead th { border-bottom: 2px solid #888; white-space: normal; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
th[scope="row"] { white-space: normal; min-width: 6.5rem; max-width: 11rem; overflow-wrap: anywhere; }
.long { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
tr.chosen { background: #eaf3ea; }
figure { margin: 0; }
figcaption { color: #333; font-size: .95rem; max-width: 60rem; }
"""


def check_report(path: Path) -> None:
    """Asks before the work what `write_report` needs after it.

    Raises: BundleError when `path` exists; MissingExtraError without plotly; EdgeBertError when it cannot be written.
    """
    try:
        import plotly  # noqa: F401
    except ImportError as problem:
        raise MissingExtraError(problem.name or "plotly", "workshop", "edgebert quantize --report") from None
    refuse_existing(path)
    # No folder is made yet: work that fails leaves nothing.
    with disk_errors(path):
        there = next(parent for parent in path.absolute().parents if parent.exists())
        if not there.is_dir():
            raise EdgeBertError(f"cannot write {path}: {there} is not a folder")
        Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=there)).rmdir()


def write_report(path: Path, bundle: Bundle, findings: Findings, options: Options) -> None:
    """Writes the page at `path`, whole or not at all.

    Raises: BundleError when `path` exists; BudgetError when the disk is full.
    """
    with new_file(path) as partial:
        partial.write_text(page(bundle, findings, options), encoding="utf-8")


def page(bundle: Bundle, findings: Findings, options: Options) -> str:
    """The page as HTML. It needs no network; its tables need no JavaScript."""
    from plotly.offline import get_plotlyjs

    title = f"Quantization of {bundle.manifest.lineage.get('source', bundle.root.name)}"
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_text(title)}</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style>\n<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>",
        f"<h1>{_text(title)}</h1>",
        "<noscript><p>The plots need JavaScript; the tables do not.</p></noscript>",
        _head(bundle, findings, options),
        _artifacts(findings),
        _trade_offs(findings, options),
        _recipes(findings),
        _sensitivity(findings),
        _lengths(findings, options),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _head(bundle: Bundle, findings: Findings, options: Options) -> str:
    manifest, gates, task = bundle.manifest, options.gates, options.task
    facts = manifest.lineage.get("quantize", {})
    rows: list[tuple[str, str]] = [
        ("Bundle", bundle.root.name),
        *[(key.capitalize(), str(manifest.lineage[key])) for key in ("source", "revision", "teacher", "student")
          if manifest.lineage.get(key)],
        ("Model", f"{manifest.architecture}, {manifest.dimension} dimensions, up to {manifest.max_length} tokens"),
        *[row for chosen in findings.chosen for row in (
            ("Recipe", f"{chosen.recipe.name}: {chosen.why}"),
            *[(f"Pass {i}", text) for i, text in enumerate(_passes(chosen.recipe), start=1)],
        )],
        ("Gates", f"cosine at least {gates.min_cosine:g} on ordinary and {gates.min_degenerate:g} on degenerate text, "
                  f"agreement at least {gates.min_agreement:g}"),
    ]  # fmt: skip
    if task is not None:
        files = ", ".join(Path(file).name for file in task.files) or task.data
        kept = ", ".join(f"{name} {one.retention:.4f}" for name, one in findings.int8.items())
        rows.append(("Task", f"{task.metric} on {files}; keeps at least {task.min_retention:g} of torch fp32's score"))
        rows.append(("Kept", kept))
    if findings.answers:
        same = ", ".join(f"{name} {value:.4f}" for name, value in findings.answers.items())
        rows.append(("Answers", f"agreement with torch fp32's: {same}"))
    if facts:
        rows.append(("Calibration", f"{facts['calibration_texts']} texts of the file, {facts['calibration_rows']} rows "
                     f"with the made-up ones; {100 * facts['unknown_tokens']:.2f} % unknown tokens"))  # fmt: skip
    versions = {"edgebert": engine_version("edgebert"), **facts.get("versions", {}), "torch": engine_version("torch")}
    rows.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)))
    rows.append(("Measured on", machine()))
    rows.append(("Date", f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"))
    if any(chosen.recipe.depends_on_batch for chosen in findings.chosen):
        rows.append(("Warning", "with dynamic int8 a text's vector depends on what shares its batch"))
    cells = "\n".join(
        f'<tr><th scope="row">{_text(key)}</th><td class="long">{_text(value)}</td></tr>' for key, value in rows
    )
    return f'<div class="wide"><table>\n{cells}\n</table></div>'


def _passes(recipe: Recipe) -> list[str]:
    """Each pass in words, with its options."""
    told = []
    for one in recipe.facts()["passes"]:
        options = ", ".join(f"{key} {_option(value)}" for key, value in one.items() if key != "pass" and value != [])
        told.append(f"{one['pass']}{f' ({options})' if options else ''}: {WORDS[one['pass']]}")
    return told


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value}"


def machine() -> str:
    """The processor's name, its cores and the features int8 depends on."""
    told = processor()
    found = re.search(r"model name\s*:\s*(.*?)(?=\s+(?:flags|Features|CPU part|model name)\s*:|$)", told)
    name = found.group(1) if found else platform.processor() or platform.machine()
    features = [feature for feature in _FEATURES if feature in told.split()]
    return f"{name}, {os.cpu_count()} cores{''.join(f', {feature}' for feature in features)}"


def _artifacts(findings: Findings) -> str:
    head = ["artifact", "MB", "cosine min", "mean", "degenerate min", "agreement", "p50 ms", "sentences/s"]
    rows = []
    for row in findings.table:
        near, parity = ["1"] * 4, row.parity
        if parity is not None:
            near = [f"{v:.5f}" for v in (parity.ordinary_min, parity.ordinary_mean, parity.degenerate_min)]
            near.append("" if parity.agreement is None else f"{parity.agreement:.4f}")
        speed = [f"{row.timing.p50_ms:.2f}", f"{row.timing.sentences_s:.0f}"]
        rows.append([row.name, f"{row.size_mb:.1f}", *near, *speed])
    note = (
        "The files of the bundle, compared with torch fp32: cosines at every length and in several batches, agreement "
        "of pairwise similarities, the median time of one text, and speed in batches of 32, all timed in turns."
    )
    return _section("Artifacts", _table(head, rows, note, texts={0}))


def _trade_offs(findings: Findings, options: Options) -> str:
    from edgebert.quantize.report_plots import points, trade_off

    made, task = points(findings), options.task
    own = task is not None and task.metric != "agreement"
    kept = f"share of {task.metric} kept" if own and task is not None else "agreement with torch fp32"
    gate = options.gates.min_agreement if task is None else task.min_retention
    common = (
        f"Height is the {kept}; the dashed line is the gate. A star is the chosen recipe, a circle one that passed, a "
        "cross one that a gate rejected, a diamond a file in fp32. The dotted line is the Pareto front of what may be "
        "used. The numbers are those of the recipes in the table below. Points at the lower edge may lie below it: "
        "hovering over a point tells all about it."
        + (" fp32 files stand at their agreement, as they were not scored at the task." if own else "")
    )
    timed = any(attempt.timing for attempt in findings.attempts)
    speeds = (
        "Further right is faster. The recipes were timed in turns with each other; torch and the fp32 files later, in "
        "turns with the chosen one, as in the table above."
        if timed
        else "Further right is faster. The recipes were not timed against each other: these are the table's speeds."
    )
    sizes = "Size: further left is smaller; of a recipe's two engines the larger file counts."
    size = _figure("plot-size", trade_off(made, "size_mb", gate, kept), sizes)
    speed = _figure("plot-speed", trade_off(made, "sentences_s", gate, kept), f"Speed: {speeds}")
    return _section("What size and speed cost", f"<p>{_text(common)}</p>\n{size}\n{speed}")


def _recipes(findings: Findings) -> str:
    best = max(attempt.speed(name) for attempt in findings.chosen for name in attempt.taken)
    head = ["recipe", "no.", "status", "MB", "cosine min", "degenerate min", "kept", "ONNX Runtime sentences/s",
            "OpenVINO sentences/s", "why"]  # fmt: skip
    rows = []
    for place, attempt in enumerate(findings.attempts, start=1):
        parities = [found.parity for found in attempt.measured.values()]
        rows.append([
            attempt.recipe.name,
            str(place),
            attempt.status,
            "" if attempt.size_mb is None else f"{attempt.size_mb:.1f}",
            *[f"{min(v):.5f}" if v else "" for v in
              ([p.ordinary_min for p in parities], [p.degenerate_min for p in parities])],
            "" if attempt.retention is None else f"{attempt.retention:.5f}",
            *[f"{attempt.timing[name].sentences_s:.0f}" if name in attempt.timing else "" for name in INT8],
            _why(attempt, best),
        ])  # fmt: skip
    note = "In the order in which they were tried, from cheap to dear; each number is that of the worse engine."
    marked = [attempt.status for attempt in findings.attempts]
    return _section("Recipes", _table(head, rows, note, texts={0, 2, 9}, classes=marked))


def _why(attempt: Attempt, best: float) -> str:
    """Why it was taken or left; the search gives a reason to all but those that passed. best: sentences a second."""
    if attempt.why or attempt.status != "passed":
        return attempt.why
    if attempt.timing and best:
        return f"passes, but {attempt.sentences_s:.0f} sentences/s against {best:.0f}"
    return "passes, but a cheaper one does too; it was not timed"


def _left(recipe: str, count: int, of: int) -> str:
    """How many layers a recipe leaves in float."""
    if count == of:
        return f"{recipe} leaves all of them in float; what it packs is weights."
    return f"{recipe} leaves {count or 'none'} of them in float."


def _sensitivity(findings: Findings) -> str:
    title, costs = "Sensitivity of the layers", findings.sensitivity
    if not costs:
        return _section(title, "<p>It was not measured: no recipe that was tried leaves layers in float.</p>")
    from edgebert.quantize.report_plots import MOST_LAYERS, in_float, layers

    by_recipe = {chosen.recipe.name: in_float(chosen.recipe, costs) for chosen in findings.chosen}
    floats, some = set(costs).intersection(*by_recipe.values()), set[str]().union(*by_recipe.values())
    left = " ".join(_left(name if len(by_recipe) > 1 else "The chosen recipe", len(own), len(costs))
                    for name, own in by_recipe.items())  # fmt: skip
    left += " Hatched are those in float." if floats and len(floats) < len(costs) else ""
    shown = f"the {MOST_LAYERS} most sensitive of {len(costs)}" if len(costs) > MOST_LAYERS else f"all {len(costs)}"
    note = (
        f"A bar for each linear layer ({shown}): how far sentence vectors move when that layer alone is rounded to "
        f"int8. The axis is logarithmic: each step is ten times as much. {left}"
    )
    rows = [
        [name, f"{cost:.3e}", "float" if name in floats else "both" if name in some else "int8"]
        for name, cost in costs.items()
    ]
    table = _table(["layer", "mean of 1 - cosine", "computes in"], rows, "All layers", texts={0, 2})
    plot = _figure("plot-layers", layers(costs, floats), note)
    return _section(title, f"{plot}\n<details><summary>The same as a table</summary>{table}</details>")


def _lengths(findings: Findings, options: Options) -> str:
    from edgebert.quantize.report_plots import lengths

    note = (
        "The least cosine to torch fp32 of a text alone in its batch, at each length, in each engine's int8 file: "
        "running text above, degenerate text (empty, one word repeated) below. Higher is nearer; no point may lie "
        "below the dashed gate. Batches are checked too; the table of artifacts has the least of all."
    )
    return _section("Cosine by length", _figure("plot-lengths", lengths(findings, options), note))


def _figure(name: str, figure: Any, note: str) -> str:
    drawn: str = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"responsive": True, "displayModeBar": False}
    )
    caption = f'<figcaption id="{name}-note">{_text(note)}</figcaption>'
    return f'<figure aria-describedby="{name}-note">\n{drawn}\n{caption}\n</figure>'


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{content}\n</section>"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], note: str, *, texts: set[int], classes: Sequence[str] = ()
) -> str:
    """A table whose first column heads its rows. texts: columns of text, the others are numbers; classes: of rows."""

    def kind(column: int) -> str:
        last = column == len(head) - 1
        return (' class="long"' if last else "") if column in texts else ' class="number"'

    heads = "".join(f'<th scope="col"{kind(i)}>{_text(cell)}</th>' for i, cell in enumerate(head))
    lines = []
    for place, row in enumerate(rows):
        cells = [f'<th scope="row"{kind(0)}>{_text(row[0])}</th>']
        cells += [f"<td{kind(i)}>{_text(cell)}</td>" for i, cell in enumerate(row[1:], start=1)]
        mark = f' class="{_text(classes[place])}"' if classes else ""
        lines.append(f"<tr{mark}>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table>\n<caption>{_text(note)}</caption>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _text(value: str) -> str:
    """Text as it may stand in HTML, in attributes too."""
    return html.escape(value, quote=True)
