"""`edgebert verify`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgebert.proof import Finding
    from edgebert.verify import Report


@click.command("verify")
@click.argument("model")
@click.option("--revision", help="The model's revision on the Hub.")
@click.option("--full", is_flag=True, help="Try every length, not only every width that the runtime pads to.")
@click.option("--threads", type=int, help="Processor threads to time with; by default all that may be used.")
@click.option("--device", type=click.Choice(["auto", "cpu", "npu", "gpu"]), default="auto", show_default=True,
              help="Prove on the CPU, and on this device too; auto is every one that is here.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(model: str, revision: str | None, full: bool, threads: int | None, device: str, as_json: bool) -> None:
    """Check MODEL on this machine: a bundle, a package or a Hub id.

    Files, tokenizer, and every artifact in every installed engine, under every precision hint that the processor
    offers: vectors for the golden texts, and for inputs of all lengths and several batch sizes compared with fp32.
    What holds is remembered for `edgebert.load`. A folder with ONNX or OpenVINO files and no manifest has no golden
    vectors: its files are compared with its fp32 one, and nothing is remembered. Exit 1 if anything fails; a hint
    or a device that is refused is no failure.
    """
    from edgebert.errors import EngineError
    from edgebert.progress import TerminalProgress
    from edgebert.schema import plain
    from edgebert.verify import verify

    with TerminalProgress() as progress:
        report = verify(model, revision=revision, full=full, threads=threads, progress=progress, device=device)
    if as_json:
        click.echo(json.dumps({**plain(report), "ok": report.ok}, indent=2))
    else:
        _show(report)
    if not report.ok:
        failed = [f.what for f in report.findings if f.status == "failed"]
        raise EngineError(f"{model} fails on this machine: {', '.join(failed) or 'no installed engine runs it'}")


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("check", "result", "cosine, ordinary", "degenerate", "ms", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for finding in report.findings:
        table.add_row(*_cells(finding))
    console = Console(highlight=False)
    console.print(table)
    for finding in report.findings:
        if finding.detail:
            console.print(f"{finding.what}: {finding.detail}", markup=False, soft_wrap=True)
    if report.chosen:
        console.print(f"edgebert.load takes {report.chosen} here", markup=False)


def _cells(finding: Finding) -> list[str]:
    colour = {"ok": "green", "failed": "bold red"}.get(finding.status, "yellow")
    numbers = [(finding.ordinary, ".5f"), (finding.degenerate, ".5f"), (finding.milliseconds, ".2f")]
    told = ["" if value is None else format(value, form) for value, form in numbers]
    return [finding.what, f"[{colour}]{finding.status}[/]", *told]
