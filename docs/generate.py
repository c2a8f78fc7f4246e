"""Writes docs/cli.md from the commands' own --help. `--check` only says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgebert.cli import COMMANDS, cli

PATH = Path(__file__).parent / "cli.md"


def reference() -> str:
    """The page: the help of the program and of every command, 100 columns wide."""
    top = click.Context(cli, info_name="edgebert", max_content_width=100, terminal_width=100)
    parts = ["# Commands\n", "Made from `--help` by `make docs`.\n", _block(cli.get_help(top))]
    for name in sorted(COMMANDS):
        command = cli.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top, max_content_width=100, terminal_width=100)
        parts += [f"## edgebert {name}\n", _block(command.get_help(context))]
    parts.append("Exit codes: 0 done, 1 one clear error on standard error, 2 wrong usage, 130 interrupted.\n")
    return "\n".join(parts)


def _block(text: str) -> str:
    return f"```\n{text}\n```\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PATH.read_text(encoding="utf-8") == reference() else "docs/cli.md is old: run make docs")
    PATH.write_text(reference(), encoding="utf-8")
