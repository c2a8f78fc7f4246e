"""Programs that some tests need beside Python's packages, and what the processor can do."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NoReturn

import pytest


def missing_tool(message: str) -> NoReturn:
    """Skips the test, or fails it where EDGEBERT_REQUIRE_TOOLS is 1. message: what is missing, how to install it."""
    if os.environ.get("EDGEBERT_REQUIRE_TOOLS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def has_vnni() -> bool:
    """Whether this processor adds products of int8 in int32; every arm64 does. Without it weights that are not safe
    saturate (`edgebert.quantize.saturation`)."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
