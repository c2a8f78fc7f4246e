"""What a device allows, and what misses it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from edgebert.errors import RecipeError
from edgebert.targets.profile import Profile


@dataclass(frozen=True)
class Budget:
    """What the device allows; None for no limit. max_mb: largest package in millions of bytes, by the option or key
    `size_option`. p99_ms: the slowest but one in a hundred of single texts. min_retention: least share kept.

    Raises: RecipeError for a limit that is not above 0, or a share that is not within 0 to 1.
    """

    max_mb: float | None = None
    p99_ms: float | None = None
    min_retention: float | None = None
    size_option: str = "--max-mb"

    def __post_init__(self) -> None:
        for option, value in ((self.size_option, self.max_mb), ("--p99-ms", self.p99_ms)):
            if value is not None and not 0 < value < math.inf:
                raise RecipeError(f"{option} is {value}; it must be a finite number above 0")
        if self.min_retention is not None and not 0 <= self.min_retention <= 1:
            raise RecipeError(f"--min-retention is {self.min_retention}; it must be within 0 to 1")

    def within(self, profile: Profile) -> Budget:
        """With the profile's own largest size, where that is smaller."""
        limit = profile.max_size_mb
        if limit is None or (self.max_mb is not None and self.max_mb <= limit):
            return self
        return dataclasses.replace(self, max_mb=limit, size_option=f"max_size_mb of {profile.name}")

    def misses(self, size_mb: float, p99_ms: float | None, retention: float | None) -> tuple[Miss, ...]:
        """The limits that those figures miss; what is None is not known yet and misses nothing."""
        found = []
        if self.max_mb is not None and not size_mb <= self.max_mb:
            found.append(Miss(self.size_option, f"{size_mb:.2f} MB", self.max_mb, _up(size_mb), size_mb / self.max_mb))
        if self.p99_ms is not None and p99_ms is not None and not p99_ms <= self.p99_ms:
            found.append(Miss("--p99-ms", f"p99 {p99_ms:.2f} ms", self.p99_ms, _up(p99_ms), p99_ms / self.p99_ms))
        if self.min_retention is not None and retention is not None and not retention >= self.min_retention:
            far = self.min_retention / max(retention, 1e-9)
            found.append(Miss("--min-retention", f"retention {retention:.4f}", self.min_retention,
                              math.floor(max(retention, 0.0) * 1e4) / 1e4, far))  # fmt: skip
        return tuple(found)


@dataclass(frozen=True)
class Miss:
    """A limit that was missed: option, figure in words, limit, the value at which it would be met, and how many times
    the limit the figure is."""

    option: str
    got: str
    limit: float
    enough: float
    far: float

    @property
    def words(self) -> str:
        return f"{self.got} ({self.option} {self.limit:g})"


def _up(value: float) -> float:
    return math.ceil(value * 100) / 100
