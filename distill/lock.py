"""One process at a time in a folder: a lock that the system lets go of when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edgebert.errors import EdgeBertError

_NAME = "lock"
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """While open, no other process gets in; `folder` is made where it is missing, and removed again when it is empty.

    The file names its holder. The system's lock on it is what counts: the file of a killed process locks nobody out.
    Raises: EdgeBertError naming the holder when another process is in it.
    """
    handle = _take(folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / _NAME).unlink()
        os.close(handle)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _take(folder: Path) -> int:
    path = folder / _NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
            # The holder before removes its file, and a lock on a removed file keeps nobody out.
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
                os.ftruncate(handle, 0)
                os.write(handle, json.dumps(holder).encode())
                return handle
        except FileNotFoundError:
            pass
        except OSError as problem:
            os.close(handle)
            if problem.errno in _TAKEN:
                raise EdgeBertError(_refusal(folder)) from None
            raise EdgeBertError(
                f"{folder} cannot be locked ({problem.strerror}): choose a folder on a local disk (--work or "
                "EDGEBERT_CACHE)"
            ) from None
        os.close(handle)


def _refusal(folder: Path) -> str:
    who = "another process"
    with contextlib.suppress(OSError, ValueError, KeyError):
        holder = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    return (
        f"the run folder {folder} is in use by {who}: the same teacher, text and recipe are being trained there; wait "
        "until that run ends, or give this one a folder of its own (--work)"
    )


def _lock(handle: int) -> None:
    """Raises OSError at once when another process holds it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the text, which others read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
        return
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
