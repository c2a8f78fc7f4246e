"""The way back: a bundle as the plain Hugging Face folder it also is."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.card import model_card
from edgebert.errors import BundleError
from edgebert.files import new_folder
from edgebert.manifest import MANIFEST_NAME


def export(bundle: Bundle, out: Path) -> None:
    """Writes the model files of `bundle` to the folder `out`, without the manifest and the golden cases.

    Raises: BundleError when a file is damaged, there are no weights (a package), or `out` exists.
    """
    manifest = bundle.manifest
    if not bundle.is_sealed:
        raise BundleError(f"{bundle.source} is a plain folder already: it has no {MANIFEST_NAME}")
    if not any(name.endswith((".safetensors", ".bin")) and "/" not in name for name in manifest.files):
        raise BundleError(f"{bundle.source} has no weights, as a package has none: export the bundle it was built from")
    bundle.check()
    golden = set(manifest.golden.names) if manifest.golden else set()
    with new_folder(out) as partial:
        for name in sorted(set(manifest.files) - golden):
            path = Bundle.inside(partial, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path(name), path)
        (partial / "README.md").write_text(model_card(manifest, out.name, partial, plain=True), encoding="utf-8")
