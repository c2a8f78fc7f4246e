"""A device profile: what a device loads, as TOML. The shipped ones lie in `profiles/`; a user's own is a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgebert.errors import TargetError
from edgebert.schema import parse, read_toml

_SHIPPED = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class Profile:
    """What a package for one kind of device holds.

    description: the devices in words. artifacts: names of the bundle's artifacts to take; the device uses the first
    one that proves right there. static: run graphs at the fixed shapes of a ladder, as NPU compilers ask for, wherever
    they run; the weights are there once. one_file: OpenVINO reads ONNX Runtime's file, from which its own was
    converted, so that the weights are there once for both. max_size_mb: largest package, in millions of bytes.
    """

    name: str
    description: str
    artifacts: tuple[str, ...]
    static: bool = False
    one_file: bool = False
    max_size_mb: float | None = None


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
    return profile
