"""The command line. One file a command; a command's file is imported only when it is called.

Exit codes: 0 done, 1 an `EdgeBertError` (one line on standard error), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module

import click

from edgebert.errors import EdgeBertError

COMMANDS = {
    "bench": "Time a model on this machine, alone or against another.",
    "distill": "Train a compact student encoder from a teacher.",
    "embed": "Turn texts into vectors.",
    "evaluate": "Score a model on labelled files.",
    "export": "Write a bundle as a plain Hugging Face folder.",
    "finetune": "Train a model for a task on labelled examples.",
    "fit": "Find and train the student that fits a device's budget.",
    "package": "Build the archive that one device loads.",
    "predict": "Classify, tag, answer or score what a file asks about.",
    "quantize": "Export a model to ONNX and OpenVINO, in fp32 and verified int8.",
    "trim": "Drop the tokens that a text does not use.",
    "verify": "Check a bundle or package on this machine.",
}


class Commands(click.Group):
    """The commands of `COMMANDS`, each in `edgebert.cli.<name>` as the function `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"edgebert.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="edgebert")
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, to standard error.")
def cli(verbose: bool) -> None:
    """From a BERT teacher to a small, fast, verified model on a device."""
    import logging

    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def main() -> None:
    """The entry point `edgebert`: runs the command line and turns errors into exit codes."""
    if threading.current_thread() is threading.main_thread():
        # Ended from outside, it cleans up as after Ctrl-C.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        status = cli.main(standalone_mode=False)
    except EdgeBertError as problem:
        click.echo(f"edgebert: {problem}", err=True)
        status = 1
    except click.ClickException as problem:
        problem.show()
        status = problem.exit_code
    except (KeyboardInterrupt, click.Abort) as problem:
        if isinstance(problem.__cause__, EOFError):  # click takes it for an interrupt
            raise problem.__cause__ from None
        click.echo("edgebert: interrupted", err=True)
        status = 130
    except OSError as problem:
        click.echo(f"edgebert: {problem}", err=True)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


__all__ = ["cli", "main"]
