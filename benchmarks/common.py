"""What the benchmarks share: where the data lies, sentence pairs, and a model's correlation on them."""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.evaluate import similarity_scores
from edgebert.models import open_model
from edgebert.texts import read_rows
from edgebert.vectors import Vectors, row_cosines
from edgebert.version import VERSION


def parser(
    description: str | None, *, teacher: bool = True, bundle: bool = False, figures: bool = False
) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark, `--teacher` of most, and of some `--bundle` and `--json`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=os.environ.get("EDGEBERT_DATA"), help="default: EDGEBERT_DATA")
    if teacher:
        made.add_argument("--teacher", required=True, help="folder or Hub id of sentence-transformers/all-MiniLM-L6-v2")
    if bundle:
        made.add_argument("--bundle", type=Path, required=True)
    if figures:
        made.add_argument("--json", type=Path, help="write all figures to this file")
    return made


def write_json(path: Path | None, figures: object) -> None:
    """Writes `figures` to the file that `--json` names, if it names one."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def data_file(folder: Path | None, name: str) -> Path:
    """The file `name` of the data folder; ends the program with a clear message when it is missing."""
    if folder is None:
        sys.exit("say where the data sets lie: --data FOLDER or EDGEBERT_DATA")
    path = Path(folder) / name
    if not path.exists():
        sys.exit(f"{path} is missing; this benchmark needs it")
    return path


def kept_at(work: Path, teacher: str, *facts: object) -> Path:
    """Where a student of `teacher` lies in the work folder: a name made of what it depends on, the version among it."""
    whole = json.dumps([_fingerprint(teacher), VERSION, *map(str, facts)])
    return work / hashlib.sha256(whole.encode()).hexdigest()[:16]


@functools.cache
def _fingerprint(teacher: str) -> str:
    from edgebert.distill.teacher import fingerprint  # not above: most benchmarks need no torch

    return fingerprint(Bundle.from_pretrained(teacher))


@dataclass(frozen=True)
class Pairs:
    """The sentences of a similarity test, the first of every pair and then the second, and people's scores."""

    texts: list[str]
    scores: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Pairs:
        """The pairs of a file with columns text, text_pair and score."""
        rows = list(read_rows(path))
        texts = [row[key] for key in ("text", "text_pair") for row in rows]
        return cls(texts, np.array([float(row["score"]) for row in rows]))

    def spearman(self, vectors: Vectors) -> float:
        """Spearman correlation, times 100, of cosines with the scores. Shape: vectors (len(texts), dim)."""
        from scipy.stats import spearmanr

        half = len(self.scores)
        return 100 * float(spearmanr(row_cosines(vectors[:half], vectors[half:]), self.scores).statistic)


def similarity(model: str | Path, pairs: Path, *, engine: str = "torch", precision: str = "fp32") -> float:
    """The Spearman correlation, times 100, of the model on the pairs of texts in `pairs`."""
    with open_model(model, engine=engine, precision=precision) as encoder:
        return 100 * similarity_scores(encoder, pairs)[0].value
