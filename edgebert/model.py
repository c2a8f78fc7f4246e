"""What every runtime object is: an artifact of a bundle that is open, how it runs, and its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from numbers import Integral
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeGuard

from edgebert import forking
from edgebert.batching import widths
from edgebert.bundle import Bundle
from edgebert.devices import Placement
from edgebert.engines.base import Engine, Hint, in_words
from edgebert.errors import EngineError, NoSuchMethodError, RecipeError
from edgebert.plan import Plan, one_layout
from edgebert.processor import processor_name
from edgebert.runner import Ask, Engines, Reopen, Runner, TokenCount, embed
from edgebert.tokenizer import Tokenizer, open_tokenizer

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger(__name__)


class Model:
    """One artifact of a bundle, made by `edgebert.load`; a context manager.

    `engine`, `precision` and `hint` are what really runs; `runs` says it in words, `placement` where and why there.
    `unproven`: the file that runs where no golden vectors prove it, else "".
    Calls may come from several threads. `truncated` counts the texts that were longer than `max_length` and were cut.
    """

    what = "model"

    def __init__(
        self, bundle: Bundle, engine: Engine, *, tokenizer: Tokenizer | None = None, hint: Hint = "f32",
        plan: Plan | None = None, reopen: Reopen | None = None, unproven: str = "", placement: Placement | None = None,
        ask: Ask = embed,
    ) -> None:  # fmt: skip
        self.bundle = bundle
        self.tokenizer = tokenizer or open_tokenizer(bundle)
        self.engine, self.precision, self.hint = engine.name, engine.precision, hint
        self.unproven = unproven
        self.placement = placement or Placement("cpu", engine.name, engine.precision, "cpu", full_name=processor_name())
        self.truncated = 0
        self._lock = threading.Lock()
        chosen = plan or one_layout(1)
        self._runner: Runner | None = Runner(
            Engines(engine, chosen.lone, reopen), chosen, self._rows, max_length=self.max_length,
            pad_token_id=bundle.manifest.pad_token_id, ask=ask,
        )  # fmt: skip
        forking.renew(self)

    @property
    def runs(self) -> str:
        """Engine and precision, the hint when it is not f32, the device when it is not the CPU.

        Such as "openvino int8", "openvino int8 (hint bf16)", "openvino int8 (hint f16) on the NPU".
        """
        where = "" if self.placement.device == "cpu" else f" on the {self.placement.device.upper()}"
        return in_words(self.engine, self.precision, self.hint, self.unproven) + where

    @property
    def opened(self) -> Engine:
        """The engine as it was opened, which a lone text runs in.

        Raises: EngineError when the model is closed.
        """
        return self._running().engines.first

    @property
    def plan(self) -> Plan:
        """How texts are run here: threads, streams, tokens at a time."""
        return self._running().plan

    @property
    def tokens(self) -> TokenCount:
        """Tokens that were run so far, without and with padding."""
        return self._running().tokens

    @property
    def max_length(self) -> int:
        """The longest input in tokens, special ones included."""
        return self.bundle.manifest.max_length

    def warm_up(self, texts_at_once: int = 1) -> None:
        """Runs every width once, so that no later text waits for an engine to build its kernels; seconds.

        texts_at_once: the most texts of one call that it is to be ready for.
        Raises: RecipeError unless it is 1 or more; EngineError.
        """
        if not is_whole(texts_at_once) or texts_at_once < 1:
            raise RecipeError(f"texts_at_once is {texts_at_once!r}; it must be 1 or more")
        runner = self._running()
        for width in widths(self.max_length):
            runner.warm_up(width, texts_at_once)

    def open_all(self) -> None:
        """Opens all that a call may need later: no file of the model is read any more, but in a forked child.

        Raises: EngineError.
        """
        from edgebert.engines.static_ladder import StaticLadder  # not above: most models need nothing of it

        if isinstance(self.opened, StaticLadder):
            self.opened.open_all()
        self._running().open_all()

    def close(self) -> None:
        """Frees the model. Calls afterwards raise EngineError; closing twice is fine."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()

    def renew_after_fork(self) -> None:
        """See `forking.Renewable`."""
        self._lock = threading.Lock()
        if self._runner is not None:
            self._runner.forget_threads()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        hint = "" if self.hint == "f32" else f", hint={self.hint!r}"
        unproven = f", unproven={self.unproven!r}" if self.unproven else ""
        name = type(self).__name__
        return f"{name}({self.bundle.source!r}, engine={self.engine!r}, precision={self.precision!r}{hint}{unproven})"

    if not TYPE_CHECKING:  # type checkers know the methods of each task

        def __getattr__(self, name: str) -> Any:
            """Says whose method it is that this task has not."""
            from edgebert.tasks import whose

            if not name.startswith("_") and "bundle" in vars(self) and (tasks := whose(name)):
                task = self.bundle.manifest.task
                raise NoSuchMethodError(
                    f"{self.bundle.source} is made for the task {task!r} and was loaded as a {type(self).__name__}, "
                    f"which has no {name}: that is a method of models of the task {tasks}"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _running(self) -> Runner:
        if (runner := self._runner) is None:
            raise EngineError(f"this {self.what} of {self.bundle.source} is closed: load the model again")
        return runner

    def _rows(self, texts: Sequence[Any]) -> list[Any]:
        """What is asked about as rows of token ids; cut texts are counted, and the first one is logged."""
        tokens = self.tokenizer(texts)
        self._note_cut(sum(t.truncated for t in tokens))
        return [t.ids for t in tokens]

    def _note_cut(self, cut: int) -> None:
        if not cut:
            return
        with self._lock:
            first, self.truncated = self.truncated == 0, self.truncated + cut
        if first:
            logger.info("a text is longer than %d tokens and was cut; more are only counted", self.max_length)


def is_whole(number: object) -> TypeGuard[int]:
    """Whether it is an integer, of Python or numpy."""
    return isinstance(number, Integral) and not isinstance(number, bool)
