"""Stretches of texts with labels: names, places, products."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from edgebert.errors import DataError, MissingExtraError
from edgebert.manifest import Head
from edgebert.probability import probabilities
from edgebert.schema import plain
from edgebert.tasks.columns import TEXT, Names, called, column, rows_of
from edgebert.tasks.conll import conll, is_conll
from edgebert.tasks.labels import weighted_cross_entropy
from edgebert.tasks.predictor import Logits, Predictor, as_texts
from edgebert.tasks.reading import Place, Row, TaskReader
from edgebert.tasks.results import Tag
from edgebert.tasks.tagged_files import Joined, joined_words, stretches, stripped, tagged_words, words_of
from edgebert.tasks.tagging import OUTSIDE, as_bio, merged, names_of, split_label
from edgebert.tasks.task import IGNORED, Example, Lesson, Task, place_of
from edgebert.texts import has_columns, refuse_json

if TYPE_CHECKING:
    from torch import Tensor


class Tagger(Predictor):
    """Texts of any length to tags."""

    what = "tagger"
    reads = ("text", "tokens")

    @overload
    def tag(self, texts: str) -> list[Tag]: ...  # type: ignore[overload-overlap]
    @overload
    def tag(self, texts: Sequence[str]) -> list[list[Tag]]: ...
    def tag(self, texts: str | Sequence[str]) -> list[Tag] | list[list[Tag]]:
        """The tags of each text, in its order; a long text is read in windows.

        Raises: DataError for what is no string; EngineError.
        """
        found = []
        for some in self._portions(as_texts(texts, name="texts"), len):
            windows = [self.reader.windows(text) for text in some]
            answers = iter(self.logits([row for rows in windows for row in rows]))
            for text, rows in zip(some, windows, strict=True):
                offsets, logits = joined(rows, [next(answers)[0] for _ in rows])
                found.append(merged(text, offsets, probabilities(logits, self.head), self.labels))
        return found[0] if isinstance(texts, str) else found

    def results(
        self, items: Sequence[Any], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[dict[str, Any]]:
        """See `Predictor.results`; a text that was joined stands with its tags, whose places are in it."""
        self._refuse(top_k=top_k, threshold=threshold)
        texts: list[dict[str, Any]] = [{"text": str(item)} if isinstance(item, Joined) else {} for item in items]
        found = self.tag(items)
        return [text | {"tags": [plain(tag) for tag in tags]} for text, tags in zip(texts, found, strict=True)]


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
    answered = ("tags", "entities")
    pipeline, call = "token-classification", 'model.tag("some text")'

    def read_file(self, path: str | Path, names: Names | None = None) -> Iterator[Example]:
        """See `Task.read_file`; files without columns of their own are CoNLL's."""
        refuse_json(path)
        yield from super().read_file(path, names) if has_columns(path) else conll(path)

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """See `Task.example`."""
        if "tokens" in row and "tags" in row:
            words, tags = words_of(row, "tokens", where), words_of(row, "tags", where)
            return tagged_words(words, tags, where, text=_own_text(row, where))
        if "entities" not in row:
            has = ", ".join(map(repr, row))
            raise DataError(
                f"{where} needs the columns 'tokens' and 'tags', or 'text' and 'entities'; it has {has}{called('tags')}"
            )
        text = column(row, TEXT, where)
        return Example(text, None, stretches(text, row["entities"], where), where)

    def head(self, examples: Sequence[Example]) -> Head:
        """See `Task.head`."""
        names = sorted(names_of(label for one in examples for label in one.target.labels))
        if not names:
            raise DataError(f"all tags of the {len(examples)} examples are {OUTSIDE!r}: there is nothing to find")
        labels = (OUTSIDE, *(f"{prefix}-{name}" for name in names for prefix in "BI"))
        return Head(self.name, self.name, self.level, labels)

    def read_inputs(self, path: str | Path, names: Names | None = None) -> Iterator[Any]:
        """See `Task.read_inputs`: of tokens without their text, the one that they are joined to."""
        asked = self.asked_by(names)
        if not has_columns(path):
            yield from (Joined(one.text) for one in conll(path)) if is_conll(path) else super().read_inputs(path)
            return
        for where, row in rows_of(path, asked, self.runtime.reads):
            if "tokens" in row and _own_text(row, where) is None:
                yield Joined(joined_words(stripped(words_of(row, "tokens", where), where)))
            else:
                yield column(row, TEXT, where)

    def rows(self, reader: TaskReader, item: Any) -> list[Row]:
        """See `Task.rows`: every window of a text."""
        return reader.windows(item)

    def lessons(self, reader: TaskReader, examples: Sequence[Example], head: Head) -> list[Lesson]:
        """See `Task.lessons`: a token inside a word goes on with the word's label."""
        found = []
        for one in examples:
            begins = [start for start, _ in one.target.words]
            labels, known = in_bio(one, head), dict[str, int]()
            rows, every = self.rows(reader, one.text), list[NDArray[np.int64]]()
            for row in rows:
                targets, before = np.full(len(row), IGNORED, np.int64), -1
                for token, place in enumerate(row.offsets):
                    word = -1 if place is None or place[0] == place[1] else bisect.bisect_right(begins, place[0]) - 1
                    if word < 0 or place is None:
                        continue
                    label = labels[word] if place[0] < one.target.words[word][1] else OUTSIDE
                    # A word's first token alone begins: SentencePiece may put a piece of its own before it.
                    if (place[0] > begins[word] or word == before) and label.startswith("B-"):
                        label = f"I-{label[2:]}"
                    before = word
                    if label not in known:
                        known[label] = _place_of(label, head, one.where)
                    targets[token] = known[label]
                every.append(targets)
            lost = _lost(one, labels, rows, every, head)
            found += [
                Lesson(row.bare(), targets, lost=0 if number else lost)
                for number, (row, targets) in enumerate(zip(rows, every, strict=True))
            ]
        return found

    def unread(self, lessons: Sequence[Lesson], examples: Sequence[Example], max_length: int) -> str:
        """See `Task.unread`: stretches that no labels of the tokens can say."""
        lost = sum(lesson.lost for lesson in lessons)
        if not lost:
            return ""
        every = sum(len(_stretches(as_bio(one.target.labels, names_of(one.target.labels)))) for one in examples)
        return (
            f"{lost} of {every} tagged stretches share a token with what is beside them, or have none, and cannot be "
            "found exactly; of Chinese text they can with --tokenize-chinese-chars, which reads characters one by one"
        )

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor, head: Head, weights: Tensor | None) -> Tensor:
        """See `Task.loss`: cross entropy of every token."""
        return weighted_cross_entropy(logits.flatten(0, 1), targets.flatten(), weights)

    def imitation(self, student: Tensor, teacher: Tensor, mask: Tensor, head: Head, temperature: float) -> Tensor:
        """See `Task.imitation`: token by token."""
        from edgebert.distill.objectives import logits_loss

        return logits_loss(student, teacher, temperature=temperature, mask=mask.to(student.dtype))

    def unlabelled(self, item: Any, where: str) -> Example:
        """See `Task.unlabelled`: every character is a word."""
        return Example(item, None, stretches(item, [], where), where)

    def weight(self, answer: Any) -> int:
        """See `Task.weight`: stretches."""
        return sum(label.startswith("B-") for label in answer)

    def check(self, examples: Sequence[Example], head: Head) -> None:
        """See `Task.check`."""
        for one in examples:
            in_bio(one, head)

    def answers(self, model: Predictor, examples: Sequence[Example]) -> list[Any]:
        """See `Task.answers`: a label of BIO for each word."""
        assert isinstance(model, Tagger)
        found = model.tag([one.text for one in examples])
        return [word_labels(tags, one.target.words) for tags, one in zip(found, examples, strict=True)]

    def agreement(
        self, answers: Sequence[Any], reference: Sequence[Any], examples: Sequence[Example], head: Head
    ) -> float:
        """See `Task.agreement`; answers are in BIO, in which the head's labels need not be."""
        return 1.0 if list(answers) == list(reference) else _of_stretches(reference, answers)[self.metric]

    def scored(self, answers: Sequence[Any], examples: Sequence[Example], head: Head) -> dict[str, float]:
        """See `Task.scored`: of whole stretches, as the CoNLL shared tasks count them (seqeval)."""
        return _of_stretches([list(in_bio(one, head)) for one in examples], answers)


def _of_stretches(wanted: Sequence[list[str]], got: Sequence[list[str]]) -> dict[str, float]:
    """F1, precision and recall of labels in BIO."""
    try:
        from seqeval import metrics
    except ImportError:
        raise MissingExtraError("seqeval", "workshop", "scores of tags") from None
    return {
        "f1": float(metrics.f1_score(wanted, got, zero_division=0)),
        "precision": float(metrics.precision_score(wanted, got, zero_division=0)),
        "recall": float(metrics.recall_score(wanted, got, zero_division=0)),
    }


def _lost(
    one: Example, labels: Sequence[str], rows: Sequence[Row], targets: Sequence[NDArray[np.int64]], head: Head
) -> int:
    """How many stretches of an example a model without a fault would not find. labels: of its words, in BIO."""
    wanted = _stretches(labels)
    if not wanted:
        return 0
    outside = head.labels.index(OUTSIDE) if OUTSIDE in head.labels else 0
    chances = np.eye(len(head.labels), dtype=np.float32)
    offsets, best = joined(rows, [chances[np.where(some < 0, outside, some)] for some in targets])
    tags = merged(one.text, offsets, best, head.labels)
    return len(wanted - _stretches(word_labels(tags, one.target.words)))


def _stretches(labels: Sequence[str]) -> set[tuple[int, int, str]]:
    """The first word of each, the one behind its last, and its name. labels: in BIO."""
    begins = [number for number, label in enumerate(labels) if label.startswith("B-")]
    found = set()
    for begin in begins:
        end = begin + 1
        while end < len(labels) and labels[end].startswith("I-"):
            end += 1
        found.add((begin, end, labels[begin][2:]))
    return found


def _own_text(row: Mapping[str, Any], where: str) -> str | None:
    """The text that a row has beside its tokens. Raises: DataError for what is no text."""
    return None if row.get("text") is None else column(row, ("text",), where)


def in_bio(one: Example, head: Head) -> tuple[str, ...]:
    """The labels of an example's words in BIO, with the names that the head has. Raises: DataError for one it lacks."""
    labels = as_bio(one.target.labels, names_of(head.labels))
    for own, label in dict.fromkeys(zip(one.target.labels, labels, strict=True)):
        _place_of(label, head, one.where, own)
    return labels


def _place_of(label: str, head: Head, where: str, own: str = "") -> int:
    """The place of a label of BIO; a head of transformers may have I-X (IOB1) or X for it. Raises: DataError.

    own: what the example calls it, for messages.
    """
    name = split_label(label)[1]
    found = next((one for one in (label, f"I-{name}", name) if one in head.labels), own or label)
    return place_of(found, head, where)


def word_labels(tags: Sequence[Tag], words: Sequence[tuple[int, int]]) -> list[str]:
    """A label of BIO for each word: that of the tag in which it begins. Both are in the order of the text."""
    labels = [OUTSIDE] * len(words)
    begins = [start for start, _ in words]
    for tag in tags:
        first, behind = bisect.bisect_left(begins, tag.start), bisect.bisect_left(begins, tag.end)
        labels[first:behind] = [f"{'I' if number else 'B'}-{tag.label}" for number in range(behind - first)]
    return labels


TASK = TagTask()
