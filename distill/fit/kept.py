"""Facts kept as JSON, so that the same fit does not find them out again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from edgebert.errors import EdgeBertError
from edgebert.files import new_file
from edgebert.schema import parse, plain

T = TypeVar("T")


def read_kept(path: Path, kind: type[T]) -> T | None:
    """The dataclass in the JSON file `path`; None where there is none or it cannot be read."""
    with contextlib.suppress(OSError, ValueError, EdgeBertError):
        return parse(kind, json.loads(path.read_text(encoding="utf-8")), where=str(path), error=EdgeBertError)
    return None


def keep(path: Path, facts: Any) -> None:
    """Writes the dataclass `facts` to `path`, whole or not at all."""
    assert dataclasses.is_dataclass(facts)
    with new_file(path, replace=True) as partial:
        partial.write_text(json.dumps(plain(facts)), encoding="utf-8")
