"""What this machine found out about a bundle: which artifacts, under which hint, proved right here, and how fast.

A stamp is keyed by the manifest's hash, the files' times, the hint, the engine's version, the processor, the version
of the proof and the device where that is not the CPU, and lies in the user's cache, never in the bundle. Without a
writable cache everything works and is found out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from edgebert.batching import STEPS
from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.devices import Place
from edgebert.engines.base import Hint
from edgebert.errors import EdgeBertError
from edgebert.files import new_file
from edgebert.processor import processor
from edgebert.schema import parse, plain
from edgebert.version import VERSION

# One more whenever a proof asks for more: what was proven by less is proven again.
PROOF = 2
# Without a home folder `Path.home` raises RuntimeError.
_NO_CACHE = (OSError, RuntimeError, EdgeBertError)


@dataclass(frozen=True)
class Stamp:
    """One artifact under one hint on one machine.

    verified: whether its vectors were near enough to the golden ones; problem: what was wrong where not. seconds: the
    median time of one text of middling length on all threads; None where it was not timed. thorough: whether every
    width was tried, as `edgebert verify` does, and not the golden cases alone. place: the identity of the device, ""
    for the CPU.
    """

    artifact: str
    verified: bool
    problem: str = ""
    seconds: float | None = None
    thorough: bool = False
    hint: Hint = "f32"
    place: str = ""


def seconds(stamp: Stamp | None) -> float:
    """The time in `stamp`, for sorting: infinite where nothing was timed."""
    return float("inf") if stamp is None or stamp.seconds is None else stamp.seconds


def read_stamp(bundle: Bundle, artifact: str, hint: Hint = "f32", place: Place | None = None) -> Stamp | None:
    """What is known here about that artifact under `hint` at `place`; None when nothing is or it cannot be read."""
    try:
        return _read(_path(bundle, artifact, hint, place.identity if place else ""))
    except (*_NO_CACHE, ValueError):
        return None


def placed_stamps(bundle: Bundle, artifact: str, hint: Hint) -> list[Stamp]:
    """What is known here about that artifact under `hint` on devices other than the CPU, present or not.

    No engine is imported for it: that an accelerator is faster is rare, and asking for the devices is not free.
    """
    try:
        path = _path(bundle, artifact, hint)
        return [_read(other) for other in sorted(path.parent.glob(f"{path.stem}-*.json"))]
    except (*_NO_CACHE, ValueError):
        return []


def any_placed() -> bool:
    """Whether any model was ever tried here on a device other than the CPU."""
    try:
        return next(cache_folder("stamps").glob("*-*.json"), None) is not None
    except _NO_CACHE:
        return False


def write_stamp(bundle: Bundle, stamp: Stamp) -> None:
    """Keeps `stamp` for the next load; a cache that cannot be written is no fault."""
    with contextlib.suppress(*_NO_CACHE):
        path = _path(bundle, stamp.artifact, stamp.hint, stamp.place)
        with new_file(path, replace=True) as partial:
            partial.write_text(json.dumps(plain(stamp)), encoding="utf-8")


def _read(path: Path) -> Stamp:
    data = json.loads(path.read_text(encoding="utf-8"))
    return parse(Stamp, data, where="stamp", error=EdgeBertError)


def _path(bundle: Bundle, artifact: str, hint: Hint, place: str = "") -> Path:
    suffix = f"-{hashlib.sha256(place.encode()).hexdigest()[:16]}" if place else ""
    return cache_folder("stamps") / f"{machine_key(bundle, artifact, hint)}{suffix}.json"


def machine_key(bundle: Bundle, artifact: str, how: str) -> str:
    """A name for what this machine finds out or makes of that artifact, by `how`; other files have another one."""
    engine = bundle.manifest.artifacts[artifact].engine
    # Our own version counts too: it decides how the engine is set up.
    versions = [VERSION, engine_version(engine), PROOF]
    # A file that was touched since is not the one that was proven.
    key = [bundle.manifest.identity, bundle.touched, artifact, how, STEPS, *versions, processor()]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]


@lru_cache
def engine_version(engine: str) -> str:
    """The installed version of an engine's package, "" where it is not installed; nothing is imported for it."""
    spec = find_spec(engine)
    if spec is None or spec.origin is None:
        return ""
    # As installers name the folder of facts; `importlib.metadata` reads all of them and takes longer than the rest.
    named = sorted(Path(spec.origin).parent.parent.glob(f"{engine}-*.dist-info"))
    if len(named) == 1:
        return named[0].name.removesuffix(".dist-info").partition("-")[2]
    from importlib import metadata

    # Builds for accelerators have names of their own: onnxruntime-gpu, -qnn, -directml.
    for package in (engine, *sorted(set(metadata.packages_distributions().get(engine, ())))):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return ""
