"""Inputs of every length and several batch sizes, made from golden cases, to compare artifacts with each other.

Golden cases have the lengths that their texts happen to have; an engine can be wrong at a single other one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgebert.batching import ladder, pad, widths
from edgebert.bundle import Bundle
from edgebert.engines.base import Engine, Vectors
from edgebert.golden import Case, Golden, Kind, Worst, prove

KINDS: tuple[Kind, ...] = ("ordinary", "degenerate")
BATCH_SIZES = (2, 8, 32)
BATCH_LENGTHS = (16, 32, 64, 128)
_SPREAD = 8  # how far the lengths of one batch lie apart


@dataclass(frozen=True)
class Probe:
    """One batch: token id rows, the kind of each, the width to pad to, and their vectors where they are known."""

    rows: tuple[tuple[int, ...], ...]
    kinds: tuple[Kind, ...]
    width: int
    reference: Vectors | None = None

    @property
    def where(self) -> str:
        """The batch in words."""
        return f"batch of {len(self.rows)}, {len(self.rows[0])} tokens padded to {self.width}"

    def run(self, engine: Engine, pad_token_id: int) -> Vectors:
        """The engine's vectors. Shape: (rows, dimension)."""
        return engine.embed(*pad(self.rows, pad_token_id, to=self.width))


def probe_ids(cases: Sequence[Case], kind: Kind, length: int) -> tuple[int, ...]:
    """`length` token ids, special ones included where there is room: running text, or one token repeated.

    The text is that of the ordinary cases, begun at another place for every length; the repeated token comes from the
    degenerate cases where they have any. A BERT-like tokenizer puts one special token before a text and one behind.
    """
    ids = {k: [case.input_ids for case in cases if case.kind == k and len(case.input_ids) > 2] for k in KINDS}
    rows = ids[kind] or ids["ordinary"] or ids["degenerate"]
    first, last = rows[0][:1], rows[0][-1:]
    running = [token for row in rows for token in row[1:-1]]
    start = (length * length) % len(running)
    tokens = running[start : start + 1] if kind == "degenerate" else running[start:] + running[:start]
    wanted = max(length - 2, 0)
    body = (tokens * (wanted // len(tokens) + 1))[:wanted]
    return (*first, *body, *last)[:length]


def length_probes(cases: Sequence[Case], max_length: int, *, every: bool, exact: bool = False) -> Iterator[Probe]:
    """One text alone, of both kinds, at every width of the ladder or at every length; then batches of mixed lengths.

    exact: a text alone is not padded to the runtime's ladder, which other libraries do not do either.
    """
    # The shortest input is the empty text: two special tokens.
    for length in range(2, max_length + 1) if every else widths(max_length):
        for kind in KINDS:
            named: Kind = kind if length > 2 else "degenerate"
            width = length if exact else ladder(length, max_length)
            yield Probe((probe_ids(cases, kind, length),), (named,), width)
    for length in sorted({min(n, max_length) for n in BATCH_LENGTHS}):
        for size in BATCH_SIZES:
            lengths = [max(3, length - i % _SPREAD) for i in range(size)]
            kinds = tuple(KINDS[i % 2] for i in range(size))
            rows = tuple(probe_ids(cases, kind, n) for kind, n in zip(kinds, lengths, strict=True))
            yield Probe(rows, kinds, ladder(length, max_length))


def golden_probes(golden: Golden, max_length: int, *, quick: bool = False) -> Iterator[Probe]:
    """Golden cases alone at every width of the ladder, then in batches: vectors known without another artifact.

    quick: one case, the longest that fits, at each width at which `prove` does not meet one, and no batches.
    """
    met = {ladder(len(case.input_ids), max_length) for case in golden.cases} if quick else set()
    for width in (width for width in widths(max_length) if width not in met):
        fitting = _fitting(golden, width)
        for kinds in (KINDS,) if quick else ((kind,) for kind in KINDS):
            if some := [i for i in fitting if golden.cases[i].kind in kinds]:
                yield _golden_probe(golden, [max(some, key=lambda i: len(golden.cases[i].input_ids))], width)
    if quick:
        return
    for width in sorted({ladder(min(n, max_length), max_length) for n in BATCH_LENGTHS}):
        if fitting := _fitting(golden, width):
            for size in BATCH_SIZES:
                yield _golden_probe(golden, [fitting[i % len(fitting)] for i in range(size)], width)


def prove_widths(engine: Engine, golden: Golden, bundle: Bundle, *, quick: bool) -> Worst:
    """`prove`, and `golden_probes` at every width that the runtime pads to: how near `engine` comes at its worst.

    Raises: EngineError when the engine fails.
    """
    worst = prove(engine, golden, bundle)
    for probe in golden_probes(golden, bundle.manifest.max_length, quick=quick):
        assert probe.reference is not None
        worst.add(probe.run(engine, bundle.manifest.pad_token_id), probe.reference, probe.kinds, probe.where)
    return worst


def _fitting(golden: Golden, width: int) -> list[int]:
    return [i for i, case in enumerate(golden.cases) if len(case.input_ids) <= width]


def _golden_probe(golden: Golden, places: list[int], width: int) -> Probe:
    cases = [golden.cases[i] for i in places]
    return Probe(tuple(c.input_ids for c in cases), tuple(c.kind for c in cases), width, golden.vectors[places])
