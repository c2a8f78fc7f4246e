"""Which accelerators a load tries before the CPU: those that were asked for, or the ones proven here and faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from edgebert.bundle import Bundle
from edgebert.devices import present
from edgebert.engines import ENGINES, is_installed
from edgebert.engines.base import Hint, precision_of
from edgebert.stamps import placed_stamps, read_stamp, seconds
from edgebert.variants import CLEARLY, Variant, Wish, placed_variants

ANYTHING = Wish()


def placed(bundle: Bundle, device: str) -> list[Variant]:
    """The variants on accelerators that `edgebert verify` proves for the option `device`."""
    return [] if device == "cpu" else placed_variants(bundle, None if device == "auto" else device)


def asked_for(bundle: Bundle, device: str, wish: Wish) -> tuple[list[Variant], list[str]]:
    """The variants on devices of the kind `device` that fit, the one to try first; else why there is none.

    First what was timed here, the fastest first, then int8 before float, in the engine's own order of places and hints.
    Of a folder without manifest a device runs the files that the CPU would, in the same precision: less is asked for.
    Raises: EngineError when such a folder has no file that fits.
    """
    if device == "cpu":
        return [], []
    allowed = _allowed(bundle, wish)
    there = [v for v in placed_variants(bundle, device) if v.artifact in allowed and wish.engine in ("auto", v.engine)]
    fitting = [v for v in there if allowed[v.artifact] in ("auto", v.precision)]
    if not there:
        return [], [f"there is no {device}" + (f" for {wish.artifact}" if wish.artifact else "")]
    if not fitting:
        offered, wanted = (", ".join(sorted(set(names))) for names in ((v.precision for v in there), allowed.values()))
        return [], [f"the {device} does not offer {wanted}; it offers {offered}"]
    return sorted(fitting, key=lambda v: _rank(bundle, v)), []


def faster(bundle: Bundle, on_cpu: Sequence[Variant], wish: Wish = ANYTHING) -> tuple[list[Variant], list[str]]:
    """The variants on accelerators that were verified here and clearly faster than the CPU, the fastest first.

    on_cpu: what the CPU offers, the one to use first; as long as that one was not timed, there are none. The second
    list names the fastest when none of them is here any more.
    """
    if bundle.is_foreign:  # nothing of it was ever proven
        return [], []
    known = read_stamp(bundle, on_cpu[0].artifact, on_cpu[0].hint)
    if known is None or not known.verified or known.seconds is None:
        return [], []
    # Only stamps are read here: engines are asked for their devices when one of these was faster.
    proven = [
        (stamp, name)
        for name, artifact in bundle.manifest.artifacts.items()
        for hint in get_args(Hint)
        if wish.allows(name, artifact.engine, precision_of(artifact, hint))
        for stamp in placed_stamps(bundle, name, hint)
        if stamp.thorough and stamp.verified and seconds(stamp) * CLEARLY < known.seconds
    ]
    if not proven:
        return [], []
    here = {(v.artifact, v.hint, v.place.identity): v for v in placed_variants(bundle) if v.place}
    proven.sort(key=lambda pair: seconds(pair[0]))
    keys = [(name, stamp.hint, stamp.place) for stamp, name in proven]
    if found := [here[key] for key in keys if key in here]:
        return found, []
    return [], [f"{keys[0][0]} was fastest on {keys[0][2]}, which is not here any more"]


def nowhere(bundle: Bundle, device: str, reason: str) -> str:
    """The message of the error when no device that was asked for works and the CPU must not stand in."""
    engines = tuple(engine for engine in ENGINES if is_installed(engine))
    return (
        f"{bundle.source} does not run on {device}: {reason}. Here {present(engines)}; "
        "fallback=True lets the CPU stand in"
    )


def _allowed(bundle: Bundle, wish: Wish) -> dict[str, str]:
    """The artifacts that may run, and in what precision; of a folder without manifest what the CPU would take."""
    if bundle.is_foreign:
        from edgebert.foreign import foreign_candidates

        return {variant.artifact: variant.precision for variant in foreign_candidates(bundle, wish)}
    return {name: wish.precision for name in bundle.manifest.artifacts if wish.artifact in (None, name)}


def _rank(bundle: Bundle, variant: Variant) -> tuple[float, bool]:
    stamp = read_stamp(bundle, variant.artifact, variant.hint, variant.place)
    return seconds(stamp), variant.precision != "int8"
