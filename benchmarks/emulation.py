"""An artifact's vectors on other processors than this machine's, which qemu emulates.

    haswell      x86-64 with AVX2 and without VNNI: products of int8 are added in pairs in int16, which saturates
    neoverse-n1  arm64 with dot products, such as AWS Graviton 2; a Raspberry Pi 5 has the same instructions

Only answers are compared: the time that emulation takes says nothing about the processor's.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sysroot import MissingTool, arm64_sysroot, python_command

from edgebert.errors import EngineError

SCRIPT = Path(__file__).parent / "run_artifact.py"
Batch = Mapping[str, NDArray[Any]]

# Haswell without the features that qemu cannot give and would warn about at every start.
_HASWELL = "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid"


@dataclass(frozen=True)
class Answers:
    """What a run left: one array a batch, and the kinds of processor code that ran the linear layers, if it says."""

    vectors: tuple[NDArray[np.float32], ...]
    kernels: tuple[str, ...]


def _native() -> tuple[str, ...]:
    return (sys.executable,)


def _haswell() -> tuple[str, ...]:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise MissingTool(f"haswell is emulated on x86-64 alone, where its Python is; this is {platform.machine()}")
    return (_qemu("x86_64"), "-cpu", _HASWELL, sys.executable)


def _neoverse() -> tuple[str, ...]:
    # qemu's default processor, `max`, emulates wide vectors that some engines then use, and wrongly.
    return (_qemu("aarch64"), "-cpu", "neoverse-n1", *python_command(arm64_sysroot()))


# The Python command on each processor. It raises MissingTool where it cannot be had.
PROCESSORS: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "native": _native,
    "haswell": _haswell,
    "neoverse-n1": _neoverse,
}
EMULATED = tuple(name for name in PROCESSORS if name != "native")


def answers(processor: str, engine: str, model: Path, batches: Sequence[Batch]) -> Answers:
    """The first output, or `sentence_embedding`, of the file `model` for every batch, in a process of its own.

    Raises: MissingTool when the processor cannot be emulated here; EngineError when the run fails.
    """
    command = PROCESSORS[processor]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = {f"{i}/{name}": array for i, batch in enumerate(batches) for name, array in batch.items()}
        np.savez(folder / "inputs.npz", **inputs)
        files = [str(path) for path in (SCRIPT, model.absolute(), folder / "inputs.npz", folder / "outputs.npz")]
        done = subprocess.run(
            [*command, files[0], engine, *files[1:]], capture_output=True, text=True, check=False, cwd=folder
        )
        if done.returncode:
            said = " ".join(done.stderr.split())[-400:]
            raise EngineError(f"{engine} on {processor} ended with {done.returncode} on {model.name}: {said}")
        with np.load(folder / "outputs.npz") as found:
            vectors = tuple(found[str(i)] for i in range(len(batches)))
    return Answers(vectors, tuple(json.loads(done.stdout.splitlines()[-1])))


def _qemu(architecture: str) -> str:
    """The emulator's path. Debian 12 calls it qemu-x86_64-static; newer ones qemu-x86_64."""
    for name in (f"qemu-{architecture}-static", f"qemu-{architecture}"):
        if path := shutil.which(name):
            return path
    raise MissingTool(f"qemu-{architecture}-static is not on this machine: apt-get install qemu-user-static")
