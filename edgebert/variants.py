"""What a bundle can run as: every artifact under every precision hint that its engine takes.

int8 and float meet in one graph: a hint other than f32 lets the engine compute the float part in fewer bits. That is
faster on some processors and wrong on others (OpenVINO's bf16 on AMX: at one sequence length in 32), so a variant other
than f32 counts for nothing until this machine has proven it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgebert.bundle import Bundle
from edgebert.devices import Place, places
from edgebert.engines import (
    ENGINE_ORDER,
    HINTS,
    Engine,
    Hint,
    is_installed,
    offered_hints,
    open_engine,
    require_engine,
)  # fmt: skip
from edgebert.engines.base import precision_of
from edgebert.errors import EngineError
from edgebert.stamps import Stamp, read_stamp, seconds

PRECISIONS = ("int8", "fp32", "bf16", "fp16")
# So much faster than under f32 must a hint be to be taken unasked: less is noise.
CLEARLY = 1.1


@dataclass(frozen=True)
class Variant:
    """The artifact of that name under a hint on a device, None for the CPU.

    precision: how it is asked for, one of `PRECISIONS`.
    """

    artifact: str
    engine: str
    precision: str
    hint: Hint = "f32"
    place: Place | None = None

    @property
    def name(self) -> str:
        """Such as "openvino-int8", "openvino-int8-bf16" under a hint other than f32, "openvino-int8-f16@NPU" on one."""
        name = self.artifact if self.hint == "f32" else f"{self.artifact}-{self.hint}"
        return name if self.place is None else f"{name}@{self.place.name}"

    def open(
        self, bundle: Bundle, *, threads: int | None = None, streams: int = 1, beside: Callable[[], None] | None = None
    ) -> Engine:
        """See `open_engine`."""
        if self.place is None:
            return open_engine(bundle, self.artifact, hint=self.hint, threads=threads, streams=streams, beside=beside)
        return open_engine(bundle, self.artifact, hint=self.hint, threads=threads, place=self.place)


@dataclass(frozen=True)
class Wish:
    """What was asked for: see `edgebert.load`. artifact: its name, of a folder without manifest the file's."""

    engine: str = "auto"
    precision: str = "auto"
    artifact: str | None = None

    def allows(self, name: str, engine: str, precision: str) -> bool:
        """Whether an artifact of that name fits, in that engine and precision."""
        return (
            self.artifact in (None, name) and self.engine in ("auto", engine) and self.precision in ("auto", precision)
        )


def known_variants(bundle: Bundle) -> list[Variant]:
    """Every artifact under every hint that its engine knows, whatever this machine has; f32 first."""
    return [
        Variant(name, artifact.engine, precision_of(artifact, hint), hint)
        for name, artifact in bundle.manifest.artifacts.items()
        for hint in HINTS[artifact.engine]
    ]


def variants(bundle: Bundle) -> list[Variant]:
    """Those that this processor offers; of an engine that is not installed or broken, the f32 ones."""
    return [v for v in known_variants(bundle) if v.hint == "f32" or v.hint in _offered(v.engine)]


def placed_variants(bundle: Bundle, kind: str | None = None) -> list[Variant]:
    """Every artifact on every accelerator that its engine has here, those of `kind` where it is given."""
    artifacts = bundle.manifest.artifacts
    installed = {artifact.engine for artifact in artifacts.values() if is_installed(artifact.engine)}
    found = {engine: places(engine, kind) for engine in sorted(installed)}
    return [
        Variant(name, artifact.engine, precision_of(artifact, hint), hint, place)
        for name, artifact in artifacts.items()
        for place in found.get(artifact.engine, ())
        for hint in place.hints
    ]


def candidates(
    bundle: Bundle, *, engine: str = "auto", precision: str = "auto", artifact: str | None = None
) -> list[Variant]:
    """What fits on the CPU and whose engine is installed, the one to use first.

    Raises: EngineError when there is none.
    """
    require_runnable(bundle, engine)
    artifacts = bundle.manifest.artifacts
    if bundle.is_foreign:
        from edgebert.foreign import foreign_candidates  # not above: it needs what stands here

        return foreign_candidates(bundle, Wish(engine, precision, artifact))
    require_artifact(bundle, artifact)
    wish = Wish(engine, precision, artifact)
    fitting = [v for v in known_variants(bundle) if wish.allows(v.artifact, v.engine, v.precision)]
    if not fitting:
        half = f"; {precision} is an fp32 artifact in OpenVINO" if precision in ("bf16", "fp16") else ""
        what = f"{engine}-{precision}" + (f" named {artifact}" if artifact else "")
        raise EngineError(f"{bundle.source} has no artifact for {what}; it has {', '.join(artifacts)}{half}")
    installed = [variant for variant in fitting if is_installed(variant.engine)]
    if not installed:
        require_engine(fitting[0].engine)
    asked = [v for v in installed if v.hint == "f32" or v.precision == precision != "int8" or is_faster(bundle, v)]
    return sorted(asked, key=lambda variant: _rank(bundle, variant))


def require_runnable(bundle: Bundle, engine: str) -> None:
    """Raises EngineError when there are no files to run, or the engine that was asked for is not installed."""
    if not bundle.manifest.artifacts:
        raise EngineError(f"{bundle.source} has no files for an engine yet: run `edgebert quantize "
                          f"{bundle.source} --calibration TEXTS -o OUT`")  # fmt: skip
    if engine != "auto":
        require_engine(engine)


def require_artifact(bundle: Bundle, artifact: str | None) -> None:
    """Raises EngineError when `artifact` is the name of none."""
    if artifact not in (None, *(artifacts := bundle.manifest.artifacts)):
        raise EngineError(f"{bundle.source} has no artifact {artifact!r}; it has {', '.join(artifacts)}")


def _rank(bundle: Bundle, variant: Variant) -> tuple[bool, float, int]:
    """Sorts int8 first, then what was timed here, fastest first, then the rest."""
    stamp = read_stamp(bundle, variant.artifact, variant.hint)
    return variant.precision != "int8", seconds(stamp), ENGINE_ORDER.index(variant.engine)


def is_faster(bundle: Bundle, variant: Variant) -> bool:
    """Whether `edgebert verify` proved here that it is right at every width, and clearly faster than under f32."""
    found, plain = (read_stamp(bundle, variant.artifact, hint) for hint in (variant.hint, "f32"))
    return found is not None and found.thorough and _seconds(found) * CLEARLY < _seconds(plain, missing=0.0)


def _seconds(stamp: Stamp | None, *, missing: float = float("inf")) -> float:
    return stamp.seconds if stamp is not None and stamp.verified and stamp.seconds is not None else missing


def _offered(engine: str) -> tuple[Hint, ...]:
    if not is_installed(engine):
        return ("f32",)
    try:
        return offered_hints(engine)
    except EngineError:
        return ("f32",)  # opening it says why
