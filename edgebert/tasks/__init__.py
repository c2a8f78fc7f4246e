"""Tasks beside sentence vectors: what a task is, and what the runtime makes of the logits of a model's heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from edgebert.bundle import Bundle
from edgebert.errors import BundleError, RecipeError
from edgebert.model import Model

if TYPE_CHECKING:
    from edgebert.manifest import Head
    from edgebert.tasks.columns import Names
    from edgebert.tasks.task import Task

# What a task is called, and where its runtime object is; beside it in the module lies its `TASK`, if it has a head.
# A new task is named here, and all the rest of it stands in its module.
KINDS: Mapping[str, tuple[str, str]] = {
    "embedding": ("edgebert.embedder", "Embedder"),
    "classify": ("edgebert.tasks.classify", "Classifier"),
    "regress": ("edgebert.tasks.regress", "Regressor"),
    "pairs": ("edgebert.tasks.pairs", "PairScorer"),
    "tag": ("edgebert.tasks.tag", "Tagger"),
    "answer": ("edgebert.tasks.answer", "QuestionAnswerer"),
    "multi": ("edgebert.tasks.multi", "MultiTask"),
}


def task_named(name: str) -> Task:
    """The task of that name. Raises: RecipeError."""
    if name not in KINDS or name in ("embedding", "multi"):
        known = ", ".join(other for other in KINDS if other not in ("embedding", "multi"))
        raise RecipeError(f"task is {name!r}; it must be one of {known}")
    found: Task = import_module(KINDS[name][0]).TASK
    return found


def whose(method: str) -> str:
    """The tasks whose models have that method, in words; "" where none has."""
    kinds = {name: getattr(import_module(module), kind) for name, (module, kind) in KINDS.items()}
    return " or ".join(name for name, kind in kinds.items() if callable(getattr(kind, method, None)))


def reads_two(heads: Iterable[Head]) -> bool:
    """Whether one of them is asked about two texts."""
    return any(task_named(head.task).two_texts for head in heads)


def columns_of(heads: Sequence[Head], names: Names | None) -> list[Names]:
    """For each head the names of columns that are its own: `name` of all that read it, `head.name` of one of several.

    Raises: RecipeError for a name that no head reads.
    """
    from edgebert.tasks.columns import require_read  # not above: a device that embeds reads no columns

    names, several = names or {}, len(heads) > 1
    reads = [task_named(head.task).reads for head in heads]
    known = [name for its in reads for name in its] + [
        f"{head.name}.{name}" for head, its in zip(heads, reads, strict=True) for name in its if several
    ]
    for name, theirs in names.items():
        require_read({name: theirs}, known or ["text"])  # which a model without heads reads
    found: list[Names] = []
    for head, its in zip(heads, reads, strict=True):
        shared = {name: theirs for name, theirs in names.items() if name in its}
        own = {name: names[key] for name in its if (key := f"{head.name}.{name}") in names and several}
        found.append(shared | own)
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
    made = task_named(task)
    if len(heads) > 1:
        known = " and ".join(repr(one.name) for one in heads)
        raise RecipeError(
            f"task is {task!r}; {bundle.source} has several heads, {known}, each with its own: leave it out"
        )
    if not heads or not does(heads[0], task):
        raise RecipeError(f"{bundle.source} is made for the task {bundle.manifest.task!r} and cannot do {task!r}")
    name = task if heads[0].name == heads[0].task else heads[0].name
    return _with(bundle, made.name, (replace(heads[0], task=made.name, name=name),))


def opened_as(bundle: Bundle, task: str | None, head: str | None = None) -> tuple[type[Model], Bundle]:
    """The class of the runtime object for `task`, by default the bundle's own, and the bundle with the heads it asks.

    head: the name of the one that is meant, where several do the task.
    Raises: RecipeError for a task or head that is unknown, a task that the bundle's heads do not do, or that several
    of them do.
    """
    own, heads = bundle.manifest.task, bundle.manifest.heads
    if task is not None and task not in KINDS:
        raise RecipeError(f"task is {task!r}; it must be one of {', '.join(KINDS)}")
    if head is not None:
        heads = tuple(one for one in heads if one.name == head)
        if not heads:
            known = ", ".join(repr(one.name) for one in bundle.manifest.heads) or "none"
            raise RecipeError(f"head is {head!r}; {bundle.source} has {known}")
    if own not in KINDS:
        raise BundleError(f"{bundle.source} is made for the task {own!r}; this edgebert knows {', '.join(KINDS)}")
    wanted = task or (own if head is None else heads[0].task)
    if wanted == "multi" and own != "multi":
        raise RecipeError(f"{bundle.source} is made for the task {own!r} alone, not for several")
    if wanted == "embedding":
        heads = ()
    elif wanted != "multi":
        found = tuple(one for one in heads if does(one, wanted) and (len(heads) == 1 or one.task == wanted))
        if len(found) != 1:
            names = " and ".join(repr(one.name) for one in found)
            told = f"and cannot do {wanted!r}" if not found else f"and {names} do {wanted!r}: say which by head="
            whose = f"is made for the task {own!r}" if head is None else f"has the head {head!r} of {heads[0].task!r}"
            raise RecipeError(f"{bundle.source} {whose} {told}")
        heads = found
    module, name = KINDS[wanted]
    kind: type[Model] = getattr(import_module(module), name)
    return kind, bundle if heads == bundle.manifest.heads else _with(bundle, wanted, heads)


def _with(bundle: Bundle, task: str, heads: tuple[Head, ...]) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, task=task, heads=heads))
