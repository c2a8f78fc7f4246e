"""`edgebert quantize`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from edgebert.cli.columns import column_option, of_text
from edgebert.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
    from edgebert.quantize.stage import Findings
    from edgebert.quantize.task_gate import Metric

_METRICS = ("agreement", "similarity", "classification", "retrieval", "task")
_TASK_KEPT = 0.993  # of a task's score, where nothing else is asked for
_SHARE = click.FloatRange(0, 1)


@click.command("quantize")
@click.argument("model")
@click.option("--calibration", required=True, multiple=True, help="A file with text like the text to come: lines, "
              "JSONL, CSV, TSV or Parquet, gzip or not; - is standard input.")  # fmt: skip
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder, a new one.")
@column_option("The text's column in JSONL, CSV, TSV and Parquet. Of a model of a task, for its --eval too, "
               "NAME=COLUMN for each that is called otherwise; HEAD.NAME=COLUMN of one of several heads.")  # fmt: skip
@click.option("--revision", help="The model's revision on the Hub.")
@click.option("--samples", type=click.IntRange(min=8), default=200, show_default=True, help="Calibration texts.")
@click.option("--recipe", help="One recipe instead of the ladder: a built-in one or a TOML file.")
@click.option("--tables", type=click.Choice(["4", "8"]), help="Bits of the largest embedding table; by default 8.")
@click.option("--half", is_flag=True, help="Keep the weights of the fp32 files in float16 on disk.")
@click.option("--min-retention", type=_SHARE, help="Let recipes compete; take the fastest that keeps this share of "
              "torch fp32's score.")  # fmt: skip
@click.option("--metric", type=click.Choice(_METRICS), help="The score that --min-retention means: by default that of "
              "the model's task where --eval names labelled examples, else agreement.")  # fmt: skip
@click.option("--eval", "files", multiple=True, metavar="FILE", help="What the metric is measured on: a file of text "
              "pairs with scores; two files of labelled texts, to train and to test on; a folder in BEIR's layout; "
              "or of the metric task labelled examples (NAME=FILE where the model has several heads).")  # fmt: skip
@click.option("--task", "task_name", help="What a head of transformers is for, where that says less: pairs of a "
              "classifier of pairs.")  # fmt: skip
@click.option("--min-cosine", type=_SHARE, default=0.97, show_default=True,
              help="Least cosine of int8 to torch fp32 on ordinary text.")  # fmt: skip
@click.option("--min-degenerate", type=_SHARE, default=0.95, show_default=True,
              help="The same on degenerate text: empty, one word repeated.")  # fmt: skip
@click.option("--min-agreement", type=_SHARE, default=0.98, show_default=True,
              help="Least Spearman correlation of pairwise similarities with those of fp32; where the metric is task, "
              "of the task's own metric with fp32's answers as the right ones.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), help="Write what was found out as one HTML page.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(
    model: str, calibration: tuple[str, ...], out: Path, columns: dict[str, str], revision: str | None, samples: int,
    recipe: str | None, tables: str | None, half: bool, min_retention: float | None, metric: str | None,
    files: tuple[str, ...], task_name: str | None, min_cosine: float, min_degenerate: float, min_agreement: float,
    report: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL, a bundle, a Hugging Face folder or a Hub id, as ONNX and OpenVINO files in fp32 and int8.

    Every file is compared with torch fp32 at every length and in several batches; what is below a limit is an error
    and nothing is written.
    """
    from edgebert.engines.quiet import quiet_import

    try:
        quiet_import("onnxruntime")
        import onnxruntime.quantization  # noqa: F401
        import torch  # noqa: F401
    except ImportError as problem:
        raise MissingExtraError(problem.name or "torch", "workshop", "edgebert quantize") from None
    from edgebert.bundle import Bundle
    from edgebert.files import refuse_existing
    from edgebert.progress import TerminalProgress
    from edgebert.quantize.parity import Gates
    from edgebert.quantize.recipe import find_recipe
    from edgebert.quantize.stage import Options, quantize
    from edgebert.quantize.task_gate import TaskGate
    from edgebert.schema import plain
    from edgebert.tasks import as_task, task_named
    from edgebert.tasks.asked import calibration_items

    refuse_existing(out)
    if report is not None:
        from edgebert.quantize.report import check_report, write_report

        check_report(report)
        page, folder = report.resolve(), out.resolve()
        if page == folder or folder in page.parents or page in folder.parents:
            raise click.UsageError(f"--report {report} and --out {out} lie in each other: move one")
    given = as_task(Bundle.from_pretrained(model, revision=revision), task_name)
    if metric is None:
        metric = "task" if files and given.manifest.heads else "agreement"
    if metric == "task":
        if not given.manifest.heads:
            raise RecipeError(f"--metric task: {model} gives vectors and has no task")
        min_retention = _TASK_KEPT if min_retention is None else min_retention
    if min_retention is None and (files or metric != "agreement"):
        raise click.UsageError("--metric and --eval belong to --min-retention, which is missing")
    heads, names = given.manifest.heads, of_text(columns)
    read = any("text" in task_named(head.task).reads for head in heads)
    column = None if read else names.pop("text", None)  # where no head reads one: of calibration's text
    its = names if metric == "task" else {}
    task = None if min_retention is None else TaskGate(cast("Metric", metric), files, min_retention, its)
    options = Options(
        samples=samples,
        recipe=None if recipe is None else find_recipe(recipe),
        tables=None if tables is None else (4 if tables == "4" else 8),
        half=half,
        gates=Gates(min_cosine, min_degenerate, min_agreement),
        task=task,
    )
    with TerminalProgress() as progress:
        bundle, findings = quantize(
            given,
            calibration_items(given, calibration, column, names),
            out,
            options,
            layers=report is not None,
            progress=progress,
        )
    if report is not None:
        write_report(report, bundle, findings, options)
    if as_json:
        click.echo(json.dumps(plain(findings.table), indent=2))
    else:
        _show(findings, min_agreement)


def _show(findings: Findings, min_agreement: float) -> None:
    from edgebert.table import show

    rows = []
    for row in findings.table:
        parity = row.parity
        near = ["1", "1", "1", "1"]
        if parity is not None:
            near = [f"{v:.5f}" for v in (parity.ordinary_min, parity.ordinary_mean, parity.degenerate_min)]
            near.append(f"{parity.agreement:.4f}")
        rows.append(
            [row.name, f"{row.size_mb:.1f}", *near, f"{row.timing.p50_ms:.2f}", f"{row.timing.sentences_s:.0f}"]
        )
    head = ["artifact", "MB", "cosine min", "mean", "degenerate min", "agreement", "p50 ms", "sentences/s"]
    show(head, rows)
    for chosen in findings.chosen:
        click.echo(f"recipe {chosen.recipe.name}: {chosen.why}")
    if same := findings.answers:
        told = ", ".join(f"{name} {value:.4f}" for name, value in same.items())
        click.echo(f"answers, their agreement with torch fp32's: {told}")
        if min(same.values()) < min_agreement:
            click.echo(
                "warning: int8 changes answers; --eval with labelled examples takes a recipe that keeps them, "
                f"--min-retention {min_agreement:g} one that keeps them on text without labels"
            )
    if any(chosen.recipe.depends_on_batch for chosen in findings.chosen):
        click.echo("warning: with dynamic int8 a text's vector depends on what shares its batch")
