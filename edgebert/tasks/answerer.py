"""Answers to questions, cut out of a context."""

from __future__ import annotations

from edgebert.errors import DataError
from edgebert.tasks.classifier import check
from edgebert.tasks.predictor import Predictor
from edgebert.tasks.results import Answer
from edgebert.tasks.spans import Window, best_answers

_LONGEST = 30  # tokens of an answer


class QuestionAnswerer(Predictor):
    """A question and a context of any length to stretches of that context."""

    what = "question answerer"

    def answer(self, question: str, context: str, *, may_be_none: bool = False, longest: int = _LONGEST) -> Answer:
        """The most probable answer; its text is "" where there is none.

        may_be_none: whether the context may have no answer, for models that were trained so. longest: tokens.
        Raises: DataError for an empty question or context; EngineError.
        """
        found = self.answers(question, context, top_k=1, may_be_none=may_be_none, longest=longest)
        return found[0] if found else Answer(0, 0, "", 0.0)

    def answers(
        self, question: str, context: str, *, top_k: int = 5, may_be_none: bool = False, longest: int = _LONGEST
    ) -> list[Answer]:
        """The `top_k` most probable ones, the best first.

        Raises: as `answer`; RecipeError for `top_k` or `longest` below 1.
        """
        check(top_k, None)
        check(longest, None)
        for name, text in (("question", question), ("context", context)):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"the {name} is {text!r:.80}; a text that is not blank is needed")
        rows = self.reader.contexts(question, context)
        logits = [found[0] for found in self._logits(rows)]
        windows = [Window(row.offsets, one / self.head.temperature) for row, one in zip(rows, logits, strict=True)]
        return best_answers(context, windows, top_k=top_k, longest=longest, may_be_none=may_be_none)
