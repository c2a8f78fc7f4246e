"""`edgebert trim`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from edgebert.errors import MissingExtraError, RecipeError


@click.command("trim")
@click.argument("model")
@click.option("--corpus", multiple=True, required=True, metavar="FILE", help="Text like the text to come: lines, "
              "JSONL, CSV, TSV or Parquet, gzip or not; - is standard input. May be given several times.")  # fmt: skip
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new bundle's folder.")
@click.option("--column", help="The text's column in JSONL, CSV, TSV and Parquet.")
@click.option("--revision", help="The model's revision on the Hub.")
@click.option("--keep", type=int, help="Keep at most so many tokens.")
@click.option("--coverage", type=float, help="Keep so many that this share of the text's tokens is kept; 0.9995.")
@click.option(
    "--characters",
    type=click.Choice(["all", "used"]),
    default="all",
    show_default=True,
    help="Which single characters outside ASCII are kept in any case: all, or those that the text has.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(
    model: str, corpus: tuple[str, ...], out: Path, column: str | None, revision: str | None, keep: int | None,
    coverage: float | None, characters: Literal["all", "used"], as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL, a bundle, a Hugging Face folder or a Hub id, with only the tokens that a text uses.

    A text of kept tokens has the vectors it had; other words are read in shorter pieces.
    """
    try:
        import torch  # noqa: F401
    except ImportError as problem:
        raise MissingExtraError(problem.name or "torch", "workshop", "edgebert trim") from None
    from edgebert.bundle import Bundle
    from edgebert.distill.readings import describe
    from edgebert.distill.trim import trim
    from edgebert.files import refuse_existing

    if keep is not None and coverage is not None:
        raise RecipeError(f"--keep {keep} and --coverage {coverage} contradict each other: give one")
    refuse_existing(out)
    bundle = Bundle.from_pretrained(model, revision=revision)
    made = trim(bundle, corpus, out, keep=keep, coverage=coverage, characters=characters, column=column)
    facts = made.manifest.lineage["vocabulary"]
    if facts["warning"]:
        click.echo(f"edgebert: warning: {facts['warning']}", err=True)
    if as_json:
        import json

        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(describe(facts))
    click.echo(f"bundle: {made.root}")
