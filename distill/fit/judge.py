"""What a student keeps of its teacher: agreement on held-out text, or the score on pairs that people judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.distill.agreement import agreement
from edgebert.distill.encoder import torch_embedder
from edgebert.distill.fit.kept import keep, read_kept
from edgebert.embedder import Embedder
from edgebert.files import new_file
from edgebert.quantize.task_gate import TaskGate


@dataclass(frozen=True)
class Scored:
    """A number, as it is kept."""

    value: float


@dataclass(frozen=True)
class Judge:
    """texts: held out of the training. dev: a file of text pairs with scores, None to compare with the teacher's
    vectors. What the teacher answers is kept in `folder`."""

    teacher: Bundle
    texts: Sequence[str]
    dev: Path | None
    folder: Path

    @property
    def metric(self) -> str:
        """The name of what it measures, as in a manifest."""
        return "agreement_spearman" if self.dev is None else "similarity_retention"

    @property
    def data(self) -> str:
        """On what, in words."""
        return f"{len(self.texts)} held-out sentences of the training text" if self.dev is None else self.dev.name

    def retention(self, model: Embedder) -> float:
        """Spearman's correlation of pairwise similarities with the teacher's; with `dev` the share of the teacher's
        correlation with the scores."""
        if self.dev is None:
            vectors = model.encode(list(self.texts), normalize_embeddings=False, prompt="")
            return float(np.nan_to_num(agreement(vectors, self._vectors).spearman))
        score = self._gate.judge(model).score
        assert score is not None
        return score / self._known

    @cached_property
    def _gate(self) -> TaskGate:
        return TaskGate("similarity", (str(self.dev),))

    @cached_property
    def _known(self) -> float:
        """The teacher's own score.

        Raises: DataError when it is not above 0.
        """
        path = self.folder / "teacher.json"
        if (found := read_kept(path, Scored)) is None:
            score = self._gate.reference(torch_embedder(self.teacher)).score
            assert score is not None
            found = Scored(score)
            keep(path, found)
        return found.value

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        path = self.folder / "teacher.npy"
        if not path.exists():
            teacher = torch_embedder(self.teacher)
            vectors = teacher.encode(list(self.texts), normalize_embeddings=False, prompt="")
            with new_file(path, replace=True) as partial, partial.open("wb") as stream:
                np.save(stream, vectors)
        kept: NDArray[np.float32] = np.load(path)
        return kept

    def prepare(self) -> None:
        """Finds out now what the teacher answers: what is wrong with the files is told before long work."""
        _ = self._vectors if self.dev is None else self._known
