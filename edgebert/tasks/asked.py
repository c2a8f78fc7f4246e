"""The text of files as a model is asked about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebert.bundle import Bundle
from edgebert.tasks import task_named
from edgebert.texts import has_columns, is_json, read_texts


def calibration_texts(model: Bundle, files: Sequence[str], column: str | None) -> Iterator[str]:
    """The texts of those files; where the model's head asks about two, both with a blank between.

    column: the text's, of files with columns. Raises: DataError.
    """
    heads = model.manifest.heads
    names = [head.task for head in heads]
    name = "tag" if "tag" in names else names[0] if names else ""  # the one that reads tokens, too
    asks = task_named(name) if name and column is None else None
    for path in files:
        if asks is None or not (has_columns(path) or asks.level == "token" or is_json(path)):
            yield from read_texts([path], column=column)
            continue
        for item in asks.read_inputs(path):
            yield item if isinstance(item, str) else " ".join(item)
