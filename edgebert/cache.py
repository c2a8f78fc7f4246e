"""Where this machine keeps what it found out or computed once. Everything here can be deleted at any time.

The folder is `EDGEBERT_CACHE` when that is set, else the platform's own: `$XDG_CACHE_HOME/edgebert` or
`~/.cache/edgebert`, `~/Library/Caches/edgebert` on macOS, `%LOCALAPPDATA%\\edgebert` on Windows.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def switched_off(variable: str) -> bool:
    """Whether the user's environment switches off what `variable` names, such as EDGEBERT_TUNE=0."""
    return os.environ.get(variable, "").lower() in ("0", "off", "false", "no")


def cache_folder(part: str) -> Path:
    """The cache's folder for `part` ("stamps", "packages", "teachers", "runs", "fits"); it is not created."""
    return _root() / part


def _root() -> Path:
    if stated := os.environ.get("EDGEBERT_CACHE"):
        return Path(stated).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "edgebert"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "edgebert"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgebert"
