"""The report of a quantization as one HTML page."""

from __future__ import annotations

from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.quantize.stage import Findings, Options


def check_report(path: Path) -> None:
    """See `write_report`."""
    raise NotImplementedError


def write_report(path: Path, bundle: Bundle, findings: Findings, options: Options) -> None:
    """Being written."""
    raise NotImplementedError
