"""Encoders in processes of their own that take turns, whatever environment each lives in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgebert.vectors import Vectors

WORKER = Path(__file__).resolve().parent / "peer_worker.py"


@dataclass(frozen=True)
class Subject:
    """One encoder. `file`, `ov_config`: for sentence-transformers; `precision`: for EdgeBERT; `size`: bytes on disk."""

    name: str
    model: str
    library: Literal["edgebert", "sentence_transformers"]
    engine: str
    size: int
    python: Path = Path(sys.executable)
    precision: str = "auto"
    file: str = ""
    ov_config: dict[str, str] = field(default_factory=dict)


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
    with tempfile.TemporaryDirectory() as folder:
        task = {"texts": texts, "singles": singles, "probes": probes, "threads": threads}
        workers: list[_Worker] = []
        try:
            for i, subject in enumerate(subjects):
                _say(f"vectors of {subject.name}")
                workers.append(_Worker(subject, {**task, "vectors": str(Path(folder) / f"{i}.npz")}))
                workers[-1].ask("vectors")
            for turn in range(rounds):
                _say(f"round {turn + 1} of {rounds}")
                for place in range(len(workers)):
                    worker = workers[(turn + place) % len(workers)]
                    worker.rounds.append(worker.ask("round"))
            return [_measured(worker, Path(folder) / f"{i}.npz") for i, worker in enumerate(workers)]
        finally:
            for worker in workers:
                worker.close()


def run_worker(python: Path, command: str, task: dict[str, Any], *, what: str) -> None:
    """Runs one command of peer_worker.py to its end; ends the program with its last words when it fails."""
    done = subprocess.run(
        [python, WORKER, command], input=json.dumps(task) + "\n", capture_output=True, text=True, encoding="utf-8",
        check=False, env=_environment(python),
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{what} failed: {_last_words(done.stderr)}")


class _Worker:
    """One subject's process, which answers one line of JSON to each line."""

    def __init__(self, subject: Subject, task: dict[str, Any]) -> None:
        self.subject, self.rounds = subject, list[dict[str, Any]]()
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self.process = subprocess.Popen(
            [subject.python, WORKER, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            text=True, encoding="utf-8", env=_environment(subject.python, task["threads"]),
        )  # fmt: skip
        try:
            self.versions = self.ask(json.dumps({**vars(subject), "python": str(subject.python), **task}))["versions"]
        except BaseException:
            self.close()
            raise

    def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            self.process.communicate()
            self.errors.seek(0)
            sys.exit(f"{self.subject.name} does not run: {_last_words(self.errors.read())}")
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def _environment(python: Path, threads: int | None = None) -> dict[str, str]:
    """Nothing is fetched; threads that a library starts without being told are as many as the others have."""
    found = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if threads is not None:
        found |= {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    if python != Path(sys.executable):
        found.pop("PYTHONPATH", None)  # an environment of its own has its own packages
    return found


def _measured(worker: _Worker, file: Path) -> Measured:
    with np.load(file) as found:
        texts, probes = found["texts"], found["probes"]
    speeds = [turn["sentences_s"] for turn in worker.rounds]
    alone = [ms for turn in worker.rounds for ms in turn["alone_ms"]]
    return Measured(worker.subject, worker.versions, texts, probes, speeds, alone)


def _last_words(errors: str) -> str:
    return (errors.strip().splitlines() or ["it ended without a word"])[-1][:500]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
