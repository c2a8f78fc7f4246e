"""What files call the columns that are read: the option --column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

WHOLE = ""  # what a column is called that is given alone


def _named(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """A column as it is read -> what the files call it; `WHOLE` of one that is given alone."""
    found: dict[str, str] = {}
    for value in values:
        name, sign, theirs = value.partition("=") if "=" in value else (WHOLE, "", value)
        if not theirs or (sign and not name):
            raise click.BadParameter(f"{value!r} is not a column, such as review, or NAME=COLUMN such as label=stars")
        if name in found:
            raise click.BadParameter(f"{value!r} and {found[name]!r} name one column twice")
        found[name] = theirs
    return found


def column_option(help: str) -> Callable[[Any], Any]:
    """`--column`, several times. help: in words."""
    return click.option("--column", "columns", multiple=True, callback=_named, metavar="[NAME=]COLUMN", help=help)


def of_text(columns: dict[str, str]) -> dict[str, str]:
    """The same with a column that is given alone as the text's. Raises: click's UsageError where both are given."""
    if WHOLE in columns and "text" in columns:
        raise click.UsageError(f"--column {columns[WHOLE]} and --column text={columns['text']} name one column twice")
    return {name or "text": theirs for name, theirs in columns.items()}
