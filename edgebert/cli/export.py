"""`edgebert export`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("bundle")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The folder, a new one.")
@click.option("--revision", help="The bundle's revision on the Hub.")
def command(bundle: str, out: Path, revision: str | None) -> None:
    """Write BUNDLE as a plain Hugging Face folder: for sentence-transformers, transformers, optimum and the Hub."""
    from edgebert.bundle import Bundle
    from edgebert.export import export

    export(Bundle.from_pretrained(bundle, revision=revision), out)
    click.echo(str(out))
