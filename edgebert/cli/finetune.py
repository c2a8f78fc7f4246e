"""`edgebert finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgebert.cli.columns import column_option, of_text
from edgebert.errors import DataError, MissingExtraError, RecipeError

if TYPE_CHECKING:
    from edgebert.distill.finetuning import Assignment


@dataclass(frozen=True)
class _One:
    name: str
    task: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    tasks: tuple[_One, ...]


@click.command("finetune")
@click.argument("base")
@click.option("--task", required=True, help="classify, regress, pairs, tag, answer, or multi for several.")
@click.option("--train", multiple=True, metavar="FILE", help="Labelled examples: JSONL, CSV, TSV or Parquet; CoNLL "
              "columns for tag, SQuAD's .json for answer. Several times for several files.")  # fmt: skip
@click.option("--dev", multiple=True, metavar="FILE", help="Labelled examples that are not trained on: they measure, "
              "stop early and fit the temperature of probabilities.")  # fmt: skip
@click.option("--tasks", "tasks_file", type=click.Path(path_type=Path), help="Of multi: a TOML file with a table "
              "[[tasks]] for each: name, task, train, dev, columns.")  # fmt: skip
@column_option("What the files call a column that is read by another name: text=review, or review alone; label=stars. "
               "Several times for several.")  # fmt: skip
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle to write.")
@click.option("--revision", help="The base's revision on the Hub.")
@click.option("--epochs", type=float, help="Passes over the examples; by default 3.")
@click.option("--batch-size", type=int, help="By default 32.")
@click.option("--learning-rate", type=float, help="Peak; by default 5e-5.")
@click.option("--accumulate", type=int, help="Batches whose gradients are added up for one step.")
@click.option("--patience", type=int, help="Stop after so many measurements without a gain on the dev examples, and "
              "keep the best model.")  # fmt: skip
@click.option("--max-length", type=int, help="Tokens that the model reads at once; by default as many as BASE.")
@click.option("--class-weights", is_flag=True, help="Rare labels count as much as frequent ones.")
@click.option("--tokenize-chinese-chars", is_flag=True, help="Each Chinese character is a token, as in BERT, where "
              "BASE has tokens that go over several: names are found only where tokens begin and end.")  # fmt: skip
@click.option("--freeze-embeddings", is_flag=True, default=None, help="Keep the word vectors as they are.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Of training.")
@click.option("--tensorboard", metavar="FOLDER", help="Write a TensorBoard log there.")
@click.option("--seed", type=int, help="Of the head's weights and the order.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder for checkpoints instead of the cache's.")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the bundle's manifest as JSON.")
def command(
    base: str, task: str, train: tuple[str, ...], dev: tuple[str, ...], tasks_file: Path | None,
    columns: dict[str, str], out: Path, revision: str | None, epochs: float | None, batch_size: int | None,
    learning_rate: float | None, accumulate: int | None, patience: int | None, max_length: int | None,
    class_weights: bool, tokenize_chinese_chars: bool, freeze_embeddings: bool | None, precision: str | None,
    tensorboard: str | None, seed: int | None, work: Path | None, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Train BASE, any BERT-like model, for a task: a bundle, a Hugging Face folder or a Hub id.

    The same command goes on where it was interrupted. Several processes: torchrun --nproc-per-node N -m edgebert
    finetune ...
    """
    try:
        import accelerate  # noqa: F401
        import torch
    except ImportError as problem:
        raise MissingExtraError(problem.name or "torch", "workshop", "edgebert finetune") from None
    from edgebert.bundle import Bundle
    from edgebert.distill.finetuning import SETTINGS, Assignment, finetune
    from edgebert.distill.recipe import Recipe, override
    from edgebert.files import refuse_existing
    from edgebert.manifest import manifest_bytes
    from edgebert.progress import TerminalProgress
    from edgebert.tasks import KINDS, task_named

    if task == "multi":
        if columns:
            raise RecipeError("--task multi takes the names of columns from --tasks FILE.toml, not from --column")
        assignments = _several(tasks_file, train, dev)
    else:
        if task not in KINDS or task == "embedding":
            known = ", ".join(name for name in KINDS if name != "embedding")
            raise RecipeError(f"task is {task!r}; it must be one of {known}")
        found = task_named(task)
        if tasks_file is not None:
            raise RecipeError(f"--tasks goes with --task multi, not with {task}")
        for option, files in (("--train", train), ("--dev", dev)):
            if not files:
                raise RecipeError(f"{option} is missing: a file of {found.columns} is needed")
        assignments = (Assignment(found, train, dev, columns=of_text(columns)),)
    if threads:
        torch.set_num_threads(threads)
    settings = override(
        Recipe(training=SETTINGS), "training", epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
        accumulate=accumulate, patience=patience, freeze_embeddings=freeze_embeddings, precision=precision,
        tensorboard=tensorboard, seed=seed,
    ).training  # fmt: skip
    refuse_existing(out)
    with TerminalProgress() as progress:
        bundle = Bundle.from_pretrained(base, revision=revision)
        made = finetune(
            bundle, assignments, out, settings, max_length=max_length, class_weights=class_weights,
            tokenize_chinese_chars=tokenize_chinese_chars, work=work, progress=progress,
        )  # fmt: skip
    if as_json:
        click.echo(manifest_bytes(made.manifest).decode("utf-8"), nl=False)
        return
    for quality in made.manifest.quality:
        click.echo(f"{quality.metric}: {quality.value:.4f} ({quality.data})")
    click.echo(f"bundle: {made.root}")


def _several(path: Path | None, train: tuple[str, ...], dev: tuple[str, ...]) -> tuple[Assignment, ...]:
    """The tasks of a TOML file. Files in it are relative to it."""
    from edgebert.distill.finetuning import Assignment
    from edgebert.schema import parse, read_toml
    from edgebert.tasks import task_named

    if path is None or train or dev:
        raise RecipeError("--task multi takes its files from --tasks FILE.toml, not from --train and --dev")
    data = parse(_File, read_toml(path, what="list of tasks", error=RecipeError), where=str(path), error=RecipeError)
    if len(data.tasks) < 2:
        raise RecipeError(f"{path} names {len(data.tasks)} tasks; --task multi needs two or more")
    for one in data.tasks:
        if not one.name.isidentifier():
            raise RecipeError(f"{path}: name is {one.name!r}; letters, digits and '_' are allowed")
        if not one.train or not one.dev:
            raise DataError(f"{path}: the task {one.name!r} needs train and dev, a list of files each")

    def beside(files: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(path.parent / name) for name in files)

    found = []
    for one in data.tasks:
        try:
            task = task_named(one.task)
        except RecipeError as problem:
            raise RecipeError(f"{path}: of {one.name!r} the {problem}") from None
        found.append(Assignment(task, beside(one.train), beside(one.dev), one.name, one.columns))
    return tuple(found)
