"""Where a model comes from: a folder, a file, EdgeBERT itself, or the Hugging Face Hub.

The Hub's own variables (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT) mean what they mean elsewhere.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edgebert.errors import BundleError
from edgebert.manifest import MANIFEST_NAME, PACKAGE_SUFFIX

DEFAULT_MODEL = "edgebert-mini-en"
_SHIPPED = Path(__file__).parent / "default_models"

_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DESCRIPTION = ("*.json", "*.txt", "*.model", "*.md")
_ELSEWHERE = ("onnx/*", "openvino/*", "coreml/*", "*checkpoint*")
_SAFETENSORS = ("*.safetensors", "*.safetensors.index.json")
_PICKLES = ("pytorch_model*.bin", "*/pytorch_model.bin")


# Of a repository's descriptions (a folder) and the names of all its files: what to download in place of the weights.
Pick = Callable[[Path, Sequence[str]], tuple[str, ...]]


def resolve(name_or_path: str | Path, *, revision: str | None = None, pick: Pick | None = None) -> Path:
    """The local path of a model: `name_or_path` itself when it exists, else the package of the shipped model of that
    name (see `shipped_models`), else a snapshot of that Hub id.

    pick: chooses the files of a repository that is no bundle; where it chooses none, the weights are downloaded.

    Raises: BundleError when there is neither, or the Hub cannot be reached and holds no copy in its cache.
    """
    if not isinstance(name_or_path, str | Path) or not str(name_or_path).strip():
        raise BundleError(f"{name_or_path!r} is no model: a path or a Hub id is needed")
    try:
        path = Path(name_or_path).expanduser()
        there = path.exists()
    except (RuntimeError, OSError, ValueError) as problem:  # an unknown user, a name that is too long
        raise BundleError(f"{str(name_or_path)[:200]!r} is no path: {problem}") from None
    if there:
        if revision is not None:
            raise BundleError(f"revision {revision!r} goes with a Hub id, and {name_or_path} is a local path")
        return path
    name = str(name_or_path)
    if name in shipped_models():
        if revision is not None:
            raise BundleError(f"revision {revision!r} goes with a Hub id, and {name} comes with EdgeBERT")
        return _SHIPPED / f"{name}{PACKAGE_SUFFIX}"
    if not _REPO_ID.fullmatch(name) or name.startswith(".") or name.endswith(PACKAGE_SUFFIX):
        raise BundleError(f"no such file or folder: {name}")
    return _snapshot(name, revision, pick)


def shipped_models() -> list[str]:
    """The names of the models that come with EdgeBERT and open without a download, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob(f"*{PACKAGE_SUFFIX}"))


def _snapshot(repo_id: str, revision: str | None, pick: Pick | None) -> Path:
    """Configuration first, then the rest: a whole bundle, else what `pick` chooses, else safetensors, else pickles.

    Other runtimes' files in the same repository are not downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    def fetch(allow: tuple[str, ...] | None, ignore: tuple[str, ...] = ()) -> Path:
        return Path(
            snapshot_download(
                repo_id, revision=revision, allow_patterns=list(allow) if allow else None, ignore_patterns=list(ignore)
            )
        )

    try:
        folder = fetch(_DESCRIPTION, _ELSEWHERE)
        if (folder / MANIFEST_NAME).exists():
            return fetch(None)
        if pick is not None and (chosen := pick(folder, _file_names(repo_id, folder))):
            return fetch(tuple(map(_literally, chosen)))
        folder = fetch(_DESCRIPTION + _SAFETENSORS, _ELSEWHERE)
        if not any(folder.glob("*.safetensors")):
            folder = fetch(_DESCRIPTION + _PICKLES, _ELSEWHERE)
        return folder
    except (OSError, HFValidationError) as problem:  # the Hub's own errors are OSErrors
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise BundleError(
            f"{repo_id!r} is neither a local path nor a model that the Hub gives here ({reason}); "
            "check the name, the network and HF_HUB_OFFLINE, or give a folder"
        ) from None


def _file_names(repo_id: str, folder: Path) -> list[str]:
    """All files of the snapshot that `folder` belongs to; where the Hub cannot be asked, those that are here."""
    from huggingface_hub import HfApi

    with contextlib.suppress(OSError, *_network_faults()):
        return list(HfApi().list_repo_files(repo_id, revision=folder.name))  # a snapshot is named after its commit
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _network_faults() -> list[type[Exception]]:
    """What the Hub's client lets through of the library it speaks HTTP with, which changed more than once."""
    return [sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules]


def _literally(name: str) -> str:
    """A pattern that fits `name` alone."""
    return re.sub(r"([*?[])", r"[\1]", name)
