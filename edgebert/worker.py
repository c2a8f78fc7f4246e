"""A process that answers one line of JSON to each line of JSON: what benchmarks measure models in, one process each."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.errors import EngineError


class Worker:
    """The process that `command` starts, and `hello`, its answer to `task`. Close it, whatever happens.

    failed: what is said when it ends or answers with an error, such as "timing a model failed".
    Raises: EngineError with `failed` and the process's last words.
    """

    def __init__(
        self, command: Sequence[str | Path], task: Any, *, failed: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.failed = failed
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, encoding="utf-8",
            env=environment,
        )  # fmt: skip
        try:
            self.hello = self.ask(task)
        except BaseException:
            self.close()
            raise

    def ask(self, request: Any) -> dict[str, Any]:
        """The process's answer to one request."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            self._process.communicate()
            self._errors.seek(0)
            words = self._errors.read().strip().splitlines() or ["it ended without a word"]
            raise EngineError(f"{self.failed}: {words[-1][:500]}") from None
        if "error" in answer:
            raise EngineError(f"{self.failed}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()
