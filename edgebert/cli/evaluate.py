"""`edgebert evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from edgebert.cli.columns import column_option, of_text
from edgebert.cli.running import tell_cut


def _names(count: int) -> Callable[[click.Context, click.Parameter, str | None], tuple[str, ...] | None]:
    """A callback that splits a value into so many column names."""

    def split(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
        names = None if value is None else tuple(part.strip() for part in value.split(","))
        if names is not None and len(names) != count:
            raise click.BadParameter(f"{count} column names separated by commas are needed, not {value!r}")
        return names

    return split


@click.command("evaluate")
@click.argument("model")
@click.option("--similarity", multiple=True, help="A file of text pairs with scores: JSONL, CSV, TSV or Parquet.")
@click.option("--similarity-columns", callback=_names(3), metavar="A,B,SCORE",
              help="Its columns; by default as those of a task of pairs: text, text_pair, score.")  # fmt: skip
@click.option("--classification", nargs=2, multiple=True, metavar="TRAIN TEST", help="Two files of labelled texts.")
@click.option("--classification-columns", callback=_names(2), metavar="TEXT,LABEL",
              help="Their columns; by default text and label.")  # fmt: skip
@click.option("--retrieval", multiple=True, metavar="FOLDER", help="A folder in BEIR's layout.")
@click.option("--labelled", multiple=True, metavar="FILE", help="Of a model of a task: labelled examples, as edgebert "
              "finetune reads them; NAME=FILE of each head where it has several.")  # fmt: skip
@click.option("--task", help="Of --labelled: another task that the model's head can do, such as pairs of a "
              "transformers classifier.")  # fmt: skip
@column_option("What the files of --labelled call a column that is read by another name: text=review, or review alone; "
               "label=stars; HEAD.label=stars of one of several heads. Several times for several.")  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Its judgements.")
@click.option("--revision", help="The model's revision on the Hub.")
@click.option("--engine", type=click.Choice(["auto", "onnxruntime", "openvino", "torch"]), default="auto",
              show_default=True)  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "int8", "fp32", "bf16", "fp16"]), default="auto",
              show_default=True)  # fmt: skip
@click.option("--artifact", help="The engine file or the manifest's artifact to run, by its name.")
@click.option("--threads", type=int, help="Processor threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def command(
    model: str, similarity: tuple[str, ...], similarity_columns: tuple[str, ...] | None,
    classification: tuple[tuple[str, str], ...], classification_columns: tuple[str, ...] | None,
    retrieval: tuple[str, ...], labelled: tuple[str, ...], task: str | None, columns: dict[str, str], split: str,
    revision: str | None, engine: str, precision: str, artifact: str | None, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Score MODEL, a bundle, a package, a Hugging Face folder or a Hub id, on labelled files."""
    if not (similarity or classification or retrieval or labelled):
        raise click.UsageError("give at least one of --similarity, --classification, --retrieval, --labelled")
    names = of_text(columns)
    if columns and not labelled:
        raise click.UsageError("--column names columns of the files of --labelled, which is missing")
    from edgebert.evaluate import Score, classification_scores, retrieval_scores, similarity_scores
    from edgebert.models import open_model
    from edgebert.schema import plain
    from edgebert.table import show
    from edgebert.tasks.scoring import labelled_scores

    options: dict[str, Any] = {"engine": engine, "precision": precision, "threads": threads, "revision": revision,
                               "artifact": artifact}  # fmt: skip
    scores, used = list[Score](), ""
    if similarity or classification or retrieval:
        with open_model(model, **options) as encoder:
            scores += [score for path in similarity for score in similarity_scores(encoder, path, similarity_columns)]
            for train, test in classification:
                scores += classification_scores(encoder, train, test, classification_columns)
            for folder in retrieval:
                scores += retrieval_scores(encoder, folder, split)
            used = encoder.runs
            tell_cut(encoder)
    if labelled:
        with open_model(model, **options, task=None) as opened:
            scores += labelled_scores(opened, labelled, task, names)
            used = used or opened.runs
            tell_cut(opened)
    if as_json:
        click.echo(json.dumps({"model": model, "engine": used, "scores": plain(scores)}, indent=2))
        return
    show(
        ["metric", "value", "n", "data"],
        [[f"{score.task} {score.metric}", f"{score.value:.4f}", str(score.count), score.data] for score in scores],
        texts=["data"],
    )
    click.echo(f"model: {model} by {used}")
