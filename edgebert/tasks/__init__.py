"""Tasks beside sentence vectors: what the runtime makes of the logits of a model's heads."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from edgebert.bundle import Bundle
from edgebert.errors import RecipeError
from edgebert.manifest import Level
from edgebert.model import Model

# What a task is called, the runtime object that does it, and what its head answers for; None: no head is needed.
KINDS: Mapping[str, tuple[str, str, Level | None]] = {
    "embedding": ("edgebert.embedder", "Embedder", None),
    "classify": ("edgebert.tasks.classifier", "Classifier", "text"),
    "regress": ("edgebert.tasks.classifier", "Regressor", "text"),
    "pairs": ("edgebert.tasks.classifier", "PairScorer", "text"),
    "tag": ("edgebert.tasks.tagger", "Tagger", "token"),
    "answer": ("edgebert.tasks.answerer", "QuestionAnswerer", "span"),
    "multi": ("edgebert.tasks.multi", "MultiTask", None),
}


def kind_of(bundle: Bundle, task: str | None) -> type[Model]:
    """The class of the runtime object for `task`, by default the bundle's own.

    Raises: RecipeError for a task that is unknown or that the bundle's heads do not do.
    """
    own = bundle.manifest.task
    if task is not None and task not in KINDS:
        raise RecipeError(f"task is {task!r}; it must be one of {', '.join(KINDS)}")
    module, name, level = KINDS[task or own]
    if level is not None and [head.level for head in bundle.manifest.heads] != [level]:
        raise RecipeError(f"{bundle.source} is made for the task {own!r} and cannot do {task!r}")
    if task == "multi" and own != "multi":
        raise RecipeError(f"{bundle.source} is made for the task {own!r} alone, not for several")
    found: type[Model] = getattr(import_module(module), name)
    return found
