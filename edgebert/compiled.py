"""What an engine has made of a model on this machine, kept so that the next load need not make it again.

ONNX Runtime's optimized graph is kept with its weights in a file beside it, which every process maps into the same
memory; OpenVINO's compiled model as the one file it exports. Both depend on engine, version and processor, which are in
the key. A folder appears when it is whole and is never written to again. Its bytes are summed before each use: both
engines load damaged weights without a word and answer wrongly. What is damaged is thrown away and made again; without a
writable cache models are made anew at each load.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edgebert.bundle import Bundle
from edgebert.cache import cache_folder, switched_off
from edgebert.errors import EdgeBertError
from edgebert.files import new_folder
from edgebert.manifest import Artifact
from edgebert.stamps import machine_key

logger = logging.getLogger(__name__)

T = TypeVar("T")
_FACTS = "facts.json"
_STALE = 24 * 3600.0  # seconds: what is unfinished for so long was left by a process that was killed


def compiled_folder(
    bundle: Bundle, artifact: Artifact, how: str, make: Callable[[Path], None], faults: tuple[type[Exception], ...]
) -> Path | None:
    """The folder of what `make` writes into an empty one, made at the first call; None where nothing can be kept.

    how: all that it depends on beside the artifact. faults: what `make` raises when the engine cannot; it is logged,
    and the model is opened the plain way. EDGEBERT_COMPILED=0 switches it off.
    """
    caught: tuple[type[Exception], ...] = (OSError, RuntimeError, EdgeBertError, *faults)  # no home: RuntimeError
    if not bundle.is_sealed or switched_off("EDGEBERT_COMPILED"):
        return None
    name = next((name for name, known in bundle.manifest.artifacts.items() if known == artifact), None)
    if name is None:
        return None
    try:
        folder = cache_folder("compiled") / machine_key(bundle, name, how)
        if _is_whole(folder):
            return folder
        throw_away(folder)
        return _made(folder, make)
    except caught as problem:
        logger.info("what %s makes of %s is not kept: %s", artifact.engine, bundle.source, problem)
        return None


def from_kept(folder: Path | None, load: Callable[[Path], T], faults: tuple[type[Exception], ...]) -> T | None:
    """What `load` makes of `folder`; None where there is none or the engine cannot read it, which throws it away."""
    if folder is None:
        return None
    caught: tuple[type[Exception], ...] = (OSError, *faults)
    try:
        return load(folder)
    except caught as problem:
        logger.warning("%s cannot be read and is made again: %s", folder, " ".join(str(problem).split())[:300])
        with contextlib.suppress(OSError):
            throw_away(folder)
        return None


def throw_away(folder: Path) -> None:
    """Removes `folder` if it is there; a process that has it open keeps what it has.

    Raises: OSError where that is forbidden.
    """
    if folder.exists() or folder.is_symlink():
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        folder.rename(aside / "damaged")
        shutil.rmtree(aside, ignore_errors=True)


def _made(folder: Path, make: Callable[[Path], None]) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
    try:
        with new_folder(folder) as partial:
            make(partial)
            facts = {path.name: _facts(path) for path in partial.iterdir()}
            (partial / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    except (OSError, EdgeBertError):
        if not _is_whole(folder):  # else another process was faster
            raise
    return folder


def _is_whole(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        return bool(facts) and all(_facts(folder / name) == found for name, found in facts.items())
    return False


def _facts(path: Path) -> list[int]:
    """Size in bytes and CRC-32, which finds damage at several GB a second; against malice a cache has no means."""
    total = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            total = zlib.crc32(block, total)
    return [path.stat().st_size, total]
