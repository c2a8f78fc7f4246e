"""Pairs of texts that belong together, such as question and answer, for the contrastive objective."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgebert.batching import pad
from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_tokenizer
from edgebert.distill.ragged import Ragged, RaggedWriter
from edgebert.errors import DataError
from edgebert.files import sha256
from edgebert.texts import read_rows

_CHUNK = 4096
# What sentence-transformers models call the prompts of the two sides.
_PROMPTS = (("query",), ("passage", "document", "corpus"))


class Pairs:
    """Token ids of anchors and positives: rows 2i and 2i + 1 of `ids`; `keys` tells which texts are the same.

    Shape: keys (pairs, 2).
    """

    def __init__(self, path: Path) -> None:
        self.ids = Ragged(path)
        self.keys: NDArray[np.uint64] = np.fromfile(path.with_suffix(".keys"), np.uint64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.keys)

    def draw(self, rows: Sequence[int], pad_token_id: int) -> dict[str, Tensor]:
        """As many pairs as the batch has rows, at least two; the same rows draw the same ones, so that a run goes on.

        Shape: pair_ids and pair_mask (2 * pairs, seq_len), anchors first; pair_same (pairs, pairs).
        """
        count = min(max(2, len(rows)), len(self))
        chosen = np.random.default_rng(np.asarray(rows, np.uint64)).choice(len(self), count, replace=False)
        input_ids, mask = pad([self.ids[row] for row in (*(2 * chosen), *(2 * chosen + 1))], pad_token_id)
        keys = self.keys[chosen]
        same = (keys[:, None, :, None] == keys[None, :, None, :]).any(axis=(-1, -2))
        tensors = {"pair_ids": input_ids, "pair_mask": mask, "pair_same": same}
        return {name: torch.from_numpy(array) for name, array in tensors.items()}


def prepare_pairs(
    paths: Sequence[str | Path], columns: Sequence[str], model: Bundle, path: Path, *, max_length: int
) -> Pairs:
    """The pairs of JSONL, CSV, TSV or Parquet files, tokenized into `path` by the student's tokenizer.

    columns: of the anchor and the positive. Blank cells are left out; prompts called "query" and "passage" or
    "document" are put before the texts where the student has them.
    Raises: DataError when a column is missing, a cell is no text, or fewer than two pairs are left.
    """
    if not (done := path.with_suffix(".done")).exists():
        count = _write(_rows(paths, columns), model, path, max_length)
        if count < 2:
            raise DataError(f"{', '.join(map(str, paths))}: {count} pairs are too few: at least 2 are needed")
        done.write_text(str(count), encoding="ascii")
    return Pairs(path)


def pairs_fingerprint(paths: Sequence[str | Path]) -> list[str]:
    """The SHA-256 of each file.

    Raises: DataError when one is missing.
    """
    for path in map(Path, paths):
        if not path.is_file():
            raise DataError(f"no such file: {path}")
    return [sha256(Path(path)) for path in paths]


def _rows(paths: Sequence[str | Path], columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        for number, row in enumerate(read_rows(path), start=1):
            for column in columns:
                if column not in row:
                    raise DataError(
                        f"{path} has no column {column!r}; it has {', '.join(map(repr, row))}: pairs need the columns "
                        f"{' and '.join(map(repr, columns))} (data.pair_columns of the recipe)"
                    )
                if not isinstance(row[column], str):
                    raise DataError(
                        f"{path}: row {number}, column {column!r} holds {row[column]!r:.80} and must hold text"
                    )
            anchor, positive = (" ".join(row[column].split()) for column in columns)
            if anchor and positive:
                yield anchor, positive


def _write(pairs: Iterable[tuple[str, str]], model: Bundle, path: Path, max_length: int) -> int:
    tokenizer, known, count = load_tokenizer(model, max_length=max_length), model.manifest.prompts, 0
    prompts = [next((known[name] for name in names if name in known), "") for names in _PROMPTS]
    pairs = iter(pairs)
    with RaggedWriter(path, np.int32) as ids, path.with_suffix(".keys").open("wb") as keys:
        while chunk := list(islice(pairs, _CHUNK)):
            texts = [text for pair in chunk for text in pair]
            for tokens in tokenizer([prompts[i % 2] + text for i, text in enumerate(texts)]):
                ids.append(tokens.ids)
            for text in texts:
                keys.write(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())
            count += len(chunk)
    return count
