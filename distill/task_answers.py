"""What heads say of many rows, and how far two models say the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from edgebert.batching import length_batches, pad
from edgebert.distill.encoder import SentenceEncoder
from edgebert.manifest import Head
from edgebert.tasks.reading import Row, types_of

Answers = list[NDArray[np.float32]]


def answers_of(encoder: SentenceEncoder, place: int, rows: Sequence[Row], *, batch_size: int = 32) -> Answers:
    """The logits of the head at `place` for each row, computed in eval mode. Shape: as `Predictor.logits`."""
    device, training = next(encoder.parameters()).device, encoder.training
    encoder.eval()
    out: Answers = [np.empty(0, np.float32)] * len(rows)
    for batch in length_batches([len(row) for row in rows], batch_size):
        chosen = [rows[r] for r in batch]
        input_ids, mask = pad(chosen, 0)
        types = types_of(chosen, input_ids.shape)
        with torch.inference_mode():
            encoded = encoder(
                torch.from_numpy(input_ids).to(device), torch.from_numpy(mask).to(device),
                None if types is None else torch.from_numpy(types).to(device),
            )  # fmt: skip
        logits = encoded.logits[place].float().cpu().numpy()
        for i, row in enumerate(batch):
            out[row] = logits[i] if logits.ndim == 2 else logits[i, : len(rows[row])]
    encoder.train(training)
    return out


def agreed(ours: Answers, theirs: Answers, head: Head) -> float:
    """The share of equal answers: labels, tags of tokens, places of spans; of numbers Spearman's correlation."""
    if head.level == "text" and not head.labels:
        first, second = (np.array([logits[0] for logits in side]) for side in (ours, theirs))
        return 0.0 if np.ptp(first) == 0 or np.ptp(second) == 0 else float(spearmanr(first, second).statistic)
    if head.multi_label:
        return float(np.mean([(a > 0) == (b > 0) for a, b in zip(ours, theirs, strict=True)]))
    axis = 0 if head.level == "span" else -1
    equal = [a.argmax(axis=axis) == b.argmax(axis=axis) for a, b in zip(ours, theirs, strict=True)]
    if head.level == "token":
        return float(np.mean(np.concatenate([one[1:-1] for one in equal])))  # without [CLS] and [SEP]
    return float(np.mean([np.all(one) for one in equal]))
