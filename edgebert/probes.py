"""Token ids of any wanted length, made from golden cases, to compare artifacts where no text happens to be so long."""

from __future__ import annotations

from dataclasses import dataclass

from edgebert.golden import Case, Kind

_AFFIXES = 1  # a BERT-like tokenizer puts one special token before a text and one behind


@dataclass(frozen=True)
class Probes:
    """Ordinary and degenerate inputs out of golden cases, the same ones every time.

    `ordinary(length)` is running text from a place that differs with the length; `degenerate(length)` repeats one word.
    """

    cases: tuple[Case, ...]

    def make(self, kind: Kind, length: int) -> list[int]:
        """`length` token ids, special ones included where there is room."""
        ids = [case.input_ids for case in self.cases if case.kind == "ordinary"]
        first, last = ids[0][:_AFFIXES], ids[0][-_AFFIXES:]
        running = [token for row in ids for token in row[_AFFIXES:-_AFFIXES]] or [*first]
        wanted = max(length - len(first) - len(last), 0)
        start = (length * length) % len(running)
        tokens = running[start : start + 1] if kind == "degenerate" else running[start:] + running[:start]
        body = (tokens * (wanted // len(tokens) + 1))[:wanted]
        return [*first, *body, *last][:length]
