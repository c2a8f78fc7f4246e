"""What torch in float32 answers: the measure of every artifact."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.bundle import Bundle
from edgebert.embedder import Embedder
from edgebert.engines.base import Vectors
from edgebert.golden import read_golden
from edgebert.probes import Probe, length_probes
from edgebert.progress import Progress
from edgebert.quantize.own_answers import OwnAnswers
from edgebert.quantize.task_gate import Judged
from edgebert.tokenizer import Tokenizer

_SAMPLE_STEP = 8
_TIMED_TOKENS = 16_384
_FEWEST_TIMED, _MOST_TIMED = 32, 256  # texts; the fewest are one batch


@dataclass(frozen=True)
class Reference:
    """Inputs and torch's answers. Shapes: answers[i] (rows of probe i, dimension); sentences (texts, dimension).

    texts: text that calibration did not see. judged: torch at the task. own: what it answers without labels.
    timed: texts to time with.
    """

    probes: tuple[Probe, ...]
    answers: tuple[Vectors, ...]
    texts: tuple[str, ...]
    sentences: Vectors
    judged: Judged
    own: OwnAnswers | None = None
    timed: tuple[str, ...] = ()

    def sample(self) -> Reference:
        """Every eighth length, the shortest ones and all batches: enough to tell a recipe that fails."""
        kept = [
            i
            for i, probe in enumerate(self.probes)
            if len(probe.rows) > 1 or probe.width <= _SAMPLE_STEP or probe.width % _SAMPLE_STEP == 0
        ]
        return dataclasses.replace(
            self, probes=tuple(self.probes[i] for i in kept), answers=tuple(self.answers[i] for i in kept)
        )


def reference(
    torch_model: Embedder,
    bundle: Bundle,
    texts: Sequence[str],
    progress: Progress,
    *,
    judged: Judged,
    own: OwnAnswers | None,
) -> Reference:
    """Torch's vectors for inputs of every length, made from the golden cases of `bundle`, and for `texts`."""
    from edgebert.distill.encoder import TorchEngine, encode_ids

    golden, pad_token_id = read_golden(bundle), bundle.manifest.pad_token_id
    engine = torch_model.opened
    assert isinstance(engine, TorchEngine)
    probes = tuple(length_probes(golden.cases, bundle.manifest.max_length, every=True, exact=True))
    progress.start("torch fp32, the reference", len(probes))
    answers = []
    for probe in probes:
        answers.append(encode_ids(engine.encoder, probe.rows, pad_token_id))
        progress.advance()
    sentences = torch_model.encode(list(texts), normalize_embeddings=False, prompt="")
    timed = timed_texts(texts, torch_model.tokenizer)
    return Reference(probes, tuple(answers), tuple(texts), sentences, judged, own, timed)


def timed_texts(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[str, ...]:
    """As many of the texts, in turns, as have so many tokens together: long ones would be timed for a quarter of an
    hour."""
    mean = sum(len(tokens.ids) for tokens in tokenizer(list(texts))) / len(texts)
    count = min(_MOST_TIMED, max(_FEWEST_TIMED, round(_TIMED_TOKENS / mean)))
    return tuple(itertools.islice(itertools.cycle(texts), count))
