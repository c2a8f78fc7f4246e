"""What a pass may ask for beside the graph: calibration rows, and what was measured on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from edgebert.quantize.graph import Graph
from edgebert.quantize.statistics import Activation, collect


@dataclass(frozen=True)
class Context:
    """The surroundings of a recipe.

    exported: the file of the float32 graph. rows: token ids of the calibration set. inputs: the graph's
    input names. folder: for temporary files. Statistics are kept by the passes that came before, so that recipes which
    begin alike measure once.
    """

    exported: Path
    rows: tuple[tuple[int, ...], ...]
    inputs: tuple[str, ...]
    pad_token_id: int
    folder: Path
    _kept: dict[tuple[object, ...], Activation] = field(default_factory=dict)

    @property
    def original(self) -> onnx.ModelProto:
        """The float32 graph, read anew: a caller may change it."""
        return onnx.load(self.exported)

    def observe(self, graph: Graph, tensors: Sequence[str], *, histogram: bool = False) -> dict[str, Activation]:
        """The statistics of `tensors` in `graph` on the calibration rows.

        Channels that no linear layer multiplies with anything but zeros do not count. histogram: they do not count in
        the histogram either, for which the text is gone through again.
        """
        values = tuple(one for one in graph.history if not getattr(one, "keeps_activations", False))
        masks = {name: graph.read_channels(name) for name in tensors}
        keys = {
            name: (values, name, mask.tobytes() if histogram and mask is not None else None)
            for name, mask in masks.items()
        }
        if wanted := {name: masks[name] if histogram else None for name, key in keys.items() if key not in self._kept}:
            found = collect(
                graph.model, wanted, self.rows, self.inputs, pad_token_id=self.pad_token_id, folder=self.folder
            )
            self._kept.update({keys[name]: seen for name, seen in found.items()})
        return {name: dataclasses.replace(self._kept[key], kept=masks[name]) for name, key in keys.items()}
