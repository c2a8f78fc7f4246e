"""Encoders that survive `os.fork`, as gunicorn's --preload, multiprocessing and Celery do it.

Of a process with threads only the forking thread goes on in the child. An engine that was open there waits for threads
that are gone: OpenVINO hangs when another thread computed during the fork, ONNX Runtime computes on one thread,
slowly. So:

    before      the fork waits until no thread is inside an engine (at most `_PATIENCE` seconds), so that none of their
                locks is held; tokenizers is told not to use its thread pool in the child
    parent      goes on as before
    child       the parent's engines are abandoned, never freed (freeing would join the threads that are gone), and each
                encoder opens its own at its first call, from the same bytes
"""

from __future__ import annotations

# Here and not when a call first needs it: its import registers hooks for forks, and a fork that another thread has
# begun by then runs the second of them without the first, which gives back a lock that nobody took.
import concurrent.futures.thread  # noqa: F401
import contextlib
import ctypes
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from edgebert.bundle import Bundle
from edgebert.engines.base import Engine, Ids, Vectors
from edgebert.errors import EngineError
from edgebert.files import sha256

_PATIENCE = 5.0  # seconds: a batch takes milliseconds; a signal handler that forks inside a call must not hang
_SETTLING = 0.2  # seconds: the engines' own threads sleep some microseconds after a call, on a busy machine later
_TOKENIZERS = "TOKENIZERS_PARALLELISM"


class Renewable(Protocol):
    """What holds locks or threads that a forked child must have anew."""

    def renew_after_fork(self) -> None:
        """Called in the child, before anything else of the program runs there."""


class _Gate:
    """Counts the threads inside engines; a fork closes it and waits until there are none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = self._forks = 0

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._forks == 0)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def shut(self) -> None:
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._inside == 0, _PATIENCE)

    def open(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


class _Told:
    """Tells tokenizers to leave its thread pool alone while forks are under way, unless the program has said what it
    wants. Several threads may fork at once: the last one takes the word back."""

    def __init__(self) -> None:
        self._lock, self._forks = threading.Lock(), 0

    def begin(self) -> None:
        with self._lock:
            if self._forks or _TOKENIZERS not in os.environ:
                self._forks += 1
                os.environ[_TOKENIZERS] = "false"

    def end(self) -> None:
        with self._lock:
            if self._forks:
                self._forks -= 1
                if not self._forks:
                    os.environ.pop(_TOKENIZERS, None)


_gate, _told = _Gate(), _Told()
_renewed: weakref.WeakSet[Renewable] = weakref.WeakSet()
_generation = 0  # how many forks lie between this process and the first


def renew(thing: Renewable) -> None:
    """Has `thing.renew_after_fork` called in every forked child for as long as it lives."""
    _renewed.add(thing)


@contextlib.contextmanager
def inside_engine() -> Iterator[None]:
    """No fork happens while the block runs: for opening an engine and for computing. Must not be nested."""
    with _gate.inside():
        yield


class ForkSafe:
    """The `Engine` that `opening` gives for that artifact of `bundle`, and in a forked child another one.

    Raises: EngineError in a child when the artifact's files are no longer those that the parent opened.
    """

    def __init__(self, bundle: Bundle, artifact: str, opening: Callable[[], Engine]) -> None:
        self._bundle, self._artifact, self._opening = bundle, artifact, opening
        with inside_engine():
            engine = opening()
        self._engine: Engine | None = engine
        self._seen = self._stats()
        self.name, self.precision = engine.name, engine.precision
        self.pools: bool = getattr(engine, "pools", False)  # of a graph of somebody else's, see `edgebert.pooling`
        self._generation = _generation
        self._lock = threading.Lock()
        renew(self)

    def embed(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """See `Engine.embed`."""
        engine = self._engine if self._generation == _generation else self._reopened()
        if engine is None:
            raise EngineError("the model is closed: load it again")
        with inside_engine():
            return engine.embed(input_ids, attention_mask)

    def answer(self, input_ids: Ids, attention_mask: Ids, token_types: Ids | None = None) -> tuple[Vectors, ...]:
        """See `Engine.answer`."""
        engine = self._engine if self._generation == _generation else self._reopened()
        if engine is None:
            raise EngineError("the model is closed: load it again")
        with inside_engine():
            return engine.answer(input_ids, attention_mask, token_types)

    def close(self) -> None:
        """See `Engine.close`. In a child that never called it there is nothing to free."""
        engine, self._engine = self._engine, None
        if engine is not None and self._generation == _generation:
            engine.close()

    def renew_after_fork(self) -> None:
        """Abandons the parent's engine: a reference to it is never given back, not even when the program ends."""
        self._lock = threading.Lock()
        if self._engine is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))

    def _reopened(self) -> Engine | None:
        with self._lock:
            if self._generation != _generation and self._engine is not None:
                self._require_same()
                with inside_engine():
                    self._engine = self._opening()
            self._generation = _generation
            return self._engine

    def _stats(self) -> list[tuple[int, int]]:
        """Sizes and times of the files of a folder without manifest, which has no hashes."""
        if self._bundle.is_sealed:
            return []
        names = self._bundle.manifest.artifacts[self._artifact].files
        found = [self._bundle.path(name).stat() for name in names]
        return [(one.st_size, one.st_mtime_ns) for one in found]

    def _require_same(self) -> None:
        """Raises EngineError unless the files are what the manifest that was loaded says."""
        known = self._bundle.manifest.files
        for name in self._bundle.manifest.artifacts[self._artifact].files:
            path = self._bundle.path(name)
            try:
                same = sha256(path) == known[name].sha256 if name in known else self._stats() == self._seen
            except OSError as problem:
                raise EngineError(
                    f"this process was forked and must open {path} anew, which cannot be read ({problem.strerror}): "
                    "load the model in the child"
                ) from None
            if not same:
                raise EngineError(
                    f"this process was forked and must open {path} anew, which was changed since the parent loaded it: "
                    "load the model in the child"
                )


def _before() -> None:
    _gate.shut()
    if _renewed:
        _wait_for_sleep()
        _told.begin()  # else tokenizers may print a warning in the child


def _in_parent() -> None:
    _told.end()
    _gate.open()


def _in_child() -> None:
    global _gate, _told, _generation
    _gate, _told = _Gate(), _Told()
    _generation += 1
    if _renewed:  # its pool has no threads here: with "true" it would wait for them for ever
        os.environ[_TOKENIZERS] = "false"
    if "onnxruntime" in sys.modules:
        _end_without_destructors()
    for thing in list(_renewed):
        thing.renew_after_fork()


def _wait_for_sleep() -> None:
    """Returns when every other thread sleeps, so that none of an engine's is about to give a lock back (Linux)."""
    end = time.monotonic() + _SETTLING
    while time.monotonic() < end and _is_another_running():
        time.sleep(0.001)


def _is_another_running() -> bool:
    own = str(threading.get_native_id())
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state = (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
            if task.name != own and state == "R":
                return True
    return False


def _end_without_destructors() -> None:
    """Has this process end as soon as Python has, with its exit status and C streams written (glibc).

    ONNX Runtime starts a thread when it is imported and joins it in a destructor at exit: in a child, which does not
    have it, `sys.exit` would hang or abort.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # what is registered last runs first
        libc.on_exit(libc._exit, None)
        libc.__cxa_atexit(libc.fflush, None, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
