"""The space of student shapes that a fit looks through. To add an axis: a field of `Space`, one of `Candidate`, a line
in `Space.candidates`, and what it does to the student in `Candidate.student`."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.distill.layer_map import shape_of
from edgebert.distill.recipe import Student
from edgebert.distill.sizes import check_sizes, read_sizes
from edgebert.distill.students import spread
from edgebert.distill.vocabulary import DEFAULT_COVERAGE
from edgebert.errors import RecipeError
from edgebert.pretrained import read_config
from edgebert.quantize.recipe import TableBits
from edgebert.schema import parse, read_toml

_LAYERS = (2, 3, 4, 6)  # of the default space, as many as the teacher has


@dataclass(frozen=True)
class Space:
    """What each axis may be; every combination is a candidate. None means the default.

    layers: depths, the teacher's layers evenly spread; by default 2, 3, 4 and 6. take_layers: lists of layers, counted
    from 0. vocabulary: numbers of tokens to keep, 0 for all. coverage: shares of the text's tokens to keep. By default
    the vocabulary is whole, or keeps 0.9995 of the text's tokens. tables: bits of the word table; by default 8 and 4.
    width, feed_forward: those of the layers, at most the teacher's and by default those; 0 stands for the teacher's.
    """

    layers: tuple[int, ...] | None = None
    take_layers: tuple[tuple[int, ...], ...] = ()
    vocabulary: tuple[int, ...] | None = None
    coverage: tuple[float, ...] | None = None
    tables: tuple[int, ...] = (8, 4)
    width: tuple[int, ...] = (0,)
    feed_forward: tuple[int, ...] = (0,)

    def candidates(self, teacher: Bundle) -> tuple[Candidate, ...]:
        """The candidates for students of `teacher`, each once, those with the teacher's own tokenizer first.

        Raises: RecipeError for an empty axis, or a value that the teacher does not allow.
        """
        config = read_config(teacher.root)
        sizes = read_sizes(config)
        axes = (
            self._vocabularies(int(config["vocab_size"])),
            self._layers(shape_of(config).layers),
            tuple(_bits(bits) for bits in self.tables),
            self._narrow("width", sizes.width),
            self._narrow("feed_forward", sizes.feed_forward),
        )
        found = tuple(
            dict.fromkeys(
                Candidate(layers, *vocabulary, tables, width, feed_forward)
                for vocabulary, layers, tables, width, feed_forward in itertools.product(*axes)
            )
        )
        if not found:
            raise RecipeError("the space is empty: each of layers or take_layers, vocabulary or coverage, tables, "
                              "width and feed_forward needs at least one value")  # fmt: skip
        for candidate in found:
            try:
                check_sizes(sizes, candidate.student(Student()), teacher)
            except RecipeError as problem:
                raise RecipeError(f"space: {problem}") from None
        return found

    def _layers(self, there: int) -> tuple[tuple[int, ...], ...]:
        depths = self.layers
        if depths is None:
            depths = () if self.take_layers else tuple(n for n in _LAYERS if n <= there) or (there,)
        for depth in depths:
            if not 1 <= depth <= there:
                raise RecipeError(f"space.layers has {depth}; the teacher has 1 to {there} layers to copy")
        for take in self.take_layers:
            if not take:
                raise RecipeError("space.take_layers has an empty list: name at least one layer")
            if wrong := [layer for layer in take if not 0 <= layer < there]:
                raise RecipeError(f"space.take_layers names layer {wrong[0]}; the teacher has 0 to {there - 1}")
        return (*(spread(there, depth) for depth in depths), *self.take_layers)

    def _narrow(self, name: str, there: int) -> tuple[int, ...]:
        """The values of an axis, 0 for the teacher's own."""
        for value in getattr(self, name):
            if value < 0:
                raise RecipeError(f"space.{name} has {value}; it must be at least 1 and at most {there}, or 0 for that")
        return tuple(0 if value == there else value for value in getattr(self, name))

    def _vocabularies(self, there: int) -> tuple[tuple[int, float | None], ...]:
        given = self.vocabulary is not None or self.coverage is not None
        counts = (self.vocabulary or ()) if given else (0,)
        shares = (self.coverage or ()) if given else (DEFAULT_COVERAGE,)
        for count in counts:
            if not 0 <= count < there:
                raise RecipeError(
                    f"space.vocabulary has {count}; it must be at least 1 and below the teacher's {there} tokens, or 0 "
                    "to keep all"
                )
        for share in shares:
            if not 0 < share <= 1:
                raise RecipeError(f"space.coverage has {share}; it must be above 0 and at most 1")
        return (*((count, None) for count in sorted(counts, key=bool)), *((0, share) for share in shares))


@dataclass(frozen=True)
class Candidate:
    """One student shape: the teacher's layers it copies, tokens to keep (0 for all) or the share of the text's tokens
    to cover, the bits of its word table on the device, its width and its feed-forward width (0 for the teacher's)."""

    layers: tuple[int, ...]
    vocabulary: int = 0
    coverage: float | None = None
    tables: TableBits = 8
    width: int = 0
    feed_forward: int = 0

    @property
    def id(self) -> str:
        """A name for files."""
        return f"{self.unit}-t{self.tables}"

    @property
    def unit(self) -> str:
        """What is trained: candidates of one unit share their training and differ in how they are quantized."""
        tokens = f"c{self.coverage}" if self.coverage is not None else f"v{self.vocabulary or 'all'}"
        sizes = "".join(f"-{key}{size}" for key, size in (("w", self.width), ("f", self.feed_forward)) if size)
        return f"l{'.'.join(map(str, self.layers))}-{tokens}{sizes}"

    @property
    def trims(self) -> bool:
        """Whether its tokenizer differs from the teacher's."""
        return self.vocabulary > 0 or self.coverage is not None

    def student(self, base: Student) -> Student:
        """`base` in this shape."""
        return dataclasses.replace(
            base, layers=None, take_layers=self.layers, vocabulary=self.vocabulary or None, coverage=self.coverage,
            width=self.width or None, feed_forward=self.feed_forward or None,
            characters=base.characters if self.trims else "all",
        )  # fmt: skip

    def words(self, tokens: int | None = None) -> str:
        """For a screen; tokens: how many it has, where that is known."""
        count = len(self.layers)
        kept = f"{self.coverage:.4%} of the text's" if self.coverage is not None else f"{self.vocabulary or 'all'}"
        depth = f"{count} layer{'s' if count > 1 else ''} ({', '.join(map(str, self.layers))})"
        sizes = "".join(
            f", {what} {size}" for what, size in (("width", self.width), ("feed-forward", self.feed_forward)) if size
        )
        return f"{depth}{sizes}, {tokens if tokens is not None else kept} tokens, {self.tables}-bit table"


def read_space(path: Path) -> Space:
    """The space in the TOML file `path`.

    Raises: RecipeError when it is missing, is not TOML, or has an unknown key or a wrong value.
    """
    return parse(Space, read_toml(path, what="space", error=RecipeError), where=str(path), error=RecipeError)


def _bits(bits: int) -> TableBits:
    if bits == 4:
        return 4
    if bits == 8:
        return 8
    raise RecipeError(f"space.tables has {bits}; it must be 4 or 8")
