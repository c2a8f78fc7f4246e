"""The device to fit: this machine, which is timed, or a profile with a table of what was timed on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgebert.engines import require_engine
from edgebert.errors import TargetError
from edgebert.processor import processor_name
from edgebert.targets.profile import Profile, read_profile

THIS = "this"


@dataclass(frozen=True)
class Device:
    """profile: what its package holds, and its table of speeds. here: whether it is this machine."""

    profile: Profile
    here: bool

    @property
    def artifact(self) -> str:
        """The int8 artifact it runs."""
        names = self.profile.artifacts
        return next((name for name in names if name.endswith("-int8")), names[0])


def find_device(name: str, *, engine: Literal["openvino", "onnxruntime"] = "openvino", timed: bool = False) -> Device:
    """The device `name`: "this", a shipped profile, or a TOML file.

    engine: the one that runs on this machine. timed: this machine will be timed, so a profile needs no table.
    Raises: TargetError for an unknown profile, and one without a table of speeds; EngineError where the engine is not
    installed.
    """
    if name == THIS:
        require_engine(engine)
        return Device(Profile(THIS, processor_name(), (f"{engine}-int8",)), True)
    profile = read_profile(name)
    if timed:
        return Device(profile, True)
    if not profile.measured:
        raise TargetError(
            f"the profile {profile.name} has no [[measured]] table of speeds: write one on the device with `edgebert "
            f"fit --measure-only` and give that file to --device, or use --device {THIS}"
        )
    return Device(profile, False)
