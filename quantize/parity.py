"""How near every artifact comes to torch in fp32: every length, several batches, ordinary and degenerate text."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebert.bundle import Bundle
from edgebert.distill.agreement import agreement
from edgebert.distill.encoder import SentenceEncoder, encode_ids
from edgebert.embedder import Embedder
from edgebert.engines import open_engine
from edgebert.engines.base import Vectors
from edgebert.errors import BudgetError, RecipeError
from edgebert.golden import Worst, prove, read_golden
from edgebert.manifest import Parity
from edgebert.probes import Probe, length_probes
from edgebert.progress import Progress


@dataclass(frozen=True)
class Gates:
    """What int8 artifacts must reach: least cosine on ordinary and on degenerate text, least agreement.

    Raises: RecipeError for a value that is not within 0 to 1.
    """

    min_cosine: float = 0.97
    min_degenerate: float = 0.93
    min_agreement: float = 0.98

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise RecipeError(f"{name} is {value}; it must be within 0 to 1")

    @property
    def cosines(self) -> dict[str, float]:
        """As the manifest names them."""
        return {"ordinary": self.min_cosine, "degenerate": self.min_degenerate}


@dataclass(frozen=True)
class Reference:
    """Inputs and torch's answers. Shapes: answers[i] (rows of probe i, dimension); sentences (texts, dimension)."""

    probes: tuple[Probe, ...]
    answers: tuple[Vectors, ...]
    texts: tuple[str, ...]
    sentences: Vectors


def reference(
    encoder: SentenceEncoder, torch_model: Embedder, bundle: Bundle, texts: Sequence[str], progress: Progress
) -> Reference:
    """Torch's vectors for inputs of every length, made from the golden cases of `bundle`, and for `texts`."""
    golden, pad_token_id = read_golden(bundle), bundle.manifest.pad_token_id
    probes = tuple(length_probes(golden.cases, bundle.manifest.max_length, every=True, exact=True))
    progress.start("torch fp32, the reference", len(probes))
    answers = []
    for probe in probes:
        answers.append(encode_ids(encoder, probe.rows, pad_token_id))
        progress.advance()
    sentences = torch_model.encode(list(texts), normalize_embeddings=False, prompt="")
    return Reference(probes, tuple(answers), tuple(texts), sentences)


def measure(bundle: Bundle, name: str, known: Reference, progress: Progress) -> tuple[Parity, str]:
    """The parity of the artifact `name`, and what is below its gates in words, "" when nothing.

    Raises: EngineError when the engine fails.
    """
    artifact, golden = bundle.manifest.artifacts[name], read_golden(bundle)
    progress.start(f"check {name}", len(known.probes))
    with contextlib.closing(open_engine(bundle, name)) as engine:
        worst: Worst = prove(engine, golden, bundle)
        for probe, answer in zip(known.probes, known.answers, strict=True):
            worst.add(probe.run(engine, bundle.manifest.pad_token_id), answer, probe.kinds, probe.where)
            progress.advance()
        sentences = Embedder(bundle, engine).encode(list(known.texts), normalize_embeddings=False, prompt="")
        worst.add(sentences, known.sentences, ["ordinary"] * len(known.texts), "the calibration file's own text")
    parity = Parity(
        ordinary_min=worst.cosine["ordinary"],
        ordinary_mean=worst.mean("ordinary"),
        degenerate_min=worst.cosine["degenerate"],
        degenerate_mean=worst.mean("degenerate"),
        agreement=agreement(sentences, known.sentences).spearman,
    )
    return parity, worst.fault(artifact, golden.max_error)


def require(faults: Mapping[str, str], parities: Mapping[str, Parity], gates: Gates) -> None:
    """Raises BudgetError, naming each artifact and the worst place, unless all gates hold."""
    told = [f"{name}: {fault}" for name, fault in faults.items() if fault]
    told += [
        f"{name}: agreement {parity.agreement:.4f}, at least {gates.min_agreement} is needed"
        for name, parity in parities.items()
        if parity.agreement is not None and not parity.agreement >= gates.min_agreement
    ]
    if told:
        raise BudgetError(
            f"not accurate enough, nothing was written. {'; '.join(told)}. Give more like the text to come as "
            "--calibration, or accept less with --min-cosine, --min-degenerate or --min-agreement"
        )
