"""`edgebert distill`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgebert.cli.columns import WHOLE, column_option, of_text
from edgebert.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
    from edgebert.bundle import Bundle
    from edgebert.distill.apprenticeship import Apprenticeship


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """The layer numbers in a comma-separated list."""
    try:
        return None if value is None else tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of layer numbers such as 0,3,5") from None


def _weights(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, float]:
    """Objective -> weight."""
    found = {}
    for part in value:
        name, _, weight = part.partition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            raise click.BadParameter(f"{part!r} is not an objective and its weight such as layers=1") from None
    return found


@dataclass(frozen=True)
class _One:
    """A head of a student of several: whose it is and what it learns from."""

    name: str
    teacher: str
    corpus: tuple[str, ...]
    dev: tuple[str, ...] = ()
    task: str | None = None
    revision: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    tasks: tuple[_One, ...]


@click.command("distill")
@click.argument("teacher")
@click.option("--corpus", multiple=True, metavar="FILE", help="Training text: lines, JSONL, CSV, TSV or "
              "Parquet, gzip or not; - is standard input. Give it several times for several files.")  # fmt: skip
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The student's folder, a new one.")
@click.option("--task", help="What the student learns; by default the teacher's own task. embedding: its vectors.")
@click.option("--general", multiple=True, metavar="FILE", help="Of a task: text for the first stage, of hidden states "
              "and vectors; by default the corpus.")  # fmt: skip
@click.option("--dev", multiple=True, metavar="FILE", help="Of a task: labelled examples that measure, stop early and "
              "fit the temperature of probabilities.")  # fmt: skip
@click.option("--tasks", "tasks_file", type=click.Path(path_type=Path), help="Several teachers for one student: a TOML "
              "file with a table [[tasks]] for each: name, teacher, corpus, dev, task, columns. TEACHER then teaches "
              "the first stage.")  # fmt: skip
@click.option("--task-epochs", type=float, help="Of a task: passes over its inputs in the second stage.")
@column_option("The text's column in JSONL, CSV, TSV and Parquet, of --general where that is given; of a task "
               "NAME=COLUMN for each that its own files call otherwise.")  # fmt: skip
@click.option("--revision", help="The teacher's revision on the Hub.")
@click.option("--pairs", multiple=True, metavar="FILE", help="Pairs for the contrastive objective: JSONL, CSV, TSV or "
              "Parquet with the columns anchor and positive.")  # fmt: skip
@click.option("--recipe", "recipe_name", metavar="NAME|FILE", help="A recipe by name (distilbert, edgebert, leaf, "
              "minilmv2, tinybert) or a TOML file; options override it.")  # fmt: skip
@click.option("--preset", help="The student's shape by name: 2-layer, 3-layer, ...; see docs/distillation.md.")
@click.option("--start", help="The student's start: teacher, fresh, or another model's folder or Hub id.")
@click.option("--layers", type=int, help="Depth.")
@click.option("--take-layers", callback=_numbers, metavar="I,J,...", help="Which layers of the start to copy, from 0.")
@click.option("--width", type=int, help="Width: of a fresh student any, of copied layers a lesser one.")
@click.option("--heads", type=int, help="Attention heads; copied layers of the same width are only read as so many.")
@click.option("--feed-forward", type=int, help="Neurons of the feed-forward layers: of copied ones fewer.")
@click.option("--activation", type=click.Choice(["gelu", "relu", "silu", "gelu_new"]), help="Activation.")
@click.option("--max-length", type=int, help="Longest input in tokens.")
@click.option("--vocabulary", type=int, help="Keep at most so many tokens, the ones the text uses most.")
@click.option("--coverage", type=float, help="Keep so many tokens that this share of the text's tokens is kept.")
@click.option("--characters", type=click.Choice(["all", "used"]), help="Which single characters outside ASCII a "
              "smaller vocabulary keeps in any case.")  # fmt: skip
@click.option("--linear-bits", type=click.Choice(["4"]), help="Have the linear layers learn in so many bits.")
@click.option("--table-codes", type=int, help="Make the word vectors of codes, one byte for so many dimensions.")
@click.option("--projection", type=click.Choice(["keep", "drop", "rotate"]), help="The map into the teacher's space: "
              "where dimensions differ keep it, or use it in training only; or keep a rotation, always.")  # fmt: skip
@click.option("--vector", type=float, help="Weight of the sentence vector objective.")
@click.option("--similarity", type=float, help="Weight of the similarity structure objective.")
@click.option("--hidden", type=float, help="Weight of the last hidden state objective.")
@click.option("--objective", "more", multiple=True, callback=_weights, metavar="NAME=WEIGHT", help="Weight of any "
              "objective; see docs/distillation.md.")  # fmt: skip
@click.option("--epochs", type=float, help="Passes over the text.")
@click.option("--batch-size", type=int, help="Sentences per process and step.")
@click.option("--accumulate", type=int, help="Batches whose gradients are added up for one step.")
@click.option("--patience", type=int, help="Stop after so many measurements of agreement without a gain, and keep the "
              "best student; training is measured about 8 times.")  # fmt: skip
@click.option("--tensorboard", metavar="DIR", help="Write a TensorBoard log there (edgebert[tensorboard]).")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Of training and teacher.")
@click.option("--freeze-embeddings/--train-embeddings", default=None, help="Keep the word vectors as they are.")
@click.option("--qat/--no-qat", default=None, help="Imitate int8 in the last part of training: a quarter of the "
              "steps, or the recipe's share.")  # fmt: skip
@click.option("--max-sentences", type=int, help="Train on a random sample of that many.")
@click.option("--held-out", type=int, help="Sentences kept back to measure agreement.")
@click.option("--min-tokens", type=int, help="Leave out shorter texts (the teacher's tokens).")
@click.option("--max-tokens", type=int, help="Leave out longer texts.")
@click.option("--near-duplicates", type=click.Choice(["keep", "normalised", "minhash"]),
              help="Leave out texts that are nearly an earlier one.")  # fmt: skip
@click.option("--exclude", multiple=True, metavar="FILE", help="Leave out the texts of an evaluation file, and those "
              "that share eight words in a row with one. Several times for several files.")  # fmt: skip
@click.option("--seed", type=int, help="Of sample, order and fresh weights.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder for checkpoints instead of the cache's.")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the student's manifest as JSON.")
def command(
    teacher: str, corpus: tuple[str, ...], out: Path, task: str | None, general: tuple[str, ...],
    dev: tuple[str, ...], tasks_file: Path | None, task_epochs: float | None, columns: dict[str, str],
    revision: str | None, pairs: tuple[str, ...], recipe_name: str | None, preset: str | None, start: str | None,
    layers: int | None, take_layers: tuple[int, ...] | None, width: int | None, heads: int | None,
    feed_forward: int | None, activation: str | None, max_length: int | None, vocabulary: int | None,
    coverage: float | None, characters: str | None, table_codes: int | None, linear_bits: str | None,
    projection: str | None, vector: float | None, similarity: float | None, hidden: float | None,
    more: dict[str, float], epochs: float | None, batch_size: int | None, learning_rate: float | None,
    precision: str | None, freeze_embeddings: bool | None, qat: bool | None, accumulate: int | None,
    patience: int | None, tensorboard: str | None, min_tokens: int | None, max_tokens: int | None,
    near_duplicates: str | None, exclude: tuple[str, ...], max_sentences: int | None, held_out: int | None,
    seed: int | None, work: Path | None, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Train a compact student encoder from TEACHER: a bundle, a Hugging Face folder or a Hub id.

    A teacher of a task (edgebert finetune, or a transformers model with a head) makes a student of that task, in two
    stages: its hidden states and vectors on text, then what its head says of CORPUS, the task's inputs, which need no
    labels.

    The same command goes on where it was interrupted. Several processes: torchrun --nproc-per-node N -m edgebert
    distill ...
    """
    try:
        import accelerate  # noqa: F401
        import torch
    except ImportError as problem:
        raise MissingExtraError(problem.name or "torch", "workshop", "edgebert distill") from None
    from edgebert import bundle as bundles
    from edgebert.distill.fake_quant import QAT_SHARE
    from edgebert.distill.named import find_recipe, shipped_recipes
    from edgebert.distill.recipe import DEFAULT_PRESET, Recipe, override
    from edgebert.distill.recipe import preset as preset_named
    from edgebert.distill.registry import named_weights
    from edgebert.distill.stage import distill
    from edgebert.files import refuse_existing
    from edgebert.progress import TerminalProgress

    if preset is not None and recipe_name is not None and recipe_name not in shipped_recipes():
        raise RecipeError(f"--preset {preset} and --recipe {recipe_name} both give the student's shape: use one")
    if threads:
        torch.set_num_threads(threads)
    shaped = any(v is not None for v in (start, layers, take_layers))
    recipe = find_recipe(recipe_name) if recipe_name else Recipe()
    if preset is not None or not (recipe_name or shaped):
        recipe = override(recipe, "student", **vars(preset_named(preset or DEFAULT_PRESET)))
    recipe = override(
        recipe, "student", start=start, layers=layers, take_layers=take_layers, width=width, heads=heads,
        feed_forward=feed_forward, activation=activation, max_length=max_length, vocabulary=vocabulary,
        coverage=coverage, characters=characters, table_codes=table_codes, projection=projection,
        linear_bits=None if linear_bits is None else int(linear_bits),
    )  # fmt: skip
    recipe = override(
        recipe, "objectives", **{"vector": vector, "similarity": similarity, "hidden": hidden, **named_weights(more)}
    )
    recipe = override(
        recipe, "training", epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, precision=precision,
        freeze_embeddings=freeze_embeddings, qat=None if qat is None else qat * (recipe.training.qat or QAT_SHARE),
        accumulate=accumulate, patience=patience, tensorboard=tensorboard, seed=seed,
    )  # fmt: skip
    recipe = override(
        recipe, "data", max_sentences=max_sentences, held_out=held_out, min_tokens=min_tokens, max_tokens=max_tokens,
        near_duplicates=near_duplicates, exclude=exclude or None,
    )  # fmt: skip
    recipe = override(recipe, "task", epochs=task_epochs)
    refuse_existing(out)
    with TerminalProgress() as progress:
        bundle = bundles.Bundle.from_pretrained(teacher, revision=revision)
        column = columns.pop(WHOLE, None) if general else None
        names = of_text(columns)
        chosen = _chosen(bundle, corpus, dev, task, tasks_file, names)
        if not chosen:
            if not corpus:
                raise RecipeError("--corpus is missing: training text is needed")
            for option, value in (("--general", general), ("--dev", dev), ("--task-epochs", task_epochs)):
                if value:
                    raise RecipeError(f"{option} belongs to a task, and {teacher} teaches its vectors: leave it out")
            if others := [name for name in names if name != "text"]:
                raise RecipeError(f"--column {others[0]}=... belongs to a task, and {teacher} teaches its vectors")
            student = distill(
                bundle, corpus, out, recipe, column=names.get("text"), pairs=pairs, work=work, progress=progress
            )
        else:
            from edgebert.distill.task_stage import distill_task

            if pairs:
                raise RecipeError("--pairs is for the contrastive objective of vectors, not for a task: leave it out")
            student = distill_task(
                chosen, out, recipe, first=bundle, general=general, column=column, work=work, progress=progress
            )  # fmt: skip
    _show(student, as_json)


def _chosen(
    teacher: Bundle, corpus: tuple[str, ...], dev: tuple[str, ...], task: str | None, path: Path | None,
    names: Mapping[str, str],
) -> tuple[Apprenticeship, ...]:  # fmt: skip
    """Whose heads the student learns from; none where it learns vectors."""
    from edgebert.bundle import Bundle
    from edgebert.distill.apprenticeship import apprenticeships
    from edgebert.schema import parse, read_toml

    if path is None:
        if task == "embedding" or (task is None and not teacher.manifest.heads):
            return ()
        if not corpus:
            raise RecipeError("--corpus is missing: inputs of the task are needed, with labels or without")
        return apprenticeships(teacher, corpus, dev, task, names)
    if corpus or dev or names or task not in (None, "multi"):
        raise RecipeError(
            "--tasks names the tasks with their files and columns: leave --corpus, --dev, --column and --task out"
        )
    data = parse(_File, read_toml(path, what="list of tasks", error=RecipeError), where=str(path), error=RecipeError)
    found: list[Apprenticeship] = []
    for one in data.tasks:
        if not one.name.isidentifier() or one.name.lower() in [other.name.lower() for other in found]:
            raise RecipeError(f"{path}: name is {one.name!r}; each needs its own, of letters, digits and '_'")
        if not one.corpus:
            raise RecipeError(f"{path}: the task {one.name!r} needs corpus, a list of files")
        beside = path.parent / one.teacher
        its = Bundle.from_pretrained(beside if beside.exists() else one.teacher, revision=one.revision)
        its_own = apprenticeships(its, [str(path.parent / name) for name in one.corpus], (), one.task, one.columns)
        if len(its_own) > 1:
            raise RecipeError(f"{path}: {one.teacher} has {len(its_own)} heads; a teacher with one is needed")
        dev_files = tuple(str(path.parent / name) for name in one.dev)
        found.append(replace(its_own[0], name=one.name, dev=dev_files))
    if len(found) < 2:
        raise RecipeError(f"{path} names {len(found)} tasks; two or more are needed")
    return tuple(found)


def _show(student: Bundle, as_json: bool) -> None:
    from edgebert.manifest import manifest_bytes

    if as_json:
        click.echo(manifest_bytes(student.manifest).decode("utf-8"), nl=False)
        return
    corpus = student.manifest.lineage.get("corpus")
    if corpus is None:
        for quality in student.manifest.quality:
            click.echo(f"{quality.metric}: {quality.value:.4f} ({quality.data})")
        click.echo(f"student: {student.root} ({student.manifest.lineage['first_stage']['student']})")
        return
    click.echo(
        f"text: {corpus['read']} lines read, {corpus['blank']} blank and {corpus['duplicate']} repeated left out, "
        f"{corpus['truncated']} longer than {student.manifest.max_length} tokens and cut"
    )
    for quality in student.manifest.quality:
        click.echo(f"{quality.metric}: {quality.value:.4f} ({quality.data})")
    click.echo(f"student: {student.root} ({student.manifest.lineage['student']})")
