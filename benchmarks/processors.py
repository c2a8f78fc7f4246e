"""A bundle's vectors on processors that qemu emulates, beside this machine's and the golden ones of torch in fp32.

    python benchmarks/processors.py BUNDLE [--artifact NAME] [--processor haswell|neoverse-n1]

Needs Debian and `apt-get install qemu-user-static`; an arm64 system of 300 MB is made at the first run. Exit 1 when an
artifact is below its gates on a processor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from emulation import EMULATED, Answers, answers

from edgebert.batching import ladder, pad
from edgebert.bundle import Bundle
from edgebert.errors import EdgeBertError
from edgebert.golden import Golden, Worst, read_golden
from edgebert.probes import Probe
from edgebert.table import show

_BATCH, _SHORT = 8, 64


@dataclass(frozen=True)
class Found:
    """One artifact on one processor: its least cosines to the golden and to the native vectors by kind of text.

    largest: the largest difference of a number to native, 0 when they are the same to the bit. kernels: what ran the
    linear layers, where the engine says it. fault: what is below a gate, "" when nothing.
    """

    artifact: str
    processor: str
    golden: Worst
    native: Worst
    largest: float
    kernels: tuple[str, ...]
    fault: str


def compare(bundle: Bundle, artifact: str, processors: Sequence[str]) -> Iterator[Found]:
    """What `artifact` answers on this machine and then on each of `processors`, which may be none.

    The golden cases are asked one by one, padded as the runtime pads, and the short ones in batches of mixed length.
    Raises: MissingTool when a processor cannot be emulated here; EngineError when a run fails.
    """
    golden = read_golden(bundle)
    probes = list(_probes(golden, bundle.manifest.max_length))
    fact, pad_token_id = bundle.manifest.artifacts[artifact], bundle.manifest.pad_token_id
    batches = [
        dict(zip(("input_ids", "attention_mask"), pad(p.rows, pad_token_id, to=p.width), strict=True)) for p in probes
    ]
    native: Answers | None = None
    for processor in ("native", *processors):
        found = answers(processor, fact.engine, bundle.path(fact.files[0]), batches)
        native = native or found
        to_golden, to_native = Worst(), Worst()
        for probe, vectors, here in zip(probes, found.vectors, native.vectors, strict=True):
            assert probe.reference is not None
            to_golden.add(vectors, probe.reference, probe.kinds, probe.where)
            to_native.add(vectors, here, probe.kinds, probe.where)
        largest = max(float(np.abs(a - b).max()) for a, b in zip(found.vectors, native.vectors, strict=True))
        faults = [w.fault(fact, golden.max_error) for w in (to_golden, to_native)]
        fault = "; ".join(f"{to}: {said}" for to, said in zip(("to fp32", "to native"), faults, strict=True) if said)
        yield Found(artifact, processor, to_golden, to_native, largest, found.kernels, fault)


def _probes(golden: Golden, max_length: int) -> Iterator[Probe]:
    lengths = [len(case.input_ids) for case in golden.cases]
    short = [i for i, length in enumerate(lengths) if length <= _SHORT]
    batches = [short[start : start + _BATCH] for start in range(0, len(short), _BATCH)]
    for numbers in [*([i] for i in range(len(lengths))), *batches]:
        cases = [golden.cases[i] for i in numbers]
        width = ladder(max(lengths[i] for i in numbers), max_length)
        rows, kinds = tuple(case.input_ids for case in cases), tuple(case.kind for case in cases)
        yield Probe(rows, kinds, width, golden.vectors[numbers])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--artifact", nargs="+", help="default: the int8 ones")
    parser.add_argument("--processor", nargs="+", choices=EMULATED, default=EMULATED)
    given = parser.parse_args()
    try:
        bundle = Bundle.open(given.bundle)
        artifacts = bundle.manifest.artifacts
        wanted = given.artifact or [name for name, fact in artifacts.items() if fact.precision == "int8"]
        if unknown := [name for name in wanted if name not in artifacts]:
            sys.exit(f"{bundle.source} has no artifact {unknown[0]!r}; it has {', '.join(artifacts)}")
        found = [found for name in wanted for found in compare(bundle, name, given.processor)]
    except EdgeBertError as problem:
        sys.exit(str(problem))
    show(
        ["artifact", "processor", "to fp32", "degenerate", "to native", "degenerate", "largest difference", "kernels"],
        [_row(one) for one in found],
        texts=("processor", "kernels"),
    )
    faults = [f"{f.artifact} on {f.processor}: {f.fault}" for f in found if f.fault]
    sys.exit("\n".join(faults) if faults else 0)


def _row(found: Found) -> list[str]:
    largest = f"{found.largest:.2g}" if found.largest else "none"
    cosines = (*_cosines(found.golden), *_cosines(found.native))
    return [found.artifact, found.processor, *cosines, largest, "; ".join(found.kernels)]


def _cosines(worst: Worst) -> list[str]:
    kinds = ("ordinary", "degenerate")
    return [f"{worst.cosine[kind]:.6f}" if kind in worst.cosine else "" for kind in kinds]


if __name__ == "__main__":
    main()
