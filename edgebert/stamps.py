"""What this machine found out about a bundle: which pairs of engine and precision proved right here, and how fast.

A stamp is keyed by the manifest's hash, the engine's version and the processor, and lies in the user's cache, never in
the bundle. Without a writable cache everything works and is found out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.errors import EdgeBertError
from edgebert.files import new_file
from edgebert.manifest import manifest_bytes
from edgebert.schema import parse, plain


@dataclass(frozen=True)
class Stamp:
    """One artifact on one machine.

    verified: whether its vectors were near enough to the golden ones; problem: what was wrong where not. seconds: the
    median time of one text of middling length, None where it was not timed.
    """

    artifact: str
    verified: bool
    problem: str = ""
    seconds: float | None = None
    thorough: bool = False


def read_stamp(bundle: Bundle, artifact: str) -> Stamp | None:
    """What is known here about that artifact; None when nothing is or it cannot be read."""
    try:
        data = json.loads(_path(bundle, artifact).read_text(encoding="utf-8"))
        return parse(Stamp, data, where="stamp", error=EdgeBertError)
    except (OSError, ValueError, EdgeBertError):
        return None


def write_stamp(bundle: Bundle, stamp: Stamp) -> None:
    """Keeps `stamp` for the next load; a cache that cannot be written is no fault."""
    with contextlib.suppress(OSError, EdgeBertError), new_file(_path(bundle, stamp.artifact), replace=True) as partial:
        partial.write_text(json.dumps(plain(stamp)), encoding="utf-8")


def _path(bundle: Bundle, artifact: str) -> Path:
    engine = bundle.manifest.artifacts[artifact].engine
    key = [hashlib.sha256(manifest_bytes(bundle.manifest)).hexdigest(), artifact, engine_version(engine), processor()]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    return cache_folder("stamps") / f"{name}.json"


def engine_version(engine: str) -> str:
    """The installed version of an engine's package, "" where it is not installed."""
    try:
        return metadata.version(engine)
    except metadata.PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name and features, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return " ".join([platform.machine(), platform.processor(), *dict.fromkeys(told)])
