"""A bundle: a folder with a model in every form, and the manifest that says what it is.

`Bundle.from_pretrained` is the one way in: a bundle, a package, a Hugging Face folder or a Hub id. A stage of the
workshop is a function `bundle -> new bundle in a new folder` (`edgebert.files.new_folder`), closed by `seal`.
"""

from __future__ import annotations

import dataclasses
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgebert.errors import BundleError, EngineError
from edgebert.files import sha256
from edgebert.hub import resolve
from edgebert.manifest import MANIFEST_NAME, FileFact, Manifest, manifest_bytes, read_manifest
from edgebert.once import once

Written = tuple[int, int]  # when in ns, and how many bytes; both -1 of a file that is not there
_TEXT = ("tokenizer.json", "config.json")
_DENSE = ("config.json", "model.safetensors")  # in the folder of a Dense module


@dataclass(frozen=True)
class Bundle:
    """A model folder and the facts about it.

    `source`: the name it was asked for by (path or Hub id), for messages and lineage.
    """

    root: Path
    manifest: Manifest
    source: str

    @classmethod
    def open(cls, root: str | Path) -> Bundle:
        """The bundle in the folder `root`, its manifest read and its files' presence and sizes checked.

        Contents are hashed by `check`, which reads every byte.
        Raises: BundleError when it is no bundle, or files are missing, of another size or outside the folder.
        """
        root = Path(root)
        bundle = cls(root, read_manifest(root), str(root))
        for name, fact in bundle.manifest.files.items():
            if (size := _size(bundle.path(name))) is None:
                raise BundleError(f"{root}: the file {name} is missing")
            if size != fact.size:
                raise BundleError(f"{root}: {name} has {size} bytes and must have {fact.size}")
        bundle._check_references()
        return bundle

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str | None = None) -> Bundle:
        """The model `name_or_path`: a bundle, a package, a Hugging Face folder or a Hub id at `revision`.

        A Hugging Face folder gives a bundle without artifacts, its facts read from the sentence-transformers files.
        Raises: BundleError, see `resolve`, `open` and `read_pretrained`.
        """
        path = resolve(name_or_path, revision=revision)
        if path.is_file():
            from edgebert.package import unpack

            path = unpack(path)
        bundle = cls.open(path) if (path / MANIFEST_NAME).exists() else cls._of_pretrained(path)
        # A local folder's own name, not where it lies: bundles travel.
        source = Path(name_or_path).resolve().name if Path(name_or_path).exists() else str(name_or_path)
        lineage = {"source": source, **bundle.manifest.lineage}
        if revision is not None:
            lineage["revision"] = revision
        manifest = bundle.manifest if bundle.is_sealed else dataclasses.replace(bundle.manifest, lineage=lineage)
        return cls(path, manifest, str(name_or_path))

    @classmethod
    def _of_pretrained(cls, path: Path) -> Bundle:
        from edgebert.pretrained import read_pretrained  # not above: a bundle needs nothing of it

        return cls(path, read_pretrained(path), str(path))

    @once
    def touched(self) -> tuple[Written, ...]:
        """`times` when this was first asked, which is when the bundle is opened to run."""
        return self.times()

    def times(self) -> tuple[Written, ...]:
        """When each file of the manifest was last written, by the files' names; without a manifest, each file that an
        artifact runs by."""
        return tuple(map(self._written, self._dated()))

    def require_unchanged(self, artifact: str) -> None:
        """Raises EngineError when what `artifact` runs by is no longer what `touched` says; other files may change."""
        then = dict(zip(self._dated(), self.touched, strict=True))
        if any(self._written(name) != then[name] for name in self._runs_by(artifact) if name in then):
            raise EngineError(f"{self.source} was changed or removed while it was in use: load it again")

    def _dated(self) -> list[str]:
        named = {name for artifact in self.manifest.artifacts for name in self._runs_by(artifact)}
        return sorted(self.manifest.files or named)

    def _runs_by(self, artifact: str) -> tuple[str, ...]:
        """The files that are read to run `artifact`, and those that may be."""
        dense = (f"{folder}/{name}" for folder in self.manifest.dense for name in _DENSE)
        return (*self.manifest.artifacts[artifact].files, *_TEXT, *dense)

    def _written(self, name: str) -> Written:
        try:
            found = self.path(name).stat()
        except (OSError, ValueError):
            return (-1, -1)
        return (found.st_mtime_ns, found.st_size)

    @property
    def is_sealed(self) -> bool:
        """Whether it has a manifest on disk, so that its files can be checked."""
        return bool(self.manifest.files)

    @property
    def is_foreign(self) -> bool:
        """Whether its artifacts are files that others exported, which nothing here proves (`edgebert.foreign`)."""
        return not self.is_sealed and bool(self.manifest.artifacts)

    def path(self, name: str) -> Path:
        """The path of the bundle's file `name`, a relative name with forward slashes.

        Raises: BundleError when the name leads outside the folder.
        """
        return self.inside(self.root, name)

    @staticmethod
    def inside(root: Path, name: str) -> Path:
        """The path of `name` below `root`.

        Raises: BundleError when it leads outside.
        """
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name or not pure.parts:
            raise BundleError(f"{root}: the file name {name!r} leads outside the bundle")
        return root / pure

    def check(self) -> None:
        """Hashes every file and looks for ones the manifest does not name.

        Raises: BundleError naming every file that was changed, is missing or is extra.
        """
        self.touched  # noqa: B018 - noted before a byte is read: what replaces a file later is not what was proven
        wrong = []
        for name, fact in self.manifest.files.items():
            path = self.path(name)
            if not path.is_file():
                wrong.append(f"{name} is missing")
            elif sha256(path) != fact.sha256:
                wrong.append(f"{name} was changed")
        wrong += [f"{name} is extra" for name in _names(self.root) if name not in self.manifest.files]
        if wrong:
            raise BundleError(f"{self.root} is damaged: {'; '.join(wrong)}")

    def _check_references(self) -> None:
        for name, artifact in self.manifest.artifacts.items():
            if not artifact.files:
                raise BundleError(f"{self.root}: the manifest names no file for the artifact {name!r}")
        named = [name for artifact in self.manifest.artifacts.values() for name in artifact.files]
        if self.manifest.golden:
            named += self.manifest.golden.names
        for name in named:
            if name not in self.manifest.files:
                raise BundleError(f"{self.root}: the manifest uses {name}, which is not among its files")


def is_bundle(name_or_path: str | Path) -> bool:
    """Whether a folder of that name has a manifest."""
    try:
        return (Path(name_or_path) / MANIFEST_NAME).is_file()
    except (TypeError, ValueError, OSError):
        return False


def seal(folder: Path, manifest: Manifest) -> Bundle:
    """The bundle in `folder`, after writing `manifest` with the size and hash of every file that lies there."""
    files = {name: FileFact(sha256(folder / name), (folder / name).stat().st_size) for name in _names(folder)}
    manifest = dataclasses.replace(manifest, files=files)
    (folder / MANIFEST_NAME).write_bytes(manifest_bytes(manifest))
    return Bundle.open(folder)


def _size(path: Path) -> int | None:
    """The size of a file in bytes, None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _names(folder: Path) -> list[str]:
    """All files below `folder` but the manifest, sorted, with forward slashes.

    Hidden ones are left out: nothing reads them, and git, the Hub and file managers put theirs everywhere.
    """
    names = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file() or p.is_symlink())
    return sorted(
        n.as_posix() for n in names if n.as_posix() != MANIFEST_NAME and not any(p.startswith(".") for p in n.parts)
    )
