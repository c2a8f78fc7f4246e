"""The text of files as a model is asked about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebert.bundle import Bundle
from edgebert.tasks import columns_of, task_named
from edgebert.tasks.columns import Names
from edgebert.texts import has_columns, is_json, read_texts

Item = str | tuple[str, str]  # a text, or two where a head asks about two


def calibration_items(
    model: Bundle, files: Sequence[str], column: str | None = None, names: Names | None = None
) -> Iterator[Item]:
    """What those files hold: texts, or where the model's head asks about two, pairs of them where there are columns.

    column: the text's, of files with columns; then texts are read, whatever the head asks about. names: the columns
    that the files call otherwise; see `columns_of`.
    Raises: DataError; RecipeError for a name that no head reads.
    """
    heads = model.manifest.heads
    asked = [(task_named(head.task), its) for head, its in zip(heads, columns_of(heads, names), strict=True)]
    # The one that reads most: tokens, too, else two texts.
    asks, own = max(asked, key=lambda one: (one[0].level == "token", one[0].two_texts), default=(None, {}))
    for path in files:
        if asks is None or column or not (has_columns(path) or asks.level == "token" or is_json(path)):
            yield from read_texts([path], column=column)
        else:
            yield from asks.read_inputs(path, own)


def as_text(item: Item) -> str:
    """A text; of two, both with a blank between."""
    return item if isinstance(item, str) else " ".join(item)
