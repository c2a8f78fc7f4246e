"""The text of files as a model is asked about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebert.bundle import Bundle
from edgebert.tasks import task_named
from edgebert.texts import has_columns, is_json, read_texts

Item = str | tuple[str, str]  # a text, or two where a head asks about two


def calibration_items(model: Bundle, files: Sequence[str], column: str | None) -> Iterator[Item]:
    """What those files hold: texts, or where the model's head asks about two, pairs of them where there are columns.

    column: the text's, of files with columns. Raises: DataError.
    """
    heads = model.manifest.heads
    names = [head.task for head in heads]
    name = "tag" if "tag" in names else names[0] if names else ""  # the one that reads tokens, too
    asks = task_named(name) if name and column is None else None
    for path in files:
        if asks is None or not (has_columns(path) or asks.level == "token" or is_json(path)):
            yield from read_texts([path], column=column)
        else:
            yield from asks.read_inputs(path)


def as_text(item: Item) -> str:
    """A text; of two, both with a blank between."""
    return item if isinstance(item, str) else " ".join(item)
