"""The text of files as a model is asked about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebert.bundle import Bundle
from edgebert.tasks import task_named
from edgebert.tasks.columns import require_read
from edgebert.texts import Names, has_columns, is_json, read_texts

Item = str | tuple[str, str]  # a text, or two where a head asks about two


def calibration_items(
    model: Bundle, files: Sequence[str], column: str | None = None, names: Names | None = None
) -> Iterator[Item]:
    """What those files hold: texts, or where the model's head asks about two, pairs of them where there are columns.

    column: the text's, of files with columns; then texts are read, whatever the head asks about. names: the columns of
    the heads' tasks that the files call otherwise; see `Task.read`.
    Raises: DataError; RecipeError for a name that no head reads.
    """
    tasks = [task_named(head.task) for head in model.manifest.heads]
    require_read(names or {}, [name for task in tasks for name in task.reads] or ["text"])
    asks = next((task for task in tasks if task.level == "token"), tasks[0] if tasks else None)  # reads tokens, too
    for path in files:
        if asks is None or column or not (has_columns(path) or asks.level == "token" or is_json(path)):
            yield from read_texts([path], column=column)
        else:
            yield from asks.read_inputs(path, {n: theirs for n, theirs in (names or {}).items() if n in asks.reads})


def as_text(item: Item) -> str:
    """A text; of two, both with a blank between."""
    return item if isinstance(item, str) else " ".join(item)
