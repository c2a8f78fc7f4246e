"""What this machine found out about a bundle: which artifacts, under which hint, proved right here, and how fast.

A stamp is keyed by the manifest's hash, the files' times, the hint, the engine's version, the processor and the version
of the proof, and lies in the user's cache, never in the bundle. Without a writable cache everything works and is found
out again.
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

from edgebert.batching import STEPS
from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.engines.base import Hint
from edgebert.errors import EdgeBertError
from edgebert.files import new_file
from edgebert.manifest import manifest_bytes
from edgebert.schema import parse, plain

# One more whenever a proof asks for more: what was proven by less is proven again.
PROOF = 2
# Without a home folder `Path.home` raises RuntimeError.
_NO_CACHE = (OSError, RuntimeError, EdgeBertError)


@dataclass(frozen=True)
class Stamp:
    """One artifact under one hint on one machine.

    verified: whether its vectors were near enough to the golden ones; problem: what was wrong where not. seconds: the
    median time of one text of middling length on all threads; None where it was not timed.
    thorough: whether every width was tried, as `edgebert verify` does, and not the golden cases alone.
    """

    artifact: str
    verified: bool
    problem: str = ""
    seconds: float | None = None
    thorough: bool = False
    hint: Hint = "f32"


def read_stamp(bundle: Bundle, artifact: str, hint: Hint = "f32") -> Stamp | None:
    """What is known here about that artifact under `hint`; None when nothing is or it cannot be read."""
    try:
        data = json.loads(_path(bundle, artifact, hint).read_text(encoding="utf-8"))
        return parse(Stamp, data, where="stamp", error=EdgeBertError)
    except (*_NO_CACHE, ValueError):
        return None


def write_stamp(bundle: Bundle, stamp: Stamp) -> None:
    """Keeps `stamp` for the next load; a cache that cannot be written is no fault."""
    with contextlib.suppress(*_NO_CACHE), new_file(_path(bundle, stamp.artifact, stamp.hint), replace=True) as partial:
        partial.write_text(json.dumps(plain(stamp)), encoding="utf-8")


def _path(bundle: Bundle, artifact: str, hint: Hint) -> Path:
    return cache_folder("stamps") / f"{machine_key(bundle, artifact, hint)}.json"


def machine_key(bundle: Bundle, artifact: str, how: str) -> str:
    """A name for what this machine finds out or makes: of that artifact as its files are now, by `how`, here."""
    engine = bundle.manifest.artifacts[artifact].engine
    facts = hashlib.sha256(manifest_bytes(bundle.manifest)).hexdigest()
    # A file that was touched since is not the one that was proven.
    touched = [bundle.path(name).stat().st_mtime_ns for name in sorted(bundle.manifest.files)]
    # Our own version counts too: it decides how the engine is set up.
    versions = [engine_version("edgebert"), engine_version(engine), PROOF]
    key = [facts, touched, artifact, how, STEPS, *versions, processor()]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]


def engine_version(engine: str) -> str:
    """The installed version of a package such as an engine, "" where it is not installed."""
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
