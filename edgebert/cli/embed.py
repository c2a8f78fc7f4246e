"""`edgebert embed`."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
import numpy as np

from edgebert.cli.running import running
from edgebert.manifest import PACKAGE_SUFFIX
from edgebert.vectors import Vectors

if TYPE_CHECKING:
    from edgebert.compact import Compact, VectorPrecision
    from edgebert.embedder import Embedder

_CHUNK = 8192  # texts read, encoded and written at a time


@click.command("embed")
@click.argument("model", required=False, metavar="[MODEL|TEXT]")
@click.argument("files", nargs=-1, metavar="[FILES|-]...")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="A new file: .npy, .jsonl or .parquet; .npz for --vectors."
)
@click.option("--text", "texts", multiple=True, help="Print the vector of this text as JSON; may be repeated.")
@click.option("--column", help='The text\'s column in JSONL, CSV, TSV and Parquet; by default "text" or the only one.')
@running
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Texts in one run at most; by default as is fastest here."
)
@click.option("--prompt", help="Text put before every text.")
@click.option("--prompt-name", help="One of the model's prompts by name.")
@click.option("--truncate-dim", type=click.IntRange(min=1), help="Keep that many leading dimensions.")
@click.option("--normalize/--no-normalize", default=True, show_default=True, help="Unit vectors.")
@click.option("--vectors", "coding", type=click.Choice(["float32", "int8", "binary"]), default="float32",
              show_default=True, help="How vectors are coded; int8 and binary go to -o OUT.npz.")  # fmt: skip
@click.option("--progress", is_flag=True, help="Show how far it is.")
def command(
    model: str | None, files: tuple[str, ...], out: Path | None, texts: tuple[str, ...], column: str | None,
    revision: str | None, engine: str, precision: str, artifact: str | None, threads: int | None, device: str,
    fallback: bool | None, batch_size: int | None, prompt: str | None, prompt_name: str | None,
    truncate_dim: int | None, normalize: bool, coding: VectorPrecision,
    progress: bool,
) -> None:  # fmt: skip
    """Turn texts into vectors with MODEL: a bundle, a package, a folder with ONNX or OpenVINO files, a Hub id, or the
    name of a model that comes with EdgeBERT.

    `edgebert embed "some text"` prints that text's vector by edgebert-mini-en, as `--text` without MODEL does.

    FILES hold one text a line, or are JSONL, CSV, TSV or Parquet, gzip or not; - or nothing is standard input. Every
    text gets a vector, blank lines too, so that line and row numbers agree.
    """
    from edgebert.hub import DEFAULT_MODEL

    default = model is None or (not texts and not files and out is None and _is_text(model))
    if model is None or default:
        if model is None and not texts:
            raise click.UsageError("give a text, a MODEL and FILES, or --text TEXT")
        texts, model = (model,) if model is not None else texts, DEFAULT_MODEL
    if texts and (files or out):
        raise click.UsageError("--text prints to the screen; it does not go with FILES or --out")
    if not texts and out is None:
        raise click.UsageError("give -o OUT.npy, .jsonl or .parquet for the vectors, or --text TEXT to print one")
    if texts and coding != "float32":
        raise click.UsageError(f"--vectors {coding} is written to -o OUT.npz; it does not go with --text")
    from edgebert.files import refuse_existing
    from edgebert.loading import load

    if out is not None:
        refuse_existing(out)
    if default:
        click.echo(f"edgebert: {DEFAULT_MODEL}", err=True)
    with load(
        model,
        engine=engine,
        precision=precision,
        threads=threads,
        revision=revision,
        artifact=artifact,
        device=device,
        fallback=fallback,
        task="embedding",
    ) as encoder:

        def encode(chunk: list[str]) -> Vectors | Compact:
            return encoder.encode(
                chunk, batch_size=batch_size, normalize_embeddings=normalize, truncate_dim=truncate_dim,
                prompt=prompt, prompt_name=prompt_name, precision=coding,
            )  # fmt: skip

        if out is None:
            _print(cast(Vectors, encode(list(texts))))
        else:
            nothing = encode([])  # the options are checked even where there is no text
            _write(encoder, encode, files or ("-",), column, out, nothing, progress)


def _is_text(argument: str) -> bool:
    """Whether a lone argument is a text, and no model that only lacks something to embed."""
    from edgebert.hub import shipped_models

    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        if Path(argument).exists():
            return False
    looks_like_a_path = "/" in argument and not any(map(str.isspace, argument))
    return argument not in shipped_models() and not looks_like_a_path and not argument.endswith(PACKAGE_SUFFIX)


def _print(vectors: Vectors) -> None:
    from edgebert.vector_files import numbers

    for vector in vectors:
        click.echo(json.dumps(numbers(vector)))


def _new_file(out: Path, like: Vectors | Compact) -> contextlib.AbstractContextManager[Callable[..., None]]:
    """A function that writes texts and vectors such as `like` to `out`."""
    from edgebert.compact_files import compact_file
    from edgebert.vector_files import vector_file

    return vector_file(out, like.shape[1]) if isinstance(like, np.ndarray) else compact_file(out, like)


def _write(
    encoder: Embedder, encode: Callable[[list[str]], Vectors | Compact], files: tuple[str, ...], column: str | None,
    out: Path, like: Vectors | Compact, shown: bool,
) -> None:  # fmt: skip
    from edgebert.progress import Progress, TerminalProgress
    from edgebert.texts import read_texts

    done = 0
    bar = TerminalProgress() if shown else contextlib.nullcontext(Progress())
    with _new_file(out, like) as write, bar as progress:
        progress.start("embed", 0)
        for chunk in _chunks(read_texts(files, column=column, keep_blank=True)):
            write(chunk, encode(chunk))
            done += len(chunk)
            progress.advance(len(chunk))
    cut = f", {encoder.truncated} of them longer than {encoder.max_length} tokens and cut" if encoder.truncated else ""
    of = f"{like.shape[1]}" if isinstance(like, np.ndarray) else f"{like.dimension}, {like.precision},"
    click.echo(f"{out}: {done} vectors of {of} by {encoder.runs}{cut}", err=True)


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(itertools.islice(texts, _CHUNK)):
        yield chunk
