"""What commands that load a model and run it on a file have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgebert.model import Model

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--revision", help="The model's revision on the Hub."),
    click.option("--engine", type=click.Choice(["auto", "onnxruntime", "openvino"]), default="auto", show_default=True),
    click.option("--precision", type=click.Choice(["auto", "int8", "fp32", "bf16", "fp16"]), default="auto",
                 show_default=True),
    click.option("--artifact", help="The engine file or the manifest's artifact to run, by its name."),
    click.option("--threads", type=int, help="Processor threads; by default all that may be used."),
    click.option("--device", type=click.Choice(["auto", "cpu", "npu", "gpu"]), default="auto", show_default=True),
    click.option("--fallback/--no-fallback", default=None, help="Whether the CPU may stand in for a device that does "
                 "not work; by default yes for auto, no for one that is named."),
)  # fmt: skip


def running(command: Command) -> Command:
    """Adds what `edgebert.load` is told: revision, engine, precision, artifact, threads, device, fallback."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def tell_cut(model: Model) -> None:
    """Says on standard error how many texts were cut, if any."""
    if model.truncated:
        told = f"{model.truncated} texts were longer than {model.max_length} tokens and were cut"
        click.echo(f"edgebert: {told}", err=True)
