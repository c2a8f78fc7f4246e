"""The table that a device profile takes: speeds measured on the machine at hand, as TOML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.distill.fit.device import THIS, Device
from edgebert.distill.fit.opening import Options, opened
from edgebert.distill.fit.space import Candidate
from edgebert.files import new_file
from edgebert.progress import Progress
from edgebert.targets.profile import MeasuredShape


def measure(
    teacher: Bundle, corpus: Sequence[str | Path], device: Device, options: Options | None = None, *,
    progress: Progress | None = None,
) -> tuple[MeasuredShape, ...]:  # fmt: skip
    """The speeds of all shapes of the space on this machine, each once: what a profile's table holds.

    Raises: as `fit`.
    """
    options = options or Options()
    with opened(teacher, corpus, device, options, progress or Progress()) as (rungs, candidates):
        shapes: dict[tuple[int, ...], Candidate] = {}
        for candidate in candidates:
            shapes.setdefault(rungs.costs.built(candidate).shape, candidate)
        speeds = rungs.costs.speeds(list(shapes.values()))
        rungs.costs.tidy()
        return tuple(
            MeasuredShape(*rungs.costs.built(candidate).shape, **vars(speeds[candidate]))
            for candidate in shapes.values()
        )


def write_table(out: Path, rows: Sequence[MeasuredShape], device: Device) -> None:
    """Writes a whole profile with the table, a TOML file for `--device` and for `edgebert package --target`.

    Raises: BundleError when `out` exists.
    """
    profile = device.profile
    lines = [
        f"name = {_text(out.stem if profile.name == THIS else profile.name)}",
        f"description = {_text(profile.description)}",
        f"artifacts = [{', '.join(map(_text, profile.artifacts))}]",
    ]
    lines += [f"{name} = true" for name in ("static", "one_file") if getattr(profile, name)]
    lines += [] if profile.max_size_mb is None else [f"max_size_mb = {profile.max_size_mb:g}"]
    for row in rows:
        lines += ["", "[[measured]]"]
        lines += [
            f"{name} = {value if isinstance(value, int) else format(value, '.6g')}" for name, value in vars(row).items()
        ]
    with new_file(out) as partial:
        partial.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are among TOML's."""
    return json.dumps(value)
