"""What a pass may ask for beside the graph: calibration rows, and what was measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgebert.quantize.graph import Graph
from edgebert.quantize.statistics import Activation, collect


@dataclass(frozen=True)
class Context:
    """The surroundings of a recipe.

    original: the file of the float32 graph as exported. rows: token ids of the calibration set. inputs: the graph's input names.
    folder: for temporary files. Statistics are kept by the passes that came before, so that recipes which begin alike
    measure once.
    """

    original: Path
    rows: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]
    pad_token_id: int
    folder: Path
    _kept: dict[tuple[object, ...], dict[str, Activation]] = field(default_factory=dict)

    def observe(self, graph: Graph, tensors: Sequence[str]) -> dict[str, Activation]:
        """The statistics of `tensors` in `graph` on the calibration rows.

        Channels that no linear layer multiplies with anything but zeros do not count for the histograms.
        """
        key = (*graph.history, tuple(tensors))
        if key not in self._kept:
            self._kept[key] = collect(
                graph.model,
                {name: graph.read_channels(name) for name in tensors},
                self.rows,
                self.inputs,
                pad_token_id=self.pad_token_id,
                folder=self.folder,
            )
        return self._kept[key]
