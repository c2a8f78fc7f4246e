"""A device profile: what a device loads, as TOML. The shipped ones lie in `profiles/`; a user's own is a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgebert.errors import TargetError
from edgebert.schema import parse, read_toml

_SHIPPED = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class MeasuredShape:
    """How fast a model of that shape runs on the device, in int8: one text alone in milliseconds, median and 99th
    percentile, and texts a second in batches. `edgebert fit --measure-only` writes such tables."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    p50_ms: float
    p99_ms: float
    texts_per_second: float

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """By which a model is found in the table."""
        return self.layers, self.width, self.heads, self.feed_forward


@dataclass(frozen=True)
class Profile:
    """What a package for one kind of device holds.

    description: the devices in words. artifacts: names of the bundle's artifacts to take; the device uses the first
    one that proves right there. static: run graphs at the fixed shapes of a ladder, as NPU compilers ask for, wherever
    they run; the weights are there once. one_file: OpenVINO reads ONNX Runtime's file, from which its own was
    converted, so that the weights are there once for both. max_size_mb: largest package, in millions of bytes.
    measured: speeds of models on the device, by which `edgebert fit` chooses; no shipped profile has any.
    """

    name: str
    description: str
    artifacts: tuple[str, ...]
    static: bool = False
    one_file: bool = False
    max_size_mb: float | None = None
    measured: tuple[MeasuredShape, ...] = ()


def shipped_profiles() -> list[str]:
    """The names of the profiles that come with EdgeBERT, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def read_profile(name_or_path: str) -> Profile:
    """The profile of that name, or in that TOML file.

    Raises: TargetError for an unknown name, and for a file that is not TOML or has an unknown key or a wrong value.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else _SHIPPED / f"{name_or_path}.toml"
    if not path.is_file():
        raise TargetError(
            f"no target {name_or_path!r}; known are {', '.join(shipped_profiles())}, or give a file that ends in .toml"
        )
    data = read_toml(path, what="target", error=TargetError)
    profile = parse(Profile, data, where=str(path), error=TargetError)
    if not profile.artifacts:
        raise TargetError(f"{path}: artifacts is empty; name at least one, such as openvino-int8")
    for place, row in enumerate(profile.measured):
        if wrong := [f"{name} is {value}" for name, value in vars(row).items() if not 0 < value < math.inf]:
            raise TargetError(f"{path}: measured[{place}]: {wrong[0]}; it must be above 0")
    return profile
