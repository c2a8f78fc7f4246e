"""Where a model comes from: a folder, a file, or the Hugging Face Hub.

The Hub's own variables (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT) mean what they mean elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgebert.errors import BundleError
from edgebert.manifest import MANIFEST_NAME

_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DESCRIPTION = ("*.json", "*.txt", "*.model", "*.md")
_ELSEWHERE = ("onnx/*", "openvino/*", "coreml/*", "*checkpoint*")
_SAFETENSORS = ("*.safetensors", "*.safetensors.index.json")
_PICKLES = ("pytorch_model*.bin", "*/pytorch_model.bin")


def resolve(name_or_path: str | Path, *, revision: str | None = None) -> Path:
    """The local path of a model: `name_or_path` itself when it exists, else a snapshot of that Hub id.

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
            raise BundleError(f"--revision {revision!r} goes with a Hub id, and {name_or_path} is a local path")
        return path
    name = str(name_or_path)
    if not _REPO_ID.fullmatch(name) or name.startswith(".") or name.endswith(".edgebert"):
        raise BundleError(f"no such file or folder: {name}")
    return _snapshot(name, revision)


def _snapshot(repo_id: str, revision: str | None) -> Path:
    """Configuration first, then the weights: a whole bundle, else safetensors, else pickles.

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
