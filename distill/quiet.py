"""Transformers without its bars and reports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers' bars and load reports off the screen: what matters of them is checked and raised here."""
    from transformers.utils import logging

    quiet: Any = logging
    level, bars = quiet.get_verbosity(), quiet.is_progress_bar_enabled()
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    try:
        yield
    finally:
        quiet.set_verbosity(level)
        if bars:
            quiet.enable_progress_bar()
