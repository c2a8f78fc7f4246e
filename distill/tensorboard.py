"""A log that TensorBoard shows: only where it is asked for, as its package is large."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgebert.distill.history import Point
from edgebert.errors import MissingExtraError


class Board:
    """Writes points of training into `folder`.

    Raises: MissingExtraError when the package tensorboard is not installed.
    """

    def __init__(self, folder: Path, metric: str = "agreement") -> None:
        self.metric = metric
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter
        self._writer = writer(str(folder))

    def write(self, point: Point, *, learning_rate: float | None) -> None:
        """One value a curve that has one; it is on disk at once, as a run may be killed."""
        values = {
            "loss": point.loss, self.metric: point.score, f"{self.metric}_int8": point.score_int8,
            "learning_rate": learning_rate,
        }  # fmt: skip
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"training/{name}", value, point.step)
        self._writer.flush()

    def close(self) -> None:
        """Ends the log."""
        self._writer.close()


def require_tensorboard() -> None:
    """Raises MissingExtraError when the package tensorboard is not installed."""
    if find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "tensorboard", "a TensorBoard log (--tensorboard)")
