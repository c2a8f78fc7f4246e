"""`edgebert embed`."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgebert.vectors import Vectors

if TYPE_CHECKING:
    from edgebert.embedder import Embedder

_CHUNK = 8192  # texts read, encoded and written at a time


@click.command("embed")
@click.argument("model")
@click.argument("files", nargs=-1, metavar="[FILES|-]...")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A new file: .npy, .jsonl or .parquet.")
@click.option("--text", "texts", multiple=True, help="Print the vector of this text as JSON; may be repeated.")
@click.option("--column", help='The text\'s column in JSONL, CSV, TSV and Parquet; by default "text" or the only one.')
@click.option("--revision", help="The model's revision on the Hub.")
@click.option("--engine", type=click.Choice(["auto", "onnxruntime", "openvino"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["auto", "int8", "fp32", "bf16", "fp16"]), default="auto",
              show_default=True)  # fmt: skip
@click.option("--threads", type=int, help="Processor threads; by default all that may be used.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--prompt", help="Text put before every text.")
@click.option("--prompt-name", help="One of the model's prompts by name.")
@click.option("--truncate-dim", type=click.IntRange(min=1), help="Keep that many leading dimensions.")
@click.option("--normalize/--no-normalize", default=True, show_default=True, help="Unit vectors.")
@click.option("--progress", is_flag=True, help="Show how far it is.")
def command(
    model: str, files: tuple[str, ...], out: Path | None, texts: tuple[str, ...], column: str | None,
    revision: str | None, engine: str, precision: str, threads: int | None, batch_size: int, prompt: str | None,
    prompt_name: str | None, truncate_dim: int | None, normalize: bool, progress: bool,
) -> None:  # fmt: skip
    """Turn texts into vectors with MODEL: a bundle, a package or a Hub id.

    FILES hold one text a line, or are JSONL, CSV, TSV or Parquet, gzip or not; - or nothing is standard input. Every
    text gets a vector, blank lines too, so that line and row numbers agree.
    """
    if texts and (files or out):
        raise click.UsageError("--text prints to the screen; it does not go with FILES or --out")
    if not texts and out is None:
        raise click.UsageError("give -o OUT.npy, .jsonl or .parquet for the vectors, or --text TEXT to print one")
    from edgebert.files import refuse_existing
    from edgebert.loading import load

    if out is not None:
        refuse_existing(out)
    with load(model, engine=engine, precision=precision, threads=threads, revision=revision) as encoder:

        def encode(chunk: list[str]) -> Vectors:
            return encoder.encode(
                chunk, batch_size=batch_size, normalize_embeddings=normalize, truncate_dim=truncate_dim,
                prompt=prompt, prompt_name=prompt_name,
            )  # fmt: skip

        if out is None:
            _print(encode(list(texts)))
        else:
            dimension = encode([]).shape[1]  # the options are checked even where there is no text
            _write(encoder, encode, files or ("-",), column, out, dimension, progress)


def _print(vectors: Vectors) -> None:
    from edgebert.vector_files import numbers

    for vector in vectors:
        click.echo(json.dumps(numbers(vector)))


def _write(
    encoder: Embedder, encode: Callable[[list[str]], Vectors], files: tuple[str, ...], column: str | None, out: Path,
    dimension: int, shown: bool,
) -> None:  # fmt: skip
    from edgebert.progress import Progress, TerminalProgress
    from edgebert.texts import read_texts
    from edgebert.vector_files import vector_file

    done = 0
    bar = TerminalProgress() if shown else contextlib.nullcontext(Progress())
    with vector_file(out, dimension) as write, bar as progress:
        progress.start("embed", 0)
        for chunk in _chunks(read_texts(files, column=column, keep_blank=True)):
            write(chunk, encode(chunk))
            done += len(chunk)
            progress.advance(len(chunk))
    cut = f", {encoder.truncated} of them longer than {encoder.max_length} tokens and cut" if encoder.truncated else ""
    click.echo(f"{out}: {done} vectors of {dimension} by {encoder.runs}{cut}", err=True)


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(itertools.islice(texts, _CHUNK)):
        yield chunk
