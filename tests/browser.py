"""A page as headless Chromium shows it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tools import missing_tool

_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
          "--disable-background-networking", "--disable-component-update", "--disable-sync",
          "--virtual-time-budget=10000", "--enable-logging=stderr", "--window-size=1200,4200")  # fmt: skip


def chromium() -> str:
    """The browser's path. Skips the test where there is none; fails it where the tools have to be there."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing_tool("Chromium is not installed: apt-get install chromium")
    return path


def shown(page: Path, work: Path) -> tuple[str, str]:
    """The document after its scripts ran, and the browser's log. `work`: a fresh folder for the browser's files."""
    command = [chromium(), *_FLAGS, f"--user-data-dir={work}", "--dump-dom", page.absolute().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=240, check=True)
    return done.stdout, done.stderr
