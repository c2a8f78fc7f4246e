"""Programs that some tests need beside Python's packages."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing_tool(message: str) -> NoReturn:
    """Skips the test, or fails it where EDGEBERT_REQUIRE_TOOLS is 1. message: what is missing, how to install it."""
    if os.environ.get("EDGEBERT_REQUIRE_TOOLS") == "1":
        pytest.fail(message)
    pytest.skip(message)
