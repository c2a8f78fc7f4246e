"""Stretches of texts with labels: names, places, products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from edgebert.tasks.predictor import Logits, Predictor, as_texts, probabilities
from edgebert.tasks.reading import Place, Row
from edgebert.tasks.results import Tag
from edgebert.tasks.tagging import merged


class Tagger(Predictor):
    """Texts of any length to tags."""

    what = "tagger"

    @overload
    def tag(self, texts: str) -> list[Tag]: ...
    @overload
    def tag(self, texts: Sequence[str]) -> list[list[Tag]]: ...
    def tag(self, texts: str | Sequence[str]) -> list[Tag] | list[list[Tag]]:
        """The tags of each text, in its order; a long text is read in windows.

        Raises: DataError for what is no string; EngineError.
        """
        listed = as_texts(texts)
        windows = [self.reader.windows(text) for text in listed]
        answers = iter(self._logits([row for rows in windows for row in rows]))
        found = []
        for text, rows in zip(listed, windows, strict=True):
            offsets, logits = joined(rows, [next(answers)[0] for _ in rows])
            found.append(merged(text, offsets, probabilities(logits, self.head), self.labels))
        return found[0] if isinstance(texts, str) else found


def joined(rows: Sequence[Row], logits: Sequence[Logits]) -> tuple[list[tuple[int, int]], Logits]:
    """Tokens of all windows, each once, with their logits: from the window in which it is farther from the edges.

    Shape: logits (tokens of the row, labels) -> (tokens, labels).
    """
    best: dict[tuple[int, int], tuple[int, Logits]] = {}
    for row, answer in zip(rows, logits, strict=True):
        places: list[Place] = row.offsets
        for token, place in enumerate(places):
            if place is None or place[0] == place[1]:
                continue
            inside = min(token, len(row) - 1 - token)
            if place not in best or inside > best[place][0]:
                best[place] = inside, answer[token]
    order = sorted(best)
    width = logits[0].shape[1]
    return order, np.stack([best[place][1] for place in order]) if order else np.zeros((0, width), np.float32)
