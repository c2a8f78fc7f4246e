"""What long work tells the person who waits. The library is silent; the command line passes a `TerminalProgress`."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

_LINE_SECONDS = 10.0


class Progress:
    """Told what is going on, and silent about it. One stage at a time."""

    def start(self, title: str, total: int) -> None:
        """A stage of `total` units begins; the one before is over."""

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """`count` more units are done; `note` is shown beside the bar until the next one."""

    def say(self, text: str) -> None:
        """One line that stays."""


class TerminalProgress(Progress):
    """A bar on standard error where that is a terminal, else a line every ten seconds; a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=self._console,
        )  # fmt: skip
        self._task: Any = None
        self._title, self._total, self._done, self._last, self._note = "", 0, 0, 0.0, ""

    def __enter__(self) -> TerminalProgress:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()
        elif kind is None:
            self._line()

    def start(self, title: str, total: int) -> None:
        """See `Progress.start`."""
        if not self._console.is_terminal:
            self._line()
        self._title, self._total, self._done, self._note, self._last = title, total, 0, "", time.monotonic()
        if self._console.is_terminal:
            self._task = self._bars.add_task(title, total=total, note="")

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """See `Progress.advance`."""
        self._done, self._note = self._done + count, note or self._note
        if self._console.is_terminal:
            self._bars.update(self._task, advance=count, note=self._note)
        elif time.monotonic() - self._last > _LINE_SECONDS:
            self._line()

    def say(self, text: str) -> None:
        """See `Progress.say`."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _line(self) -> None:
        if self._title:
            self.say(f"{self._title}: {self._done} of {self._total} {self._note}".rstrip())
        self._last = time.monotonic()
