"""Timing models as a user meets them: each in its own process, in turns, on the same text with the same threads."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from edgebert.errors import EdgeBertError
from edgebert.progress import Progress
from edgebert.threads import checked_threads
from edgebert.timing import Timing
from edgebert.worker import Worker

BATCH_SIZE = 32
_out: TextIO = sys.stdout  # where a worker answers


@dataclass(frozen=True)
class Subject:
    """A model and the engine and precision to run it with."""

    model: str
    engine: str = "auto"
    precision: str = "auto"
    revision: str | None = None
    artifact: str | None = None


@dataclass(frozen=True)
class Measured:
    """One model's figures. load_s: import and load, engine proven before; memory_mb: peak of the whole process."""

    model: str
    engine: str
    precision: str
    threads: int
    timing: Timing
    load_s: float
    memory_mb: float
    hint: str = "f32"
    unproven: str = ""

    @property
    def runs(self) -> str:
        """See `Embedder.runs`."""
        from edgebert.engines.base import in_words  # not above: a worker's imports are timed

        return in_words(self.engine, self.precision, self.hint, self.unproven)


def bench(
    subjects: Sequence[Subject],
    texts: Sequence[str],
    *,
    threads: int | None = None,
    rounds: int = 5,
    singles: int = 100,
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[Measured]:
    """The figures of every subject on `texts`: the first `singles` of them alone, all of them in batches of 32.

    environment: the processes' variables, by default this one's.
    Raises: EngineError when a model's process fails, with its message.
    """
    progress, threads = progress or Progress(), checked_threads(threads)
    task = {"texts": list(texts), "singles": min(singles, len(texts)), "threads": threads}
    progress.start("bench", len(subjects) * (rounds + 1))
    workers: list[Worker] = []
    try:
        for subject in subjects:
            # The first load on a machine proves the engine and fills the system's file cache; the second is timed.
            _worker(subject, task, environment).close()
            workers.append(_worker(subject, task, environment))
            progress.advance()
        for turn in range(rounds):
            for place in range(len(workers)):
                workers[(turn + place) % len(workers)].ask("round")
                progress.advance()
        return [_finish(worker, subject, threads) for subject, worker in zip(subjects, workers, strict=True)]
    finally:
        for worker in workers:
            worker.close()


def _worker(subject: Subject, task: dict[str, Any], environment: Mapping[str, str] | None) -> Worker:
    """A process that has loaded one model."""
    command = [sys.executable, "-c", "from edgebert.bench import serve; serve()"]
    failed = f"timing {subject.model} failed"
    return Worker(command, {**vars(subject), **task}, failed=failed, environment=environment)


def _finish(worker: Worker, subject: Subject, threads: int) -> Measured:
    answer, loaded = worker.ask("finish"), worker.hello
    return Measured(
        subject.model, loaded["engine"], loaded["precision"], threads, Timing(**answer["timing"]), loaded["load_s"],
        answer["memory_mb"], loaded["hint"], loaded["unproven"],
    )  # fmt: skip


def serve() -> None:
    """The worker's side: a task, then "round" as often as it comes, then "finish"."""
    global _out
    # What a library prints must not come between the answers.
    _out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    stdin = sys.stdin
    task = json.loads(stdin.readline())
    begun = time.perf_counter()
    from edgebert.models import open_model

    try:
        encoder = open_model(
            task["model"], engine=task["engine"], precision=task["precision"], threads=task["threads"],
            revision=task["revision"], artifact=task["artifact"],
        )  # fmt: skip
        encoder.encode(task["texts"][:1])
    except EdgeBertError as problem:
        _answer({"error": str(problem)})
        return
    loaded = {"load_s": time.perf_counter() - begun}
    told = {"engine": encoder.engine, "precision": encoder.precision, "hint": encoder.hint}
    _answer({**loaded, **told, "unproven": encoder.unproven})
    from dataclasses import asdict

    from edgebert.timing import Clock

    clock = Clock(encoder, task["texts"][: task["singles"]], task["texts"], batch_size=BATCH_SIZE)
    for line in stdin:
        if json.loads(line) == "round":
            clock.round()
            _answer({})
        else:
            _answer({"timing": asdict(clock.timing), "memory_mb": peak_memory_mb()})


def _answer(data: dict[str, Any]) -> None:
    _out.write(json.dumps(data) + "\n")
    _out.flush()


def peak_memory_mb() -> float:
    """The largest resident memory this process ever had, in millions of bytes."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / 1e6)
    if sys.platform == "linux":  # of this program alone; `ru_maxrss` begins with what the parent had at the start
        from edgebert.memory import resident_mb

        peak = resident_mb("VmHWM")
        assert peak is not None
        return peak
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1e6 if sys.platform == "darwin" else largest * 1024 / 1e6


def default_texts(path: str | Path | None, count: int) -> list[str]:
    """`count` texts of the file `path`, evenly spread over its first 100,000, or of the documentation of Python."""
    from itertools import islice

    from edgebert.errors import DataError
    from edgebert.prose import python_prose
    from edgebert.texts import read_texts

    limit = 100_000 if path is not None else 4 * count
    texts = list(islice(read_texts([path]) if path is not None else python_prose(), limit))
    if not texts:
        raise DataError(f"{path} has no usable line")
    return texts[:: max(1, len(texts) // count)][:count]
