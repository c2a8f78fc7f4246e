"""What the inputs of linear layers look like on calibration text, in memory that does not grow with the text.

Of every tensor: least and largest value and mean of each channel, and a histogram of the values of all channels asked
for. A histogram that must reach further doubles its bins, two and two becoming one, so nothing is kept of the texts
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgebert.batching import length_batches, pad
from edgebert.engines.base import feed
from edgebert.engines.quiet import quiet_import

BINS = 4096
_BATCH_TOKENS = 1024  # tokens in one run, so that the memory of a run is bounded too


def _nothing() -> NDArray[np.float64]:
    return np.empty(0)


@dataclass
class Activation:
    """One tensor's statistics. Shape: least, most, total (channels,), float64; counts (BINS,) over -limit to limit.

    kept: the channels whose values count for the histogram and its range, all where it is None. Shape: (channels,).
    """

    channels: int
    kept: NDArray[np.bool_] | None = None
    count: int = 0
    limit: float = 0.0
    least: NDArray[np.float64] = field(default_factory=_nothing)
    most: NDArray[np.float64] = field(default_factory=_nothing)
    total: NDArray[np.float64] = field(default_factory=_nothing)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def __post_init__(self) -> None:
        if not len(self.least):
            self.least, self.most = np.full(self.channels, np.inf), np.full(self.channels, -np.inf)
            self.total = np.zeros(self.channels)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Shape: (channels,)."""
        return self.total / max(self.count, 1)

    @property
    def largest(self) -> NDArray[np.float64]:
        """The largest absolute value of each channel. Shape: (channels,)."""
        return np.maximum(np.abs(self.least), np.abs(self.most))

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest value of the channels that are kept."""
        kept = slice(None) if self.kept is None else self.kept
        return float(self.least[kept].min(initial=0.0)), float(self.most[kept].max(initial=0.0))

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bounds of the bins. Shape: (BINS + 1,)."""
        return np.linspace(-self.limit, self.limit, BINS + 1)

    def without(self, channels: NDArray[np.int64]) -> Activation:
        """The same with those channels not kept."""
        kept = np.ones(self.channels, bool) if self.kept is None else self.kept.copy()
        kept[channels] = False
        return replace(self, kept=kept)

    def add(self, values: NDArray[np.float32]) -> None:
        """Takes in rows. Shape: (rows, channels)."""
        self.count += len(values)
        self.least = np.minimum(self.least, values.min(axis=0))
        self.most = np.maximum(self.most, values.max(axis=0))
        self.total += values.sum(axis=0, dtype=np.float64)
        values = values if self.kept is None else values[:, self.kept]
        self._reach(float(np.abs(values).max(initial=0.0)))
        if not self.limit:  # nothing but zeros so far, which lie in this bin for every limit
            self.counts[BINS // 2] += values.size
        else:
            self.counts += np.histogram(values, BINS, (-self.limit, self.limit))[0]

    def _reach(self, value: float) -> None:
        if value and not self.limit:
            self.limit = float(2.0 ** np.ceil(np.log2(value)))
        while self.limit and value > self.limit:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 4, np.int64), merged, np.zeros(BINS // 4, np.int64)])
            self.limit *= 2


def collect(
    model: onnx.ModelProto,
    tensors: Mapping[str, NDArray[np.bool_] | None],
    rows: Sequence[tuple[int, ...]],
    inputs: Sequence[str],
    *,
    pad_token_id: int,
    folder: Path,
) -> dict[str, Activation]:
    """The statistics of the graph's `tensors`, by ONNX Runtime in float32; padding is left out of them.

    tensors: name -> the channels to keep for the histogram, None for all. rows: token ids. inputs: the graph's input
    names. folder: for a temporary copy of the model.
    """
    names = list(tensors)
    found: dict[str, Activation] = {}
    session = _session(model, names, folder)
    for input_ids, mask in _batches(rows, pad_token_id):
        for name, value in zip(names, session.run(names, feed(tuple(inputs), input_ids, mask)), strict=True):
            values = value[mask == 1] if value.ndim == 3 else value
            found.setdefault(name, Activation(values.shape[-1], tensors[name])).add(values)
    return found


def _batches(
    rows: Sequence[tuple[int, ...]], pad_token_id: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of like length together, so that little of a batch is padding."""
    for chosen in length_batches([len(row) for row in rows], 32):
        batch = [rows[i] for i in chosen]
        size = max(1, _BATCH_TOKENS // len(batch[0]))
        for start in range(0, len(batch), size):
            yield pad(batch[start : start + size], pad_token_id)


def _session(model: onnx.ModelProto, outputs: Sequence[str], folder: Path) -> Any:
    """A session on `model` that gives those tensors; no second copy of the model stands in memory meanwhile."""
    ort = quiet_import("onnxruntime")
    own, path = list(model.graph.output), folder / "observed.onnx"
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    try:
        onnx.save(model, path)
    finally:
        del model.graph.output[:]
        model.graph.output.extend(own)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    finally:
        path.unlink()
