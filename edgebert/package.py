"""A package: one file that holds what one device loads. A zip archive, stored, not compressed, always the same bytes.

`targets` builds packages; this is the device's side: opening one safely.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.errors import BudgetError, BundleError, EdgeBertError
from edgebert.files import new_file, new_folder, sha256
from edgebert.manifest import MANIFEST_NAME

_TIMES = ".times.json"  # hidden, so no file of the bundle
_ENCRYPTED = 0x1
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip archive can tell


def pack(bundle: Bundle, out: Path) -> None:
    """Writes the folder of `bundle` to the package `out`: the manifest first, then its files by name.

    Raises: BundleError when `out` exists; BudgetError when the disk is full.
    """
    with new_file(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name in [MANIFEST_NAME, *sorted(bundle.manifest.files)]:
            facts = zipfile.ZipInfo(name, _TIME)
            facts.create_system, facts.external_attr = 3, 0o644 << 16
            path = bundle.root / name
            facts.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(facts, "w") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def unpack(path: Path) -> Path:
    """The folder of the package `path`, unpacked once into the cache under the hash of its bytes, every file checked.

    Without a writable cache it is unpacked to a temporary folder that goes when the program ends.
    Raises: BundleError when it is no package, is damaged, or a name in it leads outside.
    """
    try:
        name = sha256(path)[:32]
        folder = _cached(path, name)
        if folder is not None:
            return folder
        temporary = Path(tempfile.mkdtemp(prefix="edgebert-"))
        atexit.register(_remove, temporary, os.getpid())
        _extract(path, temporary)
        return temporary
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as problem:
        raise BundleError(f"{path} is not a whole EdgeBERT package: {problem}") from None
    except OSError as problem:  # such as a damaged offset, or a name that is a file and a folder
        raise BundleError(f"{path} cannot be unpacked: {problem}") from None


def _remove(folder: Path, maker: int) -> None:
    """Removes `folder` in the process that made it: a forked child that ends would take it from its parent."""
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)


def _cached(path: Path, name: str) -> Path | None:
    """The package's folder in the cache, None when the cache cannot be written."""
    try:
        folder = cache_folder("packages") / name
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                with new_folder(folder) as partial:
                    _extract(path, partial)
                    _remember(Bundle.open(partial))
            except BundleError:
                if not folder.exists():  # else another process was faster
                    raise
        return folder
    except (BundleError, BudgetError):
        raise
    except (OSError, RuntimeError, EdgeBertError):  # RuntimeError: there is no home folder
        return None


def _is_whole(folder: Path) -> bool:
    """Whether it is as it was unpacked; files are hashed when their times are no longer those of then."""
    try:
        bundle = Bundle.open(folder)
        if _remembered(folder) != [list(written) for written in bundle.times()]:
            bundle.check()
            with contextlib.suppress(OSError):  # else it is hashed again the next time
                _remember(bundle)
    except (BundleError, OSError):
        return False
    return True


def _remember(bundle: Bundle) -> None:
    (bundle.root / _TIMES).write_text(json.dumps(bundle.times()), encoding="ascii")


def _remembered(folder: Path) -> object:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return json.loads((folder / _TIMES).read_text(encoding="ascii"))
    return None


def _extract(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if [entry.filename for entry in entries[:1]] != [MANIFEST_NAME]:
            raise BundleError(f"{path} is not an EdgeBERT package: it does not begin with {MANIFEST_NAME}")
        if len({entry.filename for entry in entries}) != len(entries):
            raise BundleError(f"{path} is damaged: it holds a name twice")
        for entry in entries:
            if (
                not entry.filename
                or entry.compress_type != zipfile.ZIP_STORED
                or entry.is_dir()
                or entry.flag_bits & _ENCRYPTED
            ):
                raise BundleError(f"{path}: {entry.filename!r} is not a stored file, which all must be")
            sink_path = Bundle.inside(folder, entry.filename)
            sink_path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, sink_path.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    Bundle.open(folder).check()
