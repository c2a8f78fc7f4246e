"""`edgebert fit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from edgebert.errors import MissingExtraError

if TYPE_CHECKING:
    from edgebert.distill.fit.outcome import Outcome


@click.command("fit")
@click.argument("teacher")
@click.option("--corpus", multiple=True, required=True, metavar="FILE", help="Text like the text to come: it is "
              "trained on, timed with and held out. Lines, JSONL, CSV, TSV or Parquet, gzip or not. Several times for "
              "several files.")  # fmt: skip
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The chosen bundle's folder, a new "
              "one; OUT.fit.csv and OUT.fit.svg lie beside it. With --measure-only a new TOML file.")  # fmt: skip
@click.option("--device", default="this", show_default=True, metavar="this|NAME|FILE.toml", help="The machine to fit: "
              "this one, which is timed, or a profile with a [[measured]] table.")  # fmt: skip
@click.option("--max-mb", type=float, help="Largest package, in millions of bytes: engine file, tokenizer and facts; "
              "the profile's max_size_mb where that is smaller.")  # fmt: skip
@click.option("--p99-ms", type=float, help="Milliseconds that 99 in 100 single texts may take.")
@click.option("--min-retention", type=float, help="Least share kept: of the teacher's agreement on held-out text, or "
              "of its score with --dev.")  # fmt: skip
@click.option("--dev", type=click.Path(path_type=Path), metavar="FILE", help="Judge by pairs: JSONL, CSV, TSV or "
              "Parquet with text, text_pair and score. Not a test split.")  # fmt: skip
@click.option("--space", type=click.Path(path_type=Path), metavar="FILE", help="The candidates as TOML: layers, "
              "take_layers, vocabulary, coverage, tables, width, feed_forward; see docs/distillation.md.")  # fmt: skip
@click.option("--measure-only", is_flag=True, help="Train nothing: time every shape on this machine and write a "
              "profile with the table.")  # fmt: skip
@click.option("--engine", type=click.Choice(["openvino", "onnxruntime"]), default="openvino", show_default=True,
              help="The engine of this machine.")  # fmt: skip
@click.option("--recipe", "recipe_name", metavar="NAME|FILE", help="How candidates are trained: a recipe by name or a "
              "TOML file; its depth, widths and vocabulary are the candidates'.")  # fmt: skip
@click.option("--epochs", type=float, help="Passes over the text of the last round; each round before has half.")
@click.option("--batch-size", type=int, help="Sentences a step.")
@click.option("--learning-rate", type=float, help="Peak learning rate of each round.")
@click.option("--max-sentences", type=int, help="Use a random sample of that many.")
@click.option("--held-out", type=int, help="Sentences kept back to measure what is kept.")
@click.option("--seed", type=int, help="Of sample and order.")
@click.option("--column", help="The text's column in JSONL, CSV, TSV and Parquet.")
@click.option("--revision", help="The teacher's revision on the Hub.")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads of the timed models; by default all.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder for all that is kept, instead of the cache's.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(
    teacher: str, corpus: tuple[str, ...], out: Path, device: str, max_mb: float | None, p99_ms: float | None,
    min_retention: float | None, dev: Path | None, space: Path | None, measure_only: bool, engine: str,
    recipe_name: str | None, epochs: float | None, batch_size: int | None, learning_rate: float | None,
    max_sentences: int | None, held_out: int | None, seed: int | None, column: str | None, revision: str | None,
    threads: int | None, work: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Find the student of TEACHER that fits a budget of size, speed and quality, train it and quantize it.

    Every candidate is built and timed in int8 first, and what is too large or too slow is dropped untrained. The others
    are trained a little; the better half goes on with twice the work, until one is left. The bundle that meets the
    whole budget and keeps most is written. The same command goes on where it was interrupted, and one with another
    budget trains nothing again.
    """
    from edgebert.engines.quiet import quiet_import

    try:
        quiet_import("onnxruntime")
        import accelerate  # noqa: F401
        import onnxruntime.quantization  # noqa: F401
        import torch  # noqa: F401
    except ImportError as problem:
        raise MissingExtraError(problem.name or "torch", "workshop", "edgebert fit") from None
    from edgebert import bundle as bundles
    from edgebert.distill.fit.budget import Budget
    from edgebert.distill.fit.device import find_device
    from edgebert.distill.fit.opening import Options
    from edgebert.distill.fit.space import Space, read_space
    from edgebert.distill.fit.stage import fit
    from edgebert.distill.fit.table import measure, write_table
    from edgebert.distill.named import find_recipe
    from edgebert.distill.recipe import Recipe, override
    from edgebert.files import refuse_existing
    from edgebert.progress import TerminalProgress

    budget = Budget(max_mb, p99_ms, min_retention)
    if measure_only and (budget != Budget() or dev is not None):
        raise click.UsageError("--measure-only times shapes: a budget and --dev have no meaning there")
    chosen = find_device(device, engine=cast("Literal['openvino', 'onnxruntime']", engine), timed=measure_only)
    recipe = override(
        find_recipe(recipe_name) if recipe_name else Recipe(), "training", epochs=epochs, batch_size=batch_size,
        learning_rate=learning_rate, seed=seed,
    )  # fmt: skip
    recipe = override(recipe, "data", max_sentences=max_sentences, held_out=held_out)
    options = Options(Space() if space is None else read_space(space), recipe, column, dev, threads, work)
    refuse_existing(out)
    with TerminalProgress() as progress:
        model = bundles.Bundle.from_pretrained(teacher, revision=revision)
        if measure_only:
            rows = measure(model, corpus, chosen, options, progress=progress)
            write_table(out, rows, chosen)
        else:
            found = fit(model, corpus, out, budget.within(chosen.profile), chosen, options, progress=progress)
    if measure_only:
        click.echo(f"{out}: {len(rows)} shapes")
    else:
        _show(found, as_json)


def _show(found: Outcome, as_json: bool) -> None:
    from edgebert.distill.fit.outcome import HEAD
    from edgebert.schema import plain
    from edgebert.table import show

    if as_json:
        facts = {
            "bundle": str(found.bundle.root),
            "budget": found.budget,
            "device": found.device,
            "metric": found.metric,
            "data": found.data,
            "chosen": found.chosen,
            "candidates": found.rows,
        }
        click.echo(json.dumps(plain(facts), indent=2))
        return
    show(HEAD, [row.cells() for row in found.rows], texts=[HEAD[-1]])
    click.echo(f"retention: {found.metric} in int8 ({found.data}); device: {found.device}")
    click.echo(f"chosen: {found.chosen.figures()}")
    click.echo(f"bundle: {found.bundle.root}")
