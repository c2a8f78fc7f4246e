"""Stretches of texts with labels: names, places, products."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from edgebert.errors import DataError, MissingExtraError
from edgebert.manifest import Head
from edgebert.probability import probabilities
from edgebert.schema import plain
from edgebert.tasks.columns import TEXT, column
from edgebert.tasks.labels import weighted_cross_entropy
from edgebert.tasks.predictor import Logits, Predictor, as_texts
from edgebert.tasks.reading import Place, Row, TaskReader
from edgebert.tasks.results import Tag
from edgebert.tasks.tagged_files import conll, is_conll, joined_words, stretches, words_of
from edgebert.tasks.tagging import OUTSIDE, as_bio, is_scheme, merged, split_label
from edgebert.tasks.task import IGNORED, Example, Lesson, Task, place_of
from edgebert.texts import has_columns, read_rows

if TYPE_CHECKING:
    from torch import Tensor


class Tagger(Predictor):
    """Texts of any length to tags."""

    what = "tagger"

    @overload
    def tag(self, texts: str) -> list[Tag]: ...  # type: ignore[overload-overlap]
    @overload
    def tag(self, texts: Sequence[str]) -> list[list[Tag]]: ...
    def tag(self, texts: str | Sequence[str]) -> list[Tag] | list[list[Tag]]:
        """The tags of each text, in its order; a long text is read in windows.

        Raises: DataError for what is no string; EngineError.
        """
        found = []
        for some in self._portions(as_texts(texts), len):
            windows = [self.reader.windows(text) for text in some]
            answers = iter(self.logits([row for rows in windows for row in rows]))
            for text, rows in zip(some, windows, strict=True):
                offsets, logits = joined(rows, [next(answers)[0] for _ in rows])
                found.append(merged(text, offsets, probabilities(logits, self.head), self.labels))
        return found[0] if isinstance(texts, str) else found

    def results(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """See `Predictor.results`."""
        return [{"tags": [plain(tag) for tag in found]} for found in self.tag(items)]


def joined(rows: Sequence[Row], logits: Sequence[Logits]) -> tuple[list[tuple[int, int]], Logits]:
    """Tokens of all windows, each once, with their logits: from the window in which it is farther from the edges.

    A character may be several tokens, as bytes are; they stand at one place and are told apart by their number there.
    Shape: logits (tokens of the row, labels) -> (tokens, labels).
    """
    best: dict[tuple[tuple[int, int], int], tuple[int, Logits]] = {}
    for row, answer in zip(rows, logits, strict=True):
        places: list[Place] = row.offsets
        met: Counter[tuple[int, int]] = Counter()
        for token, place in enumerate(places):
            if place is None or place[0] == place[1]:
                continue
            key = place, met[place]
            met[place] += 1
            inside = min(token, len(row) - 1 - token)
            if key not in best or inside > best[key][0]:
                best[key] = inside, answer[token]
    order = sorted(best)
    width = logits[0].shape[1]
    found = np.stack([best[key][1] for key in order]) if order else np.zeros((0, width), np.float32)
    return [place for place, _ in order], found


class TagTask(Task):
    """See `Tagger`. A target is a `Tagged`."""

    name, level, metric, runtime = "tag", "token", "f1", Tagger
    columns = (
        "tokens (tokens) and their tags (tags), or a text (text) and its stretches (entities: start, end, label), or "
        "CoNLL columns: a token and behind it its tag in a line, a blank line behind each text"
    )
    pipeline, call = "token-classification", 'model.tag("some text")'

    def read(self, paths: Sequence[str | Path]) -> list[Example]:
        """See `Task.read`; labels become those of BIO, by all that there are."""
        found = super().read(paths)
        scheme = is_scheme(label for one in found for label in one.target.labels)
        return [
            replace(one, target=replace(one.target, labels=as_bio(one.target.labels, scheme=scheme))) for one in found
        ]

    def read_file(self, path: str | Path) -> Iterator[Example]:
        """See `Task.read_file`; files without columns of their own are CoNLL's."""
        yield from super().read_file(path) if has_columns(path) else conll(path)

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """See `Task.example`."""
        if "tokens" in row:
            return joined_words(words_of(row, "tokens", where), words_of(row, "tags", where), where)
        text = column(row, TEXT, where)
        return Example(text, None, stretches(text, row.get("entities"), where), where)

    def head(self, examples: Sequence[Example]) -> Head:
        """See `Task.head`."""
        names = sorted({split_label(label)[1] for one in examples for label in one.target.labels} - {OUTSIDE})
        if not names:
            raise DataError(f"all tags of the {len(examples)} examples are {OUTSIDE!r}: there is nothing to find")
        labels = (OUTSIDE, *(f"{prefix}-{name}" for name in names for prefix in "BI"))
        return Head(self.name, self.name, self.level, labels)

    def read_inputs(self, path: str | Path) -> Iterator[Any]:
        """See `Task.read_inputs`: of tokens, the text that they are joined to."""
        if not has_columns(path):
            yield from (one.text for one in conll(path)) if is_conll(path) else super().read_inputs(path)
            return
        for number, row in enumerate(read_rows(path), start=1):
            where = f"{path}: row {number}"
            if "tokens" not in row:
                yield column(row, TEXT, where)
            else:
                words = words_of(row, "tokens", where)
                yield joined_words(words, [OUTSIDE] * len(words), where).text

    def rows(self, reader: TaskReader, item: Any) -> list[Row]:
        """See `Task.rows`: every window of a text."""
        return reader.windows(item)

    def lessons(self, reader: TaskReader, examples: Sequence[Example], head: Head) -> list[Lesson]:
        """See `Task.lessons`: a token inside a word goes on with the word's label."""
        found = []
        for one in examples:
            begins = [start for start, _ in one.target.words]
            known = {label: _place_of(label, head, one.where) for label in dict.fromkeys(one.target.labels)}
            for row in self.rows(reader, one.text):
                targets, before = np.full(len(row), IGNORED, np.int64), -1
                for token, place in enumerate(row.offsets):
                    word = -1 if place is None or place[0] == place[1] else bisect.bisect_right(begins, place[0]) - 1
                    if word < 0 or place is None:
                        continue
                    label = one.target.labels[word] if place[0] < one.target.words[word][1] else OUTSIDE
                    # A word's first token alone begins: SentencePiece may put a piece of its own before it.
                    if (place[0] > begins[word] or word == before) and label.startswith("B-"):
                        label = f"I-{label[2:]}"
                    before = word
                    targets[token] = known[label] if label in known else _place_of(label, head, one.where)
                found.append(Lesson(row.bare(), targets))
        return found

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor, head: Head, weights: Tensor | None) -> Tensor:
        """See `Task.loss`: cross entropy of every token."""
        return weighted_cross_entropy(logits.flatten(0, 1), targets.flatten(), weights)

    def imitation(self, student: Tensor, teacher: Tensor, mask: Tensor, head: Head, temperature: float) -> Tensor:
        """See `Task.imitation`: token by token."""
        from edgebert.distill.objectives import logits_loss

        return logits_loss(student, teacher, temperature=temperature, mask=mask.to(student.dtype))

    def scores(self, model: Predictor, examples: Sequence[Example]) -> dict[str, float]:
        """See `Task.scores`: of whole stretches, as the CoNLL shared tasks count them (seqeval)."""
        assert isinstance(model, Tagger)
        try:
            from seqeval import metrics
        except ImportError:
            raise MissingExtraError("seqeval", "workshop", "scores of tags") from None
        wanted = [list(one.target.labels) for one in examples]
        found = model.tag([one.text for one in examples])
        got = [word_labels(tags, one.target.words) for tags, one in zip(found, examples, strict=True)]
        return {
            "f1": float(metrics.f1_score(wanted, got, zero_division=0)),
            "precision": float(metrics.precision_score(wanted, got, zero_division=0)),
            "recall": float(metrics.recall_score(wanted, got, zero_division=0)),
        }


def _place_of(label: str, head: Head, where: str) -> int:
    """The place of a label of BIO; a head of transformers may have I-X (IOB1) or X for it. Raises: DataError."""
    name = split_label(label)[1]
    return place_of(next((one for one in (label, f"I-{name}", name) if one in head.labels), label), head, where)


def word_labels(tags: Sequence[Tag], words: Sequence[tuple[int, int]]) -> list[str]:
    """A label of BIO for each word: that of the tag in which it begins. Both are in the order of the text."""
    labels = [OUTSIDE] * len(words)
    begins = [start for start, _ in words]
    for tag in tags:
        first, behind = bisect.bisect_left(begins, tag.start), bisect.bisect_left(begins, tag.end)
        labels[first:behind] = [f"{'I' if number else 'B'}-{tag.label}" for number in range(behind - first)]
    return labels


TASK = TagTask()
