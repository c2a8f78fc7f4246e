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
import threading
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
from edgebert.threads import started

logger = logging.getLogger(__name__)

T = TypeVar("T")
_FACTS = "facts.json"
_NOT_KEPT = "what %s makes of %s is not kept: %s"
_STALE = 24 * 3600.0  # seconds: what is unfinished for so long was left by a process that was killed


class Compiled:
    """What is kept of one artifact. Its bytes are summed by a thread from now on, while the engine is imported.

    how: all that it depends on beside the artifact. whole: a file to be held as it is read, see `data`.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, how: str, *, whole: str = "") -> None:
        self._source, self._engine, self._whole = bundle.source, artifact.engine, whole
        self._data: bytes | None = None
        self._is_whole = False
        self._folder = _folder(bundle, artifact, how)
        self._summing: threading.Thread | None = None
        if self._folder is not None:
            self._summing = started(self._sum, "edgebert-sums")

    @property
    def data(self) -> bytes:
        """The bytes of the file `whole`, those that were summed; given once, so that nobody holds them for longer."""
        assert self._folder is not None
        data, self._data = self._data, None
        return (self._folder / self._whole).read_bytes() if data is None else data

    def opened(
        self, load: Callable[[Path], T], make: Callable[[Path], None], faults: tuple[type[Exception], ...]
    ) -> T | None:
        """What `load` makes of the folder; None where nothing can be kept, or the engine cannot read it.

        make: writes into an empty folder what is kept, where nothing is or it is damaged. faults: what an engine that
        cannot raises; it is logged, and the model is opened the plain way.
        """
        caught: tuple[type[Exception], ...] = (OSError, RuntimeError, EdgeBertError, *faults)
        if (folder := self._folder) is None:
            return None
        if self._summing is not None:
            self._summing.join()
        else:
            self._sum()
        try:
            if not self._is_whole:
                self._data = None
                throw_away(folder)
                _make(folder, make)
        except caught as problem:
            logger.info(_NOT_KEPT, self._engine, self._source, problem)
            return None
        try:
            return load(folder)
        except caught as problem:
            logger.warning("%s cannot be read and is made again: %s", folder, " ".join(str(problem).split())[:300])
            with contextlib.suppress(OSError):
                throw_away(folder)
            return None

    def _sum(self) -> None:
        assert self._folder is not None
        with contextlib.suppress(Exception):  # whatever it is, such as no memory: the model is made again
            facts = json.loads((self._folder / _FACTS).read_text(encoding="utf-8"))
            for name, fact in facts.items():
                if name == self._whole:
                    self._data = (self._folder / name).read_bytes()
                    found = [len(self._data), zlib.crc32(self._data)]
                else:
                    found = _facts(self._folder / name)
                if found != fact:
                    return
            self._is_whole = bool(facts)


def _folder(bundle: Bundle, artifact: Artifact, how: str) -> Path | None:
    """Where it is kept; None where it cannot be. EDGEBERT_COMPILED=0 switches it off."""
    if not bundle.is_sealed or switched_off("EDGEBERT_COMPILED"):
        return None
    name = next((name for name, known in bundle.manifest.artifacts.items() if known == artifact), None)
    try:
        return None if name is None else cache_folder("compiled") / machine_key(bundle, name, how)
    except (OSError, RuntimeError, EdgeBertError) as problem:  # no home: RuntimeError
        logger.info(_NOT_KEPT, artifact.engine, bundle.source, problem)
        return None


def throw_away(folder: Path) -> None:
    """Removes `folder` if it is there; a process that has it open keeps what it has.

    Raises: OSError where that is forbidden.
    """
    if folder.exists() or folder.is_symlink():
        import shutil  # not above: it is rarely needed
        import tempfile

        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        folder.rename(aside / "damaged")
        shutil.rmtree(aside, ignore_errors=True)


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    import shutil

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
        if not (folder / _FACTS).is_file():  # else another process was faster
            raise


def _facts(path: Path) -> list[int]:
    """Size in bytes and CRC-32, which finds damage at several GB a second; against malice a cache has no means."""
    total = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            total = zlib.crc32(block, total)
    return [path.stat().st_size, total]
