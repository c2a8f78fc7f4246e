"""Runs of `edgebert distill` that tests break off, and that go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file

STEPS = 180  # 360 sentences in batches of 8, four times
EVERY = 18
LONG = ("--layers", "2", "--batch-size", "8", "--epochs", "4", "--held-out", "40", "--precision", "fp32",
        "--learning-rate", "1e-3")  # fmt: skip


def command(tiny_teacher: Path, corpus: Path, out: Path, *more: object) -> list[str]:
    """The arguments of a run of `STEPS` steps."""
    return [str(part) for part in ("distill", tiny_teacher, "--corpus", corpus, "-o", out, *LONG, *more)]


def environment(cache: Path) -> dict[str, str]:
    """The variables of a process that keeps its cache in that folder and computes as these tests do."""
    return {**os.environ, "EDGEBERT_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def begun(arguments: Sequence[str], work: Path, *, step: int) -> subprocess.Popen[str]:
    """A process that trains and has written the checkpoint of that step."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgebert", *arguments, "--work", str(work)],
        env=environment(work / "cache"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _wait(process, work, step)
    return process


def together(arguments: Sequence[str], cache: Path) -> subprocess.Popen[str]:
    """That command on two processes."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "edgebert",
         *arguments],
        env=environment(cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    """What it said on standard error, once it has come to a good end."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


def killed(launcher: subprocess.Popen[str], work: Path, *, step: int) -> None:
    """Waits for the checkpoint of that step, then kills the launcher and its workers, which are in sessions of their
    own."""
    _wait(launcher, work, step)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text(encoding="ascii").split()
    for pid in (launcher.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    launcher.communicate()


def _wait(process: subprocess.Popen[str], work: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while not list(work.glob(f"*/checkpoint-{step}/complete")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            pytest.fail(f"no checkpoint was written: {process.communicate()[1]}")
        time.sleep(0.005)


def checkpoints(work: Path) -> list[int]:
    """The steps of the complete checkpoints."""
    return sorted(int(path.parent.name.rsplit("-", 1)[1]) for path in work.glob("*/checkpoint-*/complete"))


def same_weights(one: Path, other: Path) -> bool:
    """Whether two students are equal to the bit."""
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(bool((first[name] == second[name]).all()) for name in first)
