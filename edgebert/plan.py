"""How a model is run on this machine: on how many threads, in how many streams, how much of it at once.

A lone text wants all threads on one computation; many texts want as many computations side by side, each on few
threads, because threads that work on different texts need not wait for each other. Which is best where is measured once
(`edgebert.tuning`); a plan never changes what is computed, only where and together with what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BATCH_TOKENS = 1024  # of one run: its values still lie in the processor's cache
LEAST_TOKENS, MOST_TOKENS = 64, 65536


@dataclass(frozen=True)
class Layout:
    """So many computations side by side, each on so many threads."""

    streams: int
    threads: int


@dataclass(frozen=True)
class Plan:
    """lone: for one text; batch: for many. short: a lone text of up to so many tokens runs in one stream of `batch`.
    batch_tokens: so many tokens, padding included, in one run. bounded: within a budget of memory: one call
    at a time, in few shapes, and what a block of texts has freed goes back to the system."""

    lone: Layout
    batch: Layout
    short: int = 0
    batch_tokens: int = BATCH_TOKENS
    bounded: bool = False

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """Those that it uses: a model is compiled once for each."""
        return (self.lone,) if self.lone == self.batch else (self.lone, self.batch)

    def at_most(self, tokens: int) -> Plan:
        """The same, bounded, with runs of at most so many tokens."""
        return replace(self, batch_tokens=min(self.batch_tokens, tokens), bounded=True)

    def fits(self, threads: int) -> bool:
        """Whether it can be run on so many threads: one that was read from a file may be anything."""
        return (
            self.lone == Layout(1, threads)
            and self.batch.streams >= 1
            and self.batch.threads >= 1
            and self.batch.streams * self.batch.threads <= threads
            and LEAST_TOKENS <= self.batch_tokens <= MOST_TOKENS
            and not self.bounded
            and self.short >= 0
        )


def default_plan(threads: int) -> Plan:
    """What is right in most places: one text on all threads, many texts side by side on two threads each."""
    return Plan(Layout(1, threads), Layout(threads // 2, 2) if threads > 3 else Layout(1, threads))


def one_layout(threads: int) -> Plan:
    """All in one computation at a time: half the memory, for engines that cannot do more and for tight budgets."""
    return Plan(Layout(1, threads), Layout(1, threads))
