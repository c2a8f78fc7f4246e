"""`edgebert predict`."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from edgebert.cli.columns import column_option, of_text
from edgebert.cli.running import running, tell_cut

_CHUNK = 1024  # rows read, answered and written at a time


@click.command("predict")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, metavar="FILES|-...")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A new JSONL file; by default the screen.")
@click.option("--task", help="Another task than the model's own that its head can do, such as pairs.")
@column_option("What the files call a column that is read by another name: text=review, or review alone; "
               "text_pair=answer. Several times for several.")  # fmt: skip
@click.option("--head", help="The one of several heads that is meant, by its name.")
@click.option("--top-k", type=int, help="Of labels and answers: so many of the most probable ones, as a list.")
@click.option("--threshold", type=float, help="Of labels: all that are as probable, as a list.")
@running
@click.option("--progress", is_flag=True, help="Show how far it is.")
def command(
    model: str, files: tuple[str, ...], out: Path | None, task: str | None, columns: dict[str, str], head: str | None,
    top_k: int | None, threshold: float | None, revision: str | None, engine: str, precision: str, artifact: str | None,
    threads: int | None, device: str, fallback: bool | None, progress: bool,
) -> None:  # fmt: skip
    """Say what MODEL, a bundle or package of a task, finds in every row of FILES, one JSON object a row.

    FILES are JSONL, CSV, TSV or Parquet with the columns of the task: text; text and text_pair; question and context;
    for tags also tokens or CoNLL columns, for answers SQuAD's .json. Labels are not looked at.
    Where a task asks about one text they may be one text a line; - is standard input.
    """
    from edgebert.errors import RecipeError
    from edgebert.files import new_file, refuse_existing
    from edgebert.loading import load
    from edgebert.progress import Progress, TerminalProgress
    from edgebert.tasks import task_named
    from edgebert.tasks.predictor import Predictor

    names = of_text(columns)
    if out is not None:
        refuse_existing(out)
    options: dict[str, Any] = {"revision": revision, "artifact": artifact, "threads": threads, "task": task,
                               "head": head, "device": device, "fallback": fallback}  # fmt: skip
    with load(model, engine=engine, precision=precision, **options) as loaded, contextlib.ExitStack() as opened:
        if not isinstance(loaded, Predictor):
            raise RecipeError(f"{model} was loaded for its vectors: use edgebert embed")
        bar = opened.enter_context(TerminalProgress() if progress else contextlib.nullcontext(Progress()))
        sink = None
        if out is not None:
            partial = opened.enter_context(new_file(out))
            sink = opened.enter_context(partial.open("w", encoding="utf-8", newline="\n"))
        bar.start("predict", 0)
        rows = 0
        asks = task_named(task or loaded.head.task) if len(loaded.heads) == 1 else None  # a file of several is of texts
        read = loaded.items if asks is None else asks.read_inputs
        for chunk in _chunks(item for path in files for item in read(path, names)):
            for result in loaded.results(chunk, top_k=top_k, threshold=threshold):
                # Half a surrogate pair, which UTF-8 cannot hold, stays the escape that it was in the file.
                line = json.dumps(result, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")
                click.echo(line) if sink is None else sink.write(f"{line}\n")
            rows += len(chunk)
            bar.advance(len(chunk))
        if not rows:
            click.echo(f"edgebert: {', '.join(files)}: no rows", err=True)
        tell_cut(loaded)


def _chunks(items: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(items, _CHUNK)):
        yield chunk
