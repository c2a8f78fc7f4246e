"""Tasks beside sentence vectors: what a task is, and what the runtime makes of the logits of a model's heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from edgebert.bundle import Bundle
from edgebert.errors import RecipeError
from edgebert.model import Model

if TYPE_CHECKING:
    from edgebert.manifest import Head
    from edgebert.tasks.task import Task

# What a task is called, and where its runtime object is; beside it in the module lies its `TASK`, if it has a head.
KINDS: Mapping[str, tuple[str, str]] = {
    "embedding": ("edgebert.embedder", "Embedder"),
    "classify": ("edgebert.tasks.classify", "Classifier"),
    "regress": ("edgebert.tasks.regress", "Regressor"),
    "pairs": ("edgebert.tasks.pairs", "PairScorer"),
    "tag": ("edgebert.tasks.tag", "Tagger"),
    "answer": ("edgebert.tasks.answer", "QuestionAnswerer"),
    "multi": ("edgebert.tasks.multi", "MultiTask"),
}
# Whose methods these are, for who calls them of a model of another task.
METHODS: Mapping[str, str] = {
    "encode": "embedding", "encode_query": "embedding", "encode_document": "embedding", "encode_stream": "embedding",
    "classify": "classify", "classify_all": "classify", "predict": "regress or multi", "score_pairs": "pairs",
    "classify_pairs": "pairs", "rank": "pairs", "tag": "tag", "answer": "answer", "answers": "answer",
}  # fmt: skip
NAMES = tuple(name for name in KINDS if name not in ("embedding", "multi"))  # those of one head


def task_named(name: str) -> Task:
    """The task of that name. Raises: RecipeError."""
    if name not in NAMES:
        raise RecipeError(f"task is {name!r}; it must be one of {', '.join(NAMES)}")
    found: Task = import_module(KINDS[name][0]).TASK
    return found


def does(head: Head, task: str) -> bool:
    """Whether the head, made for another task perhaps, answers what that one asks. Raises: RecipeError."""
    if head.level != task_named(task).level:
        return False
    return bool(head.labels) if task == "classify" else not head.labels if task == "regress" else True


def as_task(bundle: Bundle, task: str | None) -> Bundle:
    """The bundle as one whose only head does `task`, such as "pairs" where transformers says only "classification".

    Raises: RecipeError for a task that is unknown or that its head does not do.
    """
    heads = bundle.manifest.heads
    if task is None or task == bundle.manifest.task:
        return bundle
    level = task_named(task).level
    if len(heads) != 1 or heads[0].level != level:
        raise RecipeError(f"{bundle.source} is made for the task {bundle.manifest.task!r} and cannot do {task!r}")
    name = task if heads[0].name == heads[0].task else heads[0].name
    head = replace(heads[0], task=task_named(task).name, name=name)
    return replace(bundle, manifest=replace(bundle.manifest, task=head.task, heads=(head,)))


def opened_as(bundle: Bundle, task: str | None) -> tuple[type[Model], Bundle]:
    """The class of the runtime object for `task`, by default the bundle's own, and the bundle with the heads it asks.

    Raises: RecipeError for a task that is unknown, that the bundle's heads do not do, or that several of them do.
    """
    own = bundle.manifest.task
    if task is not None and task not in KINDS:
        raise RecipeError(f"task is {task!r}; it must be one of {', '.join(KINDS)}")
    wanted = task or own
    module, name = KINDS[wanted]
    heads = bundle.manifest.heads
    if wanted in NAMES:
        heads = tuple(head for head in heads if does(head, wanted) and (len(heads) == 1 or head.task == wanted))
        if len(heads) != 1:
            told = f"and {' and '.join(repr(head.name) for head in heads)} do {wanted!r}: load it as 'multi'"
            told = told if heads else f"and cannot do {wanted!r}"
            raise RecipeError(f"{bundle.source} is made for the task {own!r} {told}")
    if task == "multi" and own != "multi":
        raise RecipeError(f"{bundle.source} is made for the task {own!r} alone, not for several")
    found: type[Model] = getattr(import_module(module), name)
    return found, replace(bundle, manifest=replace(bundle.manifest, heads=heads))
