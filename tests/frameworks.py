"""What the tests of the adapters share: the variant that all of them run, and texts."""

from __future__ import annotations

from typing import Any

from helpers import sentences

ENGINE: dict[str, Any] = {"engine": "onnxruntime", "precision": "int8", "threads": 1}
TEXTS = sentences(40)
QUERY = "the quick dog runs under the house"
