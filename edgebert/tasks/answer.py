"""Answers to questions, cut out of a context."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.errors import DataError, MissingExtraError
from edgebert.manifest import Head
from edgebert.model import is_whole
from edgebert.schema import plain
from edgebert.tasks.columns import CONTEXT, QUESTION, Names, column, missing
from edgebert.tasks.labels import at_least_one
from edgebert.tasks.predictor import Predictor, as_pairs, as_string
from edgebert.tasks.reading import Row, TaskReader
from edgebert.tasks.results import Answer
from edgebert.tasks.spans import Window, best_answers
from edgebert.tasks.task import Example, Lesson, Task
from edgebert.texts import is_json, read_texts

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST = 30  # tokens of an answer


class QuestionAnswerer(Predictor):
    """A question and a context of any length to stretches of that context."""

    what = "question answerer"
    reads = ("question", "context")

    def answer(
        self, question: str, context: str, *, may_be_none: bool | None = None, longest: int = _LONGEST
    ) -> Answer:
        """The most probable answer; its text is "" where there is none.

        may_be_none: whether the context may have no answer; None for what the model learnt (`Head.may_be_none`).
        longest: tokens.
        Raises: DataError for an empty question or context; EngineError.
        """
        asked = as_string(question, "question"), as_string(context, "context")
        return self.best([asked], may_be_none=may_be_none, longest=longest)[0]

    def answers(
        self, question: str, context: str, *, top_k: int = 5, may_be_none: bool | None = None, longest: int = _LONGEST
    ) -> list[Answer]:
        """The `top_k` most probable ones, the best first.

        Raises: as `answer`; RecipeError for `top_k` or `longest` below 1.
        """
        asked = as_string(question, "question"), as_string(context, "context")
        return self._found([asked], top_k=top_k, may_be_none=may_be_none, longest=longest)[0]

    def best(
        self, asked: Sequence[tuple[str, str]], *, may_be_none: bool | None = None, longest: int = _LONGEST
    ) -> list[Answer]:
        """The most probable answer to each question in its context. Raises: as `answer`, of several by place."""
        found = self._found(asked, top_k=1, may_be_none=may_be_none, longest=longest)
        return [best[0] if best else Answer(0, 0, "", 0.0) for best in found]

    def _found(
        self, asked: Sequence[tuple[str, str]], *, top_k: int, may_be_none: bool | None, longest: int
    ) -> list[list[Answer]]:
        """The best answers to each, the windows of all contexts in one run."""
        at_least_one("top_k", top_k)
        at_least_one("longest", longest)
        asked = as_pairs(asked)
        for place, pair in enumerate(asked):
            _require_text(*pair, f"asked[{place}]: " if len(asked) > 1 else "")
        none, found = self.head.may_be_none if may_be_none is None else may_be_none, list[list[Answer]]()
        for some in self._portions(asked, lambda pair: len(pair[1])):
            rows = [self.reader.contexts(question, context) for question, context in some]
            logits = iter(self.logits([row for of_one in rows for row in of_one]))
            for (_, context), of_one in zip(some, rows, strict=True):
                windows = [Window(row.offsets, next(logits)[0] / self.head.temperature) for row in of_one]
                found.append(best_answers(context, windows, top_k=top_k, longest=longest, may_be_none=none))
        return found

    @staticmethod
    def item(row: Mapping[str, Any], where: str) -> Any:
        """See `Predictor.item`."""
        question, context = column(row, QUESTION, where), column(row, CONTEXT, where)
        _require_text(question, context, f"{where}: ")
        return question, context

    def results(
        self, items: Sequence[Any], *, top_k: int | None = None, threshold: float | None = None
    ) -> list[dict[str, Any]]:
        """See `Predictor.results`."""
        self._refuse(threshold=threshold)
        if top_k is None:
            return [plain(answer) for answer in self.best(items)]
        every = self._found(items, top_k=top_k, may_be_none=None, longest=_LONGEST)
        return [{"answers": [plain(answer) for answer in found]} for found in every]


class AnswerTask(Task):
    """See `QuestionAnswerer`. `text` is the question, `pair` the context; a target is a tuple of (start, text) of the
    answers, empty where there is none.
    """

    name, level, metric, runtime = "answer", "span", "f1", QuestionAnswerer
    columns = "a question (question), a context (context) and answers (answers: text, answer_start), or SQuAD's JSON"
    answered = ("answers",)
    pipeline, call = "question-answering", 'model.answer("a question?", "a context of any length")'
    two_texts = True

    def read_file(self, path: str | Path, names: Names | None = None) -> Iterator[Example]:
        """See `Task.read_file`; a file called .json is SQuAD's."""
        if is_json(path):
            yield from (self.example(row, where) for where, row in _squad(Path(path)))
        else:
            yield from super().read_file(path, names)

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """See `Task.example`."""
        question, context = self.runtime.item(row, where)
        if "answers" not in row:
            raise missing(where, ["answers"], row)
        answers = tuple(_answers(row["answers"], where))
        for start, text in answers:
            if not text.strip():
                raise DataError(f"{where}: an answer is {text!r:.80}; a question without an answer has the list []")
            if context[start : start + len(text)] != text or start < 0:
                raise DataError(
                    f"{where}: the answer {text!r:.80} does not stand at {start} in its context of {len(context)} "
                    f"characters, where {context[max(start, 0) : start + len(text)]!r:.80} is"
                )
        return Example(question, context, answers, where)

    def head(self, examples: Sequence[Example]) -> Head:
        """See `Task.head`."""
        if not any(one.target for one in examples):
            raise DataError(f"none of the {len(examples)} questions has an answer")
        return Head(self.name, self.name, self.level, may_be_none=not all(one.target for one in examples))

    def read_inputs(self, path: str | Path, names: Names | None = None) -> Iterator[Any]:
        """See `Task.read_inputs`."""
        self.asked_by(names)
        if is_json(path):
            for where, row in _squad(Path(path)):
                yield self.runtime.item(row, where)
        else:
            yield from super().read_inputs(path, names)

    def rows(self, reader: TaskReader, item: Any) -> list[Row]:
        """See `Task.rows`: every window of a context."""
        return reader.contexts(*item)

    def lessons(self, reader: TaskReader, examples: Sequence[Example], head: Head) -> list[Lesson]:
        """See `Task.lessons`: the first token is the target where no answer is whole in a window.

        Raises: DataError also for answers of which the tokenizer leaves nothing.
        """
        found = []
        for one in examples:
            try:
                rows = self.rows(reader, (one.text, one.pair))
            except DataError as problem:
                raise DataError(f"{one.where}: {problem}") from None
            known = {place for row in rows for place in row.offsets if place is not None and place[0] < place[1]}
            if one.target and not any(_covered(answer, known) for answer in one.target):
                text = one.target[0][1]
                raise DataError(f"{one.where}: the tokenizer leaves no token of the answer {text!r:.80}")
            spans = [_span(row, one.target, known) for row in rows]
            lost = bool(one.target) and not any(end for _, end in spans)
            found += [
                Lesson(row.bare(), np.array(span, np.int64), lost=lost and not number)
                for number, (row, span) in enumerate(zip(rows, spans, strict=True))
            ]
        return found

    def unread(self, lessons: Sequence[Lesson], examples: Sequence[Example], max_length: int) -> str:
        """See `Task.unread`: answers that are whole in no window, of which nothing is learnt."""
        lost = sum(lesson.lost for lesson in lessons)
        return f"{lost} of {len(examples)} questions have answers too long for {max_length} tokens" if lost else ""

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor, head: Head, weights: Tensor | None) -> Tensor:
        """See `Task.loss`: cross entropy of start and end over the tokens."""
        from torch.nn import functional

        scores = logits.masked_fill(mask.unsqueeze(-1) == 0, -1e4)
        return functional.cross_entropy(scores.transpose(1, 2).flatten(0, 1), targets.flatten())

    def imitation(self, student: Tensor, teacher: Tensor, mask: Tensor, head: Head, temperature: float) -> Tensor:
        """See `Task.imitation`: of start and end over the tokens."""
        from edgebert.distill.objectives import logits_loss

        ours, theirs = (one.masked_fill(mask.unsqueeze(-1) == 0, -1e4).transpose(1, 2) for one in (student, teacher))
        return logits_loss(ours, theirs, temperature=temperature)

    def check(self, examples: Sequence[Example], head: Head) -> None:
        """See `Task.check`: all are of one kind."""

    def answers(self, model: Predictor, examples: Sequence[Example]) -> list[Any]:
        """See `Task.answers`: where the answer begins and its text, which is "" where there is none."""
        assert isinstance(model, QuestionAnswerer)
        return [(one.start, one.text) for one in model.best([(one.text, one.pair or "") for one in examples])]

    def as_target(self, answer: Any) -> Any:
        """See `Task.as_target`."""
        return (answer,) if answer[1] else ()

    def scored(self, answers: Sequence[Any], examples: Sequence[Example], head: Head) -> dict[str, float]:
        """See `Task.scored`: SQuAD's F1 and exact match (torchmetrics) of what the model says, also that it is nothing.

        A Chinese character counts as a word. CMRC's own script counts the longest run that both have, which is less.
        """
        try:
            from torchmetrics.functional.text import squad
        except ImportError:
            raise MissingExtraError("torchmetrics", "workshop", "scores of answers") from None
        got: list[Any] = []
        wanted: list[Any] = []
        for number, (one, (_, said)) in enumerate(zip(examples, answers, strict=True)):
            got.append({"id": str(number), "prediction_text": spaced(said)})
            texts = [spaced(text) for _, text in one.target] or [""]
            starts = [start for start, _ in one.target] or [0]
            wanted.append({"id": str(number), "answers": {"text": texts, "answer_start": starts}})
        found = squad(got, wanted)
        return {"f1": float(found["f1"]) / 100, "exact_match": float(found["exact_match"]) / 100}


def spaced(text: str) -> str:
    """A text with Chinese characters with blanks around each, and without Chinese punctuation; any other as it is."""
    if not any(map(_is_character, text)):
        return text
    made = "".join(f" {c} " if _is_character(c) else " " if c in _PUNCTUATION else c for c in text)
    return " ".join(made.split())


def _is_character(character: str) -> bool:
    """Whether it is a Chinese one."""
    return "\u3400" <= character < "\ua000" or "\uf900" <= character < "\ufb00"


_PUNCTUATION = frozenset("，。：？！“”；’《》……·、「」（）－～『』【】〈〉—")


def _require_text(question: str, context: str, where: str) -> None:
    """Raises DataError for a blank one."""
    for name, text in (("question", question), ("context", context)):
        if not text.strip():
            raise DataError(f"{where}the {name} is {text!r:.80}; a text that is not blank is needed")


def _answers(answers: Any, where: str) -> Iterator[tuple[int, str]]:
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    for one in answers if isinstance(answers, list) else [answers]:
        start = one.get("answer_start", one.get("start")) if isinstance(one, dict) else None
        if not is_whole(start) or not isinstance(one.get("text"), str):
            raise DataError(f"{where}, column 'answers' holds {answers!r:.80}; each needs text and answer_start")
        yield start, one["text"]


def _span(row: Row, answers: Sequence[tuple[int, str]], known: Collection[tuple[int, int]]) -> tuple[int, int]:
    """The first and the last token of the first answer that is whole in the row, 0 and 0 where none is.

    known: the places of all tokens of the context. Blanks and what a tokenizer leaves out, such as accents, are no part
    of any.
    """
    for answer in answers:
        wanted = _covered(answer, known)
        inside = [token for token, place in enumerate(row.offsets) if place in wanted]
        if wanted and wanted <= {row.offsets[token] for token in inside}:
            return inside[0], inside[-1]
    return 0, 0


def _covered(answer: tuple[int, str], known: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the places that have a part of the answer."""
    start, end = answer[0], answer[0] + len(answer[1])
    return {place for place in known if place[0] < end and place[1] > start}


def _squad(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of the file, and where each stands, for messages.

    Source: Rajpurkar et al. 2016, arXiv:1606.05250, for the format.
    """
    try:
        data = json.loads("\n".join(read_texts([path], keep_blank=True)))
        articles = data["data"]
        listed = [
            (paragraph["context"], qa) for article in articles for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]  # fmt: skip
        rows = [(qa.get("id", number), context, qa) for number, (context, qa) in enumerate(listed)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise DataError(f"{path} is not SQuAD's JSON (data, paragraphs, context, qas): {problem}") from None
    for name, context, qa in rows:
        answers = [] if qa.get("is_impossible") else qa.get("answers")
        yield f"{path}: question {name}", {"question": qa.get("question"), "context": context, "answers": answers}


TASK = AnswerTask()
