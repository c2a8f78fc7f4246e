"""The first use of a variant on this machine: its files are hashed and its vectors compared with the golden ones."""

from __future__ import annotations

from edgebert.bundle import Bundle
from edgebert.engines import Engine
from edgebert.engines.static_ladder import StaticLadder
from edgebert.errors import BundleError, EngineError
from edgebert.golden import read_golden, tokenizer_fault
from edgebert.probes import prove_widths
from edgebert.stamps import Stamp, write_stamp
from edgebert.tokenizer import Tokenizer
from edgebert.variants import Variant


def open_first(bundle: Bundle, variant: Variant, tokenizer: Tokenizer, threads: int) -> Engine:
    """The variant in its engine, proven; what was found out is kept as a stamp.

    Raises: BundleError when files or the tokenizer do not match; EngineError when the vectors are wrong.
    """
    bundle.check()
    golden = read_golden(bundle)
    if fault := tokenizer_fault(tokenizer, golden):
        raise BundleError(f"{bundle.source}: {fault}: they do not match")
    engine = variant.open(bundle, threads=threads)
    try:
        artifact = bundle.manifest.artifacts[variant.artifact]
        worst = prove_widths(engine, golden, bundle, quick=variant.hint == "f32" and variant.place is None)
        fault = worst.fault(artifact, golden.max_error, variant.hint)
        where = variant.place.identity if variant.place else ""
        write_stamp(bundle, Stamp(variant.artifact, not fault, fault, hint=variant.hint, place=where))
        if fault:
            raise EngineError(fault)
    except BaseException:
        engine.close()
        raise
    if isinstance(engine, StaticLadder):
        engine.release()  # what its texts need is compiled again, the rest never
    return engine
