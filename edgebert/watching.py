"""Hot reload: an encoder over a path, which takes up a new bundle there without losing a call.

What is looked at is cheap: the names, sizes and times of the files. What lies there unchanged at two looks is taken for
written; when its manifest (or the package's bytes) is another one, it is hashed, opened and proven beside the old one,
and takes its place only then. Calls that run meanwhile end on the encoder that they began with.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from edgebert import forking
from edgebert.bundle import Bundle
from edgebert.compact import Compact
from edgebert.embedder import Embedder
from edgebert.encode_types import Texts
from edgebert.encoding import Asked, Encoding
from edgebert.engines import ENGINES
from edgebert.engines.base import Vectors
from edgebert.errors import BundleError, EdgeBertError, EngineError, RecipeError
from edgebert.files import sha256
from edgebert.loading import check_options, load_bundle
from edgebert.manifest import MANIFEST_NAME

logger = logging.getLogger(__name__)

Look = tuple[object, ...]
_FAULTS = (EdgeBertError, OSError, MemoryError)  # OSError: the files go away meanwhile


def watch(
    path: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    interval: float | None = 2.0,
) -> Watched:
    """An encoder of the bundle folder, package or link `path` that follows what is put there.

    engine, precision, threads: as in `load`. interval: seconds between two looks; with None `check` looks.
    A change is taken up at the second look that finds it, so after 2 to 4 seconds by default.
    Raises: as `load`, for what lies there now; BundleError for what is no local path; RecipeError.
    """
    check_options(("auto", *ENGINES), engine, precision, threads)
    if interval is not None and (
        isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 < interval <= 86400
    ):
        raise RecipeError(f"interval is {interval!r}; it must be seconds, more than 0 and at most 86400, or None")
    return Watched(_local(path), Options(engine, precision, threads), interval)


@dataclass(frozen=True)
class Options:
    """What every load of the path is asked for, see `load`."""

    engine: str
    precision: str
    threads: int | None

    def open(self, path: Path, dimension: int | None) -> Embedder:
        """What lies at `path`, every byte checked, whole in memory. dimension: the width that its vectors must have.

        Raises: BundleError, EngineError, OSError.
        """
        bundle = Bundle.from_pretrained(_real(path))
        if not bundle.is_sealed:
            raise BundleError(f"{path} is no bundle: it has no {MANIFEST_NAME}")
        bundle.check()
        if dimension not in (None, bundle.manifest.dimension):
            raise BundleError(
                f"{path} gives vectors of width {bundle.manifest.dimension} and gave {dimension}: "
                "they cannot be compared; watch another path"
            )
        encoder: Embedder = load_bundle(
            bundle, engine=self.engine, precision=self.precision, threads=self.threads, task="embedding"
        )
        try:
            encoder.open_all()  # the files may be replaced before a call needs them
        except BaseException:
            encoder.close()
            raise
        return encoder


@dataclass
class _Serving:
    """An encoder, how many calls are in it, and whether another one has taken its place."""

    encoder: Embedder
    calls: int = 0
    retired: bool = False


class Watched(Encoding):
    """Encodes like an `Embedder`, by the newest bundle at `path` that is whole and right; made by `edgebert.watch`.

    `generation`: 1, and one more for every bundle that took the place of another. `problem`: why what lies at the path
    is not taken, "" when it serves; every new problem is logged once, as a warning. Calls may come from several
    threads.
    """

    _lock: threading.Lock
    _checking: threading.Lock
    _stop: threading.Event
    _thread: threading.Thread | None

    def __init__(self, path: Path, options: Options, interval: float | None) -> None:
        super().__init__()
        self.path, self.generation, self.problem = path, 1, ""
        self._options, self._interval = options, interval
        self._settled = _look(path)
        self._pending = self._settled
        self._serving: _Serving | None = _Serving(options.open(path, None))
        identity = _identity(path)
        self._identity = identity if _look(path) == self._settled else ""  # it changed meanwhile: decide again
        self._dimension = self._serving.encoder.dimension
        self.renew_after_fork()
        forking.renew(self)
        self._start()

    @property
    def bundle(self) -> Bundle:
        """The bundle that serves now."""
        return self._now().encoder.bundle

    @property
    def runs(self) -> str:
        """Engine and precision of the bundle that serves now, see `Embedder.runs`."""
        return self._now().encoder.runs

    @property
    def dimension(self) -> int:
        """The width of the vectors; it never changes."""
        return self._now().encoder.dimension

    @property
    def max_length(self) -> int:
        """The longest input in tokens of the bundle that serves now."""
        return self._now().encoder.max_length

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts of the bundle that serves now."""
        return self._now().encoder.prompts

    def _encoded(self, sentences: Texts, asked: Asked) -> Vectors | Compact:
        """The whole call is by one bundle."""
        with self._in_use() as encoder:
            return encoder._encoded(sentences, asked)

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Vectors:
        """See `Embedder.similarity`."""
        with self._in_use() as encoder:
            return encoder.similarity(a, b)

    def check(self) -> bool:
        """Looks at the path now; True when this look took up a new bundle, which the look before has to have seen.

        Nothing that lies there is an error: see `problem`.
        Raises: EngineError when it is closed.
        """
        with self._checking:
            self._now()
            look = _look(self.path)
            if look == self._settled:
                return False
            if look != self._pending:  # it may still be written
                self._pending = look
                return False
            self._settled = look
            return self._decide(look)

    def close(self) -> None:
        """Ends the looking and frees the model after the calls that are in it; calls afterwards raise EngineError."""
        self._stop.set()
        self._swap(None)
        self.end_threads()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Watched({str(self.path)!r}, generation={self.generation}, problem={self.problem!r})"

    def renew_after_fork(self) -> None:
        """See `forking.Renewable`: calls of threads that did not come along are not counted; looking begins again."""
        super().renew_after_fork()
        self._lock, self._checking, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._thread = None
        if self._serving is not None:
            self._serving.calls = 0

    def _decide(self, look: Look) -> bool:
        """Takes up what `look` saw, or says in `problem` why not."""
        try:
            identity = _identity(self.path)
            if identity == self._identity:
                _require_whole(self.path)
                self.problem = ""
                return False
            encoder = self._options.open(self.path, self._dimension)
            if _look(self.path) != look:
                encoder.close()
                self._settled = self._pending = ()  # the next two looks decide again
                return False
        except Exception as problem:  # whatever it is: what serves goes on, and so does the looking
            expected, name = isinstance(problem, _FAULTS), type(problem).__name__
            reason = (str(problem) or name) if expected else f"{name}: {problem}"
            told = f"{reason}; what was loaded before keeps serving"
            logger.warning("%s is not taken up: %s", self.path, told, exc_info=not expected)
            self.problem = told
            return False
        if not self._swap(_Serving(encoder)):
            encoder.close()  # it was closed meanwhile
            return False
        self._identity, self.problem, self.generation = identity, "", self.generation + 1
        logger.info("%s: a new bundle serves, generation %d", self.path, self.generation)
        return True

    def _swap(self, new: _Serving | None) -> bool:
        """Puts `new` in the place of what serves, which is freed when no call is in it; False when it was closed."""
        with self._lock:
            old = self._serving
            if old is None:
                return False
            self._serving, old.retired = new, True
            unused = old.calls == 0
        if unused:
            old.encoder.close()
        return True

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[Embedder]:
        if self._thread is None and self._interval is not None:  # in a forked child
            self._start()
        with self._lock:
            serving = self._now()
            serving.calls += 1
        try:
            yield serving.encoder
        finally:
            with self._lock:
                serving.calls -= 1
                last = serving.retired and serving.calls == 0
            if last:
                serving.encoder.close()

    def _now(self) -> _Serving:
        serving = self._serving
        if serving is None:
            raise EngineError(f"this encoder of {self.path} is closed: watch the path again")
        return serving

    def _start(self) -> None:
        with self._checking:
            if self._interval is not None and self._thread is None and self._serving is not None:
                arguments = (weakref.ref(self), self._stop, self._interval)
                self._thread = threading.Thread(target=_poll, args=arguments, name="edgebert-watch", daemon=True)
                self._thread.start()
                _polled.add(self)


def _poll(watched: weakref.ref[Watched], stop: threading.Event, interval: float) -> None:
    """Looks every `interval` seconds until `stop` is set or nobody holds the encoder any more."""
    while not stop.wait(interval):
        one = watched()
        if one is None:
            return
        with contextlib.suppress(EngineError):  # closed between
            one.check()
        del one


_polled: weakref.WeakSet[Watched] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """At the program's end: a thread inside an engine while Python is taken down would crash."""
    for one in list(_polled):
        one.close()


def _local(path: object) -> Path:
    """The absolute path of what is there.

    Raises: BundleError when there is nothing.
    """
    try:
        if isinstance(path, str | Path) and (there := Path(path).expanduser()).exists():
            return there.absolute()
    except (RuntimeError, OSError, ValueError) as problem:  # an unknown user, a name that is too long
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise BundleError(f"{str(path)[:200]!r} is no path: {reason}") from None
    raise BundleError(f"no such file or folder: {path}; only a local path can be watched")


def _real(path: Path) -> Path:
    """Where `path` leads now.

    Raises: OSError when that is nothing.
    """
    try:
        return path.resolve(strict=True)
    except RuntimeError:  # a link to itself, before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def _look(path: Path) -> Look:
    """Where `path` leads and the names, sizes and times of what lies there; what is wrong when that is nothing."""
    try:
        real = _real(path)
        if real.is_file():
            return (str(real), _facts(real))
        files = sorted(p for p in real.rglob("*") if p.is_file())
        return (str(real), real.stat().st_ino, *((str(p), _facts(p)) for p in files))
    except OSError as problem:
        return (str(problem),)


def _facts(path: Path) -> Look:
    facts = path.stat()
    return (facts.st_size, facts.st_mtime_ns, facts.st_ino)


def _identity(path: Path) -> str:
    """The hash of the package, or of the folder's manifest, which holds the hash of every file.

    Raises: OSError when it cannot be read.
    """
    real = _real(path)
    if real.is_file():
        return sha256(real)
    return hashlib.sha256((real / MANIFEST_NAME).read_bytes()).hexdigest()


def _require_whole(path: Path) -> None:
    """Raises BundleError when files of the folder are not as its manifest says; a package's hash is that of all."""
    if (real := _real(path)).is_dir():
        Bundle.open(real).check()
