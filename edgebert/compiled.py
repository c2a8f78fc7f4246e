"""What an engine has made of a model on this machine, kept so that the next load need not make it again.

ONNX Runtime's optimized graph is kept with its weights in a file beside it, which every process maps into the same
memory; OpenVINO's compiled model as the one file it exports. Both depend on engine, version and processor, which are in
the key. A folder appears when it is whole, is never written to again, and its files' sizes and times are looked at
before it is used; without a writable cache models are made anew at each load.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.errors import EdgeBertError
from edgebert.files import new_folder
from edgebert.manifest import Artifact
from edgebert.stamps import machine_key

logger = logging.getLogger(__name__)

_FACTS = "facts.json"
_OFF = ("0", "off", "false", "no")


def compiled_folder(
    bundle: Bundle, artifact: Artifact, how: str, make: Callable[[Path], None], faults: tuple[type[Exception], ...]
) -> Path | None:
    """The folder of what `make` writes into an empty one, made at the first call; None where nothing can be kept.

    how: all that it depends on beside the artifact. faults: what `make` raises when the engine cannot; it is logged,
    and the model is opened the plain way. EDGEBERT_COMPILED=0 switches it off.
    """
    caught: tuple[type[Exception], ...] = (OSError, RuntimeError, EdgeBertError, *faults)  # no home: RuntimeError
    if not bundle.is_sealed or os.environ.get("EDGEBERT_COMPILED", "").lower() in _OFF:
        return None
    try:
        name = next(name for name, known in bundle.manifest.artifacts.items() if known == artifact)
        folder = cache_folder("compiled") / machine_key(bundle, name, how)
        if _is_whole(folder):
            return folder
        if folder.exists():
            return None  # damaged; another process may be using it, so it stays
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as partial:
            make(partial)
            facts = {path.name: _facts(path) for path in partial.iterdir()}
            (partial / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        return folder
    except StopIteration:
        return None
    except caught as problem:
        logger.info("what %s makes of %s is not kept: %s", artifact.engine, bundle.source, problem)
        return None


def _is_whole(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        return bool(facts) and all(_facts(folder / name) == found for name, found in facts.items())
    return False


def _facts(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
