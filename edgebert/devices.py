"""Where a model can run: the accelerators that an installed engine has here, and where an encoder really runs.

A place is one device as one engine names it. The CPU is no place: every engine has it, and it needs no proof that it is
there. Devices that choose for themselves (OpenVINO's AUTO, HETERO and MULTI) are none either: they run on the CPU
without a word.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from edgebert.errors import EngineError, RecipeError
from edgebert.processor import processor_name

if TYPE_CHECKING:  # the engines import this module
    from edgebert.engines.base import Hint

logger = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "npu", "gpu")
Kind = Literal["npu", "gpu"]


@dataclass(frozen=True)
class Place:
    """An accelerator in an engine.

    name: the engine's own, such as "NPU", "GPU.1" or "QNNExecutionProvider". full_name: the device's, as it tells.
    hints: what it computes float in, its usual one first. static: it takes fixed shapes alone. version: of its driver
    or provider, "" where it tells none.
    """

    engine: str
    kind: Kind
    name: str
    full_name: str
    hints: tuple[Hint, ...]
    static: bool
    version: str = ""

    @property
    def identity(self) -> str:
        """What was proven here holds as long as this stays the same."""
        return f"{self.name} {self.full_name} {self.version}".strip()


@dataclass(frozen=True)
class Placement:
    """Where an encoder runs and why.

    device: "cpu", "npu" or "gpu", where it really runs; requested: what was asked for, "auto" too. reason: why it is
    not where it was to be, "" when it is. full_name: the device's own name, "" where it tells none.
    """

    device: str
    engine: str
    precision: str
    requested: str = "auto"
    reason: str = ""
    full_name: str = ""

    def __str__(self) -> str:
        named = f" ({self.full_name})" if self.full_name else ""
        because = f", a fallback: {self.reason}" if self.reason else ""
        return f"{self.engine} {self.precision} on the {self.device.upper()}{named}{because}"


def check_device(device: str, fallback: bool | None) -> None:
    """Raises RecipeError unless the options of `edgebert.load` are possible ones."""
    if device not in DEVICES:
        raise RecipeError(f"device is {device!r}; it must be one of {', '.join(DEVICES)}")
    if fallback is not None and not isinstance(fallback, bool):
        raise RecipeError(f"fallback is {fallback!r}; it must be True, False or None")


def places(engine: str, kind: str | None = None) -> list[Place]:
    """The accelerators that an installed engine has on this machine, those of `kind` where it is given.

    An engine that cannot be asked has none, with a warning that says why.
    """
    try:
        found: list[Place] = import_module(f"edgebert.engines.{engine}_devices").places()
    except EngineError as problem:
        logger.warning("no accelerators of %s: %s", engine, problem)
        return []
    return [place for place in found if kind in (None, place.kind)]


def present(engines: tuple[str, ...]) -> str:
    """The devices of these engines in words, for messages: "openvino has CPU (AMD EPYC), NPU (Intel AI Boost)"."""
    told = []
    for engine in engines:
        names = [f"CPU ({processor_name()})", *(f"{place.name} ({place.full_name})" for place in places(engine))]
        told.append(f"{engine} has {', '.join(names)}")
    return "; ".join(told) or "no engine is installed"
