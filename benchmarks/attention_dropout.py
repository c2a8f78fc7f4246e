"""What dropping attention weights would cost a step of fine-tuning: with it, by torch's kernel and by plain attention,
and without, in turns.

    python benchmarks/attention_dropout.py --base MODEL [--tokens 32 128 384] [--batch-size 16] [--threads 1]

`edgebert finetune` drops hidden states alone. A step is a forward and a backward pass of the base in training mode over
one batch, in the precision that training takes on this machine; a quarter of the rows is padding by a quarter.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from common import parser, write_json
from torch import Tensor

from edgebert.bundle import Bundle
from edgebert.distill.encoder import SentenceEncoder, load_encoder
from edgebert.distill.training import best_precision
from edgebert.table import show

ROUNDS = 5


def main() -> None:
    options = parser(__doc__, teacher=False, figures=True)
    options.add_argument("--base", required=True, help="folder or Hub id")
    options.add_argument("--tokens", type=int, nargs="+", default=[32, 128, 384])
    options.add_argument("--batch-size", type=int, default=16)
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    base, precision = Bundle.from_pretrained(given.base), best_precision("auto")
    encoders = [
        load_encoder(base, fused_attention=fused, attention_dropout=drops).train()
        for fused, drops in ((True, True), (False, True), (True, False))
    ]
    figures = []
    for tokens in given.tokens:
        with_it, plainly, without = in_turns(encoders, batch(given.batch_size, tokens), precision)
        figures.append(
            {
                "tokens": tokens,
                "with": statistics.median(with_it),
                "with, plain": statistics.median(plainly),
                "without": statistics.median(without),
                "times the speed": _times(with_it, without),
                "of plain": _times(plainly, without),
            }
        )
    show(list(figures[0]), [[f"{value:.3g}" for value in row.values()] for row in figures])
    write_json(
        given.json, {"base": given.base, "precision": precision, "batch_size": given.batch_size, "rows": figures}
    )


def _times(one: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def batch(rows: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask. Shape: (rows, tokens) each."""
    ids = torch.randint(1000, 20000, (rows, tokens), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[::4, tokens * 3 // 4 :] = 0
    return ids, mask


def in_turns(encoders: Sequence[SentenceEncoder], inputs: tuple[Tensor, Tensor], precision: str) -> list[list[float]]:
    """Seconds of every round's step, for each encoder, after one step that does not count."""
    found: list[list[float]] = [[] for _ in encoders]
    for _ in range(ROUNDS + 1):
        for encoder, seconds in zip(encoders, found, strict=True):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                vectors = encoder(*inputs).sentence_embedding
            vectors.float().square().mean().backward()
            seconds.append(time.perf_counter() - start)
            encoder.zero_grad()
    return [seconds[1:] for seconds in found]


if __name__ == "__main__":
    main()
