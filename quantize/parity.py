"""How near an artifact comes to torch in fp32: every length, some batches, ordinary and degenerate text, the task."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from edgebert.bundle import Bundle
from edgebert.distill.agreement import agreement
from edgebert.embedder import Embedder
from edgebert.engines import open_engine
from edgebert.errors import BudgetError, RecipeError
from edgebert.golden import Worst, prove, read_golden
from edgebert.manifest import Parity
from edgebert.progress import Progress
from edgebert.quantize.reference import Reference
from edgebert.quantize.task_gate import Judged, TaskGate
from edgebert.vectors import row_cosines


@dataclass(frozen=True)
class Gates:
    """What int8 artifacts must reach: least cosine on ordinary and on degenerate text, least agreement.

    The agreement is that of vectors; of a model scored at its task that of its answers, which may change on few
    examples without a change of the score.
    Raises: RecipeError for a value that is not within 0 to 1.
    """

    min_cosine: float = 0.97
    min_degenerate: float = 0.95
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
class Measured:
    """What was found out about one artifact.

    fault: what is below the cosine gates, "" when nothing. retention: the share kept of torch fp32's score. lengths:
    (tokens, kind of text, cosine) of single texts. answers: the agreement of a task's answers with torch fp32's; own:
    the same on text without labels, which gates nothing: near a tie another answer may be as good.
    """

    parity: Parity
    fault: str
    retention: float
    lengths: tuple[tuple[int, str, float], ...]
    answers: float | None = None
    own: float | None = None

    @property
    def agreement(self) -> float | None:
        """Of answers where a task was scored, else of vectors.

        Those of a model that tells two labels apart may lie in two heaps, within which their order says nothing.
        """
        return self.parity.agreement if self.answers is None else self.answers

    def faults(self, gates: Gates, task: TaskGate | None) -> str:
        """Everything that is below a gate, in words, "" when nothing."""
        told = []
        if self.fault:
            same = "" if self.answers is None else f" (of vectors; its answers agree to {self.answers:.4f})"
            told.append(f"{self.fault}{same}")
        if self.agreement is not None and not self.agreement >= gates.min_agreement:
            told.append(f"agreement {self.agreement:.4f}, at least {gates.min_agreement} is needed")
        if task is not None and not self.retention >= task.min_retention:
            told.append(f"keeps {self.retention:.4f} of the {task.metric}, at least {task.min_retention} is needed")
        return "; ".join(told)


def measure(
    bundle: Bundle, name: str, known: Reference, task: TaskGate | None = None, progress: Progress | None = None
) -> Measured:
    """What the artifact `name` of `bundle` is worth.

    Raises: EngineError when the engine fails.
    """
    progress = progress or Progress()
    artifact, golden, lengths = bundle.manifest.artifacts[name], read_golden(bundle), []
    progress.start(f"check {name}", len(known.probes))
    with contextlib.closing(open_engine(bundle, name)) as engine:
        worst: Worst = prove(engine, golden, bundle)
        for probe, answer in zip(known.probes, known.answers, strict=True):
            vectors = probe.run(engine, bundle.manifest.pad_token_id)
            worst.add(vectors, answer, probe.kinds, probe.where)
            if len(probe.rows) == 1 and vectors.shape == answer.shape:
                lengths.append((len(probe.rows[0]), str(probe.kinds[0]), float(row_cosines(vectors, answer)[0])))
            progress.advance()
        model = Embedder(bundle, engine)
        sentences = model.encode(list(known.texts), normalize_embeddings=False, prompt="")
        judged = task.judge(model) if task is not None else Judged()
        own = known.own.agreement(model) if known.own is not None else None
    worst.add(sentences, known.sentences, ["ordinary"] * len(known.texts), "the calibration file's own text")
    kept = agreement(sentences, known.sentences).spearman
    parity = Parity(
        ordinary_min=worst.cosine["ordinary"],
        ordinary_mean=worst.mean("ordinary"),
        degenerate_min=worst.cosine["degenerate"],
        degenerate_mean=worst.mean("degenerate"),
        agreement=kept,
    )
    score, before = judged.score, known.judged.score
    same = judged.agreement(known.judged) if task is not None else None
    agreed = kept if own is None else own
    retention = agreed if score is None or before is None else score / before
    return Measured(parity, worst.fault(artifact, golden.max_error), retention, tuple(lengths), same, own)


def require(faults: dict[str, str]) -> None:
    """Raises BudgetError, naming each artifact and what is wrong with it, unless there are no faults."""
    told = [f"{name}: {fault}" for name, fault in faults.items() if fault]
    if told:
        raise BudgetError(
            f"not accurate enough, nothing was written. {'; '.join(told)}. Give more like the text to come as "
            "--calibration, or accept less with --min-cosine, --min-degenerate, --min-agreement or --min-retention"
        )
