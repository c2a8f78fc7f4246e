"""The plan that was measured on this machine (`edgebert.tuning`), in the user's cache.

It is keyed by the bundle, the engine's version, the processor and the number of threads.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.engines.base import Hint
from edgebert.errors import EdgeBertError
from edgebert.files import new_file
from edgebert.plan import Plan
from edgebert.schema import parse, plain
from edgebert.stamps import machine_key

_VERSION = 1  # one more whenever more or other things are measured
_NO_CACHE = (OSError, RuntimeError, EdgeBertError, ValueError)


def read_plan(bundle: Bundle, artifact: str, hint: Hint, threads: int) -> Plan | None:
    """What was measured here before, None when nothing was or it cannot be read."""
    try:
        data = json.loads(_path(bundle, artifact, hint, threads).read_text(encoding="utf-8"))
        plan = parse(Plan, data, where="plan", error=EdgeBertError)
    except _NO_CACHE:
        return None
    return plan if plan.fits(threads) else None


def write_plan(bundle: Bundle, artifact: str, hint: Hint, threads: int, plan: Plan) -> None:
    """Keeps `plan`; a cache that cannot be written is no fault."""
    with contextlib.suppress(*_NO_CACHE), new_file(_path(bundle, artifact, hint, threads), replace=True) as partial:
        partial.write_text(json.dumps(plain(plan)), encoding="utf-8")


def _path(bundle: Bundle, artifact: str, hint: Hint, threads: int) -> Path:
    return cache_folder("plans") / f"{machine_key(bundle, artifact, f'plan {_VERSION} {hint} {threads}')}.json"
