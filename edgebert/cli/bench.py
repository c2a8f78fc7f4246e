"""`edgebert bench`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgebert.bench import Measured

_ENGINES = click.Choice(["auto", "onnxruntime", "openvino", "torch"])
_PRECISIONS = click.Choice(["auto", "int8", "fp32", "bf16", "fp16"])


@click.command("bench")
@click.argument("model")
@click.option("--against", help="A second model, timed in turns with the first; ratios are the first to this one.")
@click.option("--engine", type=_ENGINES, default="auto", show_default=True)
@click.option("--precision", type=_PRECISIONS, default="auto", show_default=True)
@click.option("--artifact", help="The engine file or the manifest's artifact to run, by its name.")
@click.option("--against-engine", type=_ENGINES, default="auto", show_default=True)
@click.option("--against-precision", type=_PRECISIONS, default="auto", show_default=True)
@click.option("--against-artifact", help="The same of the second model.")
@click.option("--texts", help="A file with text to time on; by default the documentation of Python.")
@click.option("--count", type=click.IntRange(min=1), default=512, show_default=True, help="Texts in batches.")
@click.option("--singles", type=click.IntRange(min=1), default=100, show_default=True, help="Texts alone, a round.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--threads", type=int, help="Processor threads of every model; by default all that may be used.")
@click.option("--revision", help="The model's revision on the Hub.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    model: str, against: str | None, engine: str, precision: str, artifact: str | None, against_engine: str,
    against_precision: str, against_artifact: str | None, texts: str | None, count: int, singles: int, rounds: int,
    threads: int | None, revision: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Time MODEL: one text alone (p50, p95, p99), batches of 32, load time and peak memory.

    Each model runs in a process of its own; they take turns on the same text, so that ratios hold on a noisy machine.
    """
    from edgebert.bench import Subject, bench, default_texts
    from edgebert.progress import TerminalProgress
    from edgebert.schema import plain

    subjects = [Subject(model, engine, precision, revision, artifact)]
    if against is not None:
        subjects.append(Subject(against, against_engine, against_precision, None, against_artifact))
    chosen = default_texts(texts, count)
    with TerminalProgress() as progress:
        found = bench(subjects, chosen, threads=threads, rounds=rounds, singles=singles, progress=progress)
    ratios = _ratios(*found) if len(found) == 2 else None
    if as_json:
        click.echo(json.dumps({"measured": plain(found), "ratios": ratios}, indent=2))
    else:
        _show(found, ratios)


def _ratios(first: Measured, second: Measured) -> dict[str, float]:
    """How many times better the first is: smaller or faster."""
    return {
        "p50": second.timing.p50_ms / first.timing.p50_ms,
        "p95": second.timing.p95_ms / first.timing.p95_ms,
        "p99": second.timing.p99_ms / first.timing.p99_ms,
        "sentences_s": first.timing.sentences_s / second.timing.sentences_s,
        "load": second.load_s / first.load_s,
        "memory": second.memory_mb / first.memory_mb,
    }


def _show(found: list[Measured], ratios: dict[str, float] | None) -> None:
    from edgebert.table import show

    rows = []
    for m in found:
        t = m.timing
        figures = [f"{t.p50_ms:.2f}", f"{t.p95_ms:.2f}", f"{t.p99_ms:.2f}", f"{t.sentences_s:.0f}"]
        rows.append([m.model, m.runs, *figures, f"{m.load_s:.2f}", f"{m.memory_mb:.0f}"])
    if ratios is not None:
        rows.append(["times better", "", *(f"{value:.2f}x" for value in ratios.values())])
    head = ["model", "engine", "p50 ms", "p95 ms", "p99 ms", "sentences/s", "load s", "memory MB"]
    show(head, rows, texts=["engine"])
    click.echo(f"{found[0].threads} threads; one text alone, and batches of 32")
