"""Writing whole or not at all: outputs appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from edgebert.errors import BudgetError, BundleError, EdgeBertError

_UMASK = threading.Lock()


def sha256(path: Path) -> str:
    """The SHA-256 of a file in lower-case hex, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one clear error about `out`."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BudgetError(f"the disk is full while writing {out}: free some space; nothing was kept") from None
        if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise EdgeBertError(f"cannot write {out}: {problem.strerror}") from None
        raise


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, renamed to `out` when the block ends well and removed when it does not.

    Raises: BundleError when `out` exists; BudgetError when the disk is full.
    """
    import shutil  # not above, as `tempfile` below: a model that is only loaded writes nothing
    import tempfile

    refuse_existing(out)
    with disk_errors(out):
        make_parent(out)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        try:
            yield partial
            mask = _umask()
            for path in partial.rglob("*"):  # libraries write some files for their owner alone
                if not path.is_symlink():  # what it leads to may be another's
                    runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                    path.chmod((0o777 if runs else 0o666) & ~mask)
            partial.chmod(0o777 & ~mask)
            refuse_existing(out)
            partial.rename(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextlib.contextmanager
def new_file(out: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary path beside `out`, moved to `out` when the block ends well and removed when it does not.

    Raises: BundleError when `out` exists and `replace` is false; BudgetError when the disk is full.
    """
    import tempfile

    if not replace:
        refuse_existing(out)
    with disk_errors(out):
        make_parent(out)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o666 & ~_umask())
            if not replace:
                refuse_existing(out)
            partial.replace(out)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def refuse_existing(out: Path) -> None:
    """Raises BundleError when `out` exists: EdgeBERT never writes over a result."""
    with disk_errors(out):
        there = out.exists() or out.is_symlink()
    if there:
        raise BundleError(f"the output {out} exists already: choose another name or remove it first")


def require_writable(out: Path) -> None:
    """Raises EdgeBertError when `out` exists or cannot be made: asked before long work, not after it."""
    import tempfile

    refuse_existing(out)
    with disk_errors(out):
        make_parent(out)
        Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent)).rmdir()


def make_parent(out: Path) -> None:
    """Makes the folder that `out` will lie in.

    Raises: EdgeBertError when something else is in its place.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise EdgeBertError(f"cannot write {out}: {out.parent} is not a folder") from None


def _umask() -> int:
    """The process's umask. Linux tells it; elsewhere it can only be read by setting it, which all threads see."""
    with contextlib.suppress(OSError, StopIteration, LookupError, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    with _UMASK:  # else two threads, each of which sets what it found, can leave it at 0
        mask = os.umask(0)
        os.umask(mask)
    return mask
