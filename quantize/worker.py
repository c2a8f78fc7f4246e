"""Engine work in a process of its own: a recipe may crash an engine, which must not take the search with it."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgebert.bundle import Bundle
from edgebert.embedder import Embedder
from edgebert.engines import open_engine
from edgebert.errors import EdgeBertError, EngineError
from edgebert.quantize.parity import Measured, measure
from edgebert.quantize.reference import Reference
from edgebert.quantize.task_gate import TaskGate
from edgebert.timing import Timing, side_by_side


def measured(bundle: Bundle, name: str, known: Reference, task: TaskGate | None) -> Measured:
    """`measure` in a process of its own.

    Raises: EngineError, also when the engine brings its process down; DataError for the task's files.
    """
    found: Measured = _isolated("measure", bundle, name, known, task)
    return found


def timings(bundle: Bundle, names: Sequence[str], texts: Sequence[str], singles: int) -> dict[str, Timing]:
    """The speeds of artifacts side by side, in one process of their own.

    Raises: EngineError.
    """
    found: dict[str, Timing] = _isolated("time", bundle, tuple(names), tuple(texts), singles)
    return found


def _isolated(job: str, *arguments: object) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        task, answer = Path(folder) / "task", Path(folder) / "answer"
        task.write_bytes(pickle.dumps((job, arguments)))
        # Not -m: it would look for modules in the folder that the user happens to be in.
        start = "import sys; sys.path[:] = filter(None, sys.path); from edgebert.quantize.worker import main; main()"
        command = [sys.executable, "-c", start, str(task), str(answer)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        if done.returncode or not answer.exists():
            raise EngineError(f"the engine's process ended with {_reason(done.returncode, done.stderr)}")
        kind, value = pickle.loads(answer.read_bytes())  # written by this very program
    if kind == "error":
        raise value
    return value


def _reason(code: int, errors: bytes) -> str:
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"{signal.Signals(-code).name}, a crash of the engine"
    return f"exit code {code}: {lines[-1][:300] if lines else 'no message'}"


def main() -> None:
    """The worker's side: a pickled task in, a pickled answer out."""
    task, answer = map(Path, sys.argv[1:3])
    job, arguments = pickle.loads(task.read_bytes())
    result: tuple[str, object]
    try:
        result = ("value", measure(*arguments) if job == "measure" else _time(*arguments))
    except EdgeBertError as problem:
        result = ("error", problem)
    partial = answer.with_suffix(".partial")
    partial.write_bytes(pickle.dumps(result))
    partial.rename(answer)


def _time(bundle: Bundle, names: Sequence[str], texts: Sequence[str], singles: int) -> dict[str, Timing]:
    encoders = {name: Embedder(bundle, open_engine(bundle, name)) for name in names}
    return side_by_side(encoders, list(texts)[:singles], list(texts))


if __name__ == "__main__":
    main()
