"""The training text: read once as a stream, cleaned, counted, and kept on disk under a key of what went in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebert.cache import cache_folder
from edgebert.distill.mix import Mix, mixed
from edgebert.distill.ragged import Ragged, RaggedWriter
from edgebert.errors import BudgetError, BundleError, DataError
from edgebert.files import disk_errors, new_folder, sha256
from edgebert.texts import read_texts

_FACTS = "corpus.json"
_GZIP_RATIO = 5  # English text unpacks to three to four times its gzip size


@dataclass(frozen=True)
class CorpusCounts:
    """Lines read, left out as blank or as repeats of an earlier line, and kept."""

    read: int
    blank: int
    duplicate: int
    kept: int


class Corpus:
    """Distinct lines of text on disk. `texts[i]` is line i; `fingerprint` is the SHA-256 of all that was kept."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        self.counts = CorpusCounts(**facts["counts"])
        self.fingerprint: str = facts["fingerprint"]
        self._bytes = Ragged(folder / "text")

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, row: int) -> str:
        return self._bytes[row].tobytes().decode("utf-8")


def open_corpus(paths: Sequence[str | Path], *, column: str | None = None, mix: Mix | None = None) -> Corpus:
    """The corpus of `paths`, read now or taken from the cache when the same files were read before.

    mix: which texts of each source; None takes all.
    Raises: DataError when a file cannot be read as text or no usable line is found; BudgetError when the disk is too
    small for a copy.
    """
    require_disk(cache_folder("corpora"), _unpacked_size(paths), "the corpus")
    lines = read_texts(paths, column=column, keep_blank=True) if mix is None else mixed(paths, mix, column=column)
    source = ", ".join(map(str, paths))
    if any(str(p) == "-" or _is_stream(Path(p)) for p in paths):
        return Corpus(_keep_stream(lines, source))
    folder = cache_folder("corpora") / _key(paths, column, mix)
    if folder.exists() and not _is_whole(folder):
        shutil.rmtree(folder)
    if not folder.exists():
        try:
            with new_folder(folder) as partial:
                _write(partial, lines, source)
        except BundleError:
            if not folder.exists():  # else another process was faster
                raise
    return Corpus(folder)


def _keep_stream(lines: Iterable[str], source: str) -> Path:
    """The folder of a corpus of which only reading tells what it holds: named by that, never one that is in use."""
    home = cache_folder("corpora")
    with disk_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".stream.", suffix=".partial", dir=home) as temporary:
            partial = Path(temporary) / "corpus"
            partial.mkdir()
            _write(partial, lines, source)
            folder = home / f"stream-{sha256(partial / _FACTS)[:32]}"
            try:
                partial.rename(folder)
            except OSError:
                if not folder.exists():  # else the same text came before
                    raise
    return folder


def require_disk(
    folder: Path, needed: int, what: str, *, instead: str = "use fewer sentences (--max-sentences)"
) -> None:
    """Raises BudgetError unless the disk that holds `folder` has `needed` bytes free, and a tenth more.

    instead: what else would do, in words.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed * 1.1:
        raise BudgetError(
            f"{what} needs {needed / 1e6:.2f} MB of disk in {folder}, and {free / 1e6:.2f} MB are free: free some, "
            f"set EDGEBERT_CACHE to a larger disk, or {instead}"
        )


class Seen:
    """A set of 64-bit keys in sorted arrays: 8 bytes a key, so that ten million lines take 80 MB.

    New keys gather in a Python set; full sets become sorted runs, and runs of like size are merged.
    """

    def __init__(self, *, buffer: int = 1 << 16) -> None:
        self._buffer = buffer
        self._fresh: set[int] = set()
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, key: int) -> bool:
        """Whether `key` is new; it is in the set afterwards."""
        if key in self._fresh or any(self._holds(run, key) for run in self._runs):
            return False
        self._fresh.add(key)
        if len(self._fresh) >= self._buffer:
            self._runs.append(np.sort(np.fromiter(self._fresh, np.uint64, len(self._fresh))))
            self._fresh.clear()
            while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
                last = self._runs.pop()
                self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")
        return True

    @staticmethod
    def _holds(run: NDArray[np.uint64], key: int) -> bool:
        at = int(np.searchsorted(run, np.uint64(key)))
        return at < len(run) and int(run[at]) == key


def _write(folder: Path, lines: Iterable[str], source: str) -> None:
    seen, whole = Seen(), hashlib.sha256()
    read = blank = duplicate = 0
    with RaggedWriter(folder / "text", np.uint8) as texts:
        for text in _stripped(lines):
            read += 1
            if not text:
                blank += 1
                continue
            data = text.encode("utf-8", "replace")
            if not seen.add(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")):
                duplicate += 1
                continue
            whole.update(len(data).to_bytes(8, "little") + data)
            texts.append(np.frombuffer(data, np.uint8))
    if not texts.rows:
        raise DataError(f"{source}: no usable line: {read} lines were read and {blank} of them are blank")
    counts = CorpusCounts(read=read, blank=blank, duplicate=duplicate, kept=texts.rows)
    facts = {"counts": dataclasses.asdict(counts), "fingerprint": whole.hexdigest()}
    (folder / _FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")


def _stripped(lines: Iterable[str]) -> Iterator[str]:
    return (" ".join(line.split()) for line in lines)


def _is_stream(path: Path) -> bool:
    """Whether it is a pipe or the like, which can be read once."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _is_whole(folder: Path) -> bool:
    """Whether a kept corpus can be read, as it cannot after a power cut."""
    try:
        Corpus(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _key(paths: Sequence[str | Path], column: str | None, mix: Mix | None) -> str:
    """A key that changes with the files' names, sizes and times: reading gigabytes again only to hash them is dear."""
    facts = []
    for path in map(Path, paths):
        if path.is_dir():
            raise DataError(f"{path} is a folder; a file is needed")
        if not path.is_file():
            raise DataError(f"no such file: {path}")
        status = path.stat()
        facts.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    drawn = [] if mix is None else [dataclasses.asdict(mix)]
    return hashlib.sha256(json.dumps([facts, column, *drawn], sort_keys=True).encode()).hexdigest()[:32]


def _unpacked_size(paths: Sequence[str | Path]) -> int:
    sizes = [(p.stat().st_size, p.suffix.lower() == ".gz") for p in map(Path, paths) if p.is_file()]
    return sum(size * (_GZIP_RATIO if packed else 1) for size, packed in sizes)
