"""Encoders in processes of their own that take turns, whatever environment each lives in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgebert.errors import EngineError
from edgebert.vectors import Vectors
from edgebert.worker import Worker

SCRIPT = Path(__file__).resolve().parent / "peer_worker.py"
Library = Literal["edgebert", "sentence_transformers", "optimum_intel", "fastembed", "onnxruntime"]


@dataclass(frozen=True)
class Subject:
    """One encoder. `size`: bytes on disk; `precision`: for EdgeBERT; the others: see `openers`."""

    name: str
    model: str
    library: Library
    engine: str
    size: int
    python: Path = Path(sys.executable)
    precision: str = "auto"
    file: str = ""
    ov_config: dict[str, str] = field(default_factory=dict)
    batch_size: int = 32
    by_length: bool = False
    max_length: int = 0

    def task(self, threads: int) -> dict[str, Any]:
        """What peer_worker.py is told of it."""
        return {**vars(self), "python": str(self.python), "threads": threads}


@dataclass(frozen=True)
class Measured:
    """What one subject gave. Shapes: texts (n, dim), probes (m, dim). `speeds`: sentences a second, one a round."""

    subject: Subject
    versions: dict[str, str]
    texts: Vectors
    probes: Vectors
    speeds: list[float]
    alone_ms: list[float]


def measure(
    subjects: Sequence[Subject], texts: list[str], singles: list[str], probes: list[str], *, threads: int, rounds: int
) -> list[Measured]:
    """The vectors and times of every subject: vectors first, then rounds in turns, in another order every round.

    Ends the program with a clear message when one of them does not run.
    """
    sets = {"texts": texts, "singles": singles, "probes": probes}
    with serving(subjects, sets, threads=threads) as workers:
        vectors = {}
        for subject, worker in zip(subjects, workers, strict=True):
            say(f"vectors of {subject.name}")
            vectors[subject.name] = vectors_of(worker, "texts"), vectors_of(worker, "probes", alone=True)
        alone = in_turns(workers, lambda w: w.ask({"do": "alone", "set": "singles"})["alone_ms"], rounds)
        speeds = in_turns(workers, lambda w: w.ask({"do": "batches", "set": "texts"})["sentences_s"], rounds)
        return [
            Measured(
                subject, worker.hello["versions"], *vectors[subject.name], speeds[i], [*chain.from_iterable(alone[i])]
            )
            for i, (subject, worker) in enumerate(zip(subjects, workers, strict=True))
        ]


@contextmanager
def serving(subjects: Sequence[Subject], sets: Mapping[str, list[str]], *, threads: int) -> Iterator[list[Worker]]:
    """A process for each subject that has loaded it. What one of them fails at ends the program."""
    workers: list[Worker] = []
    try:
        for subject in subjects:
            say(f"loading {subject.name}")
            workers.append(start(subject, "serve", {**subject.task(threads), "sets": sets}, threads=threads))
        yield workers
    except EngineError as problem:
        sys.exit(str(problem))
    finally:
        for worker in workers:
            worker.close()


def start(subject: Subject, command: str, task: dict[str, Any], *, threads: int) -> Worker:
    """The process of peer_worker.py that does `command` for the subject.

    Raises: EngineError when it does not.
    """
    return Worker(
        [subject.python, SCRIPT, command], task, failed=f"{subject.name} does not run",
        environment=_environment(subject.python, threads),
    )  # fmt: skip


def vectors_of(worker: Worker, name: str, *, alone: bool = False) -> Vectors:
    """The vectors of the set `name`. Shape: (len(set), dim), float32."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        worker.ask({"do": "vectors", "set": name, "to": str(file), "alone": alone})
        found: Vectors = np.load(file).astype(np.float32, copy=False)
        return found


def in_turns(workers: Sequence[Worker], ask: Callable[[Worker], Any], rounds: int) -> list[list[Any]]:
    """What every worker answered in each round; the order is another one every round. Shape: (workers, rounds)."""
    found: list[list[Any]] = [[] for _ in workers]
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        for place in range(len(workers)):
            i = (turn + place) % len(workers)
            found[i].append(ask(workers[i]))
    return found


def run_worker(python: Path, command: str, task: dict[str, Any], *, what: str) -> None:
    """Runs one command of peer_worker.py to its end; ends the program with its last words when it fails."""
    done = subprocess.run(
        [python, SCRIPT, command], input=json.dumps(task) + "\n", capture_output=True, text=True, encoding="utf-8",
        check=False, env=_environment(python),
    )  # fmt: skip
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["it ended without a word"]
        sys.exit(f"{what} failed: {words[-1][:500]}")


def _environment(python: Path, threads: int | None = None) -> dict[str, str]:
    """Nothing is fetched; threads that a library starts without being told are as many as the others have."""
    found = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if threads is not None:
        found |= {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    if python != Path(sys.executable):
        found.pop("PYTHONPATH", None)  # an environment of its own has its own packages
    return found


def say(text: str) -> None:
    """A word on what is going on, on standard error."""
    print(text, file=sys.stderr, flush=True)
