"""Early stopping: the best student so far lies beside the checkpoints, named by its step."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch import nn

from edgebert.distill.history import History, Point
from edgebert.files import new_file


def agreed(first: bool) -> bool:
    """What the first process says, in every process: they stop at the same step or wait for each other for ever."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return first
    said: list[bool] = broadcast_object_list([first])
    return said[0]


def any_of(here: bool) -> bool:
    """Whether it is so in any of the processes, the same answer in all: a Ctrl-C reaches them at unlike moments."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return here
    return bool(reduce(torch.tensor(float(here), device=PartialState().device), reduction="sum").item())


def keep_best(folder: Path, model: nn.Module, point: Point) -> None:
    """Writes the model as the best one so far."""
    with new_file(_path(folder, point), replace=True) as partial:
        torch.save(model.state_dict(), partial)


def prune_best(folder: Path, history: History) -> None:
    """Removes those that a newer one has beaten; to be called when a checkpoint holds `history`."""
    if (best := history.best) is not None:
        for path in folder.glob("best-*.pt"):
            if path != _path(folder, best):
                path.unlink()


def take_best(folder: Path, model: nn.Module, history: History) -> None:
    """Loads the best one into `model` in the first process, whose student is the one that is written, and in all."""
    best = history.best
    state = torch.load(_path(folder, best), weights_only=True, map_location="cpu") if best is not None else None
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        (state,) = broadcast_object_list([state])
    if state is not None:
        model.load_state_dict(state)


def _path(folder: Path, point: Point) -> Path:
    return folder / f"best-{point.step}.pt"
