"""Golden inputs and outputs: what a bundle must answer, and by which every engine on every machine proves itself.

They are written when a bundle is quantized, from torch in fp32, and read wherever it is loaded or verified.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgebert.batching import ladder, pad
from edgebert.bundle import Bundle
from edgebert.engines.base import Engine, Hint, Vectors
from edgebert.engines.static_ladder import StaticLadder
from edgebert.errors import BundleError
from edgebert.manifest import Artifact, Head
from edgebert.manifest import Golden as GoldenFiles
from edgebert.probability import probabilities
from edgebert.tasks import reads_two
from edgebert.tokenizer import Tokenizer
from edgebert.vectors import row_cosines

Kind = Literal["ordinary", "degenerate"]
_BATCH_TOKENS = 64
_EMPTY = 2  # tokens of the empty text: one special token before and one behind
MIN_COSINE: Mapping[str, float] = {"ordinary": 0.97, "degenerate": 0.93}
# Mean difference of heads' probabilities to torch fp32: of an fp32 artifact, in bf16 or f16, and of an int8 one.
HEAD_ERROR, HEAD_ERROR_HALF, HEAD_ERROR_INT8 = 1e-3, 0.03, 0.1
HEAD_FAR, _FAR = 0.05, 0.5  # the share of golden cases whose difference may be above that
_LEAST_SPREAD = 0.05  # of golden numbers, as a share of the greatest: those of like texts are nearly one
MIN_COSINE_HALF = 0.995  # of an fp32 artifact in bf16 or f16, on text of either kind


@dataclass(frozen=True)
class Case:
    """A text, the token ids it must give, special tokens included, and what kind of text it is."""

    text: str
    input_ids: tuple[int, ...]
    kind: Kind


@dataclass(frozen=True)
class Golden:
    """The cases and their vectors by torch in fp32. Shape: vectors (len(cases), dimension), float32.

    logits: what each of the bundle's heads says of every case. Shape: of one (labels,) or (tokens, labels).
    two_texts: they said it of two texts, see `segments`.
    """

    cases: tuple[Case, ...]
    vectors: Vectors
    max_error: float
    logits: tuple[tuple[NDArray[np.float32], ...], ...] = ()
    two_texts: bool = False


def read_golden(bundle: Bundle) -> Golden:
    """The golden cases of `bundle`.

    Raises: BundleError when it has none or they cannot be read.
    """
    fact = bundle.manifest.golden
    if fact is None:
        raise BundleError(f"{bundle.source} has no golden vectors to prove an engine with: run `edgebert quantize`")
    path = cases_path = bundle.path(fact.cases)
    try:
        cases = tuple(
            Case(str(case["text"]), tuple(map(int, case["input_ids"])), _kind(case["kind"]))
            for case in json.loads(path.read_text(encoding="utf-8"))
        )
        path = bundle.path(fact.vectors)
        with path.open("rb") as stream:
            vectors = np.lib.format.read_array(stream, allow_pickle=False).astype(np.float32)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as problem:
        raise BundleError(f"{path} holds no golden cases that can be read: {problem}") from None
    if vectors.shape != (len(cases), bundle.manifest.dimension) or not cases:
        raise BundleError(
            f"{path}: vectors of shape {vectors.shape} do not fit {len(cases)} golden cases "
            f"of dimension {bundle.manifest.dimension}"
        )
    if all(len(case.input_ids) <= _EMPTY for case in cases):
        raise BundleError(
            f"{cases_path}: no golden case has more than {_EMPTY} token ids; one at least must, to make texts of "
            "every length from it"
        )
    if not np.isfinite(vectors).all():
        raise BundleError(f"{path}: the golden vectors hold NaN or infinite values")
    logits = tuple(_logits(bundle, head, fact, cases) for head in bundle.manifest.heads)
    two = reads_two(bundle.manifest.heads) if fact.two_texts is None else fact.two_texts
    return Golden(cases, vectors, fact.max_error, logits, two)


def _logits(bundle: Bundle, head: Head, fact: GoldenFiles, cases: Sequence[Case]) -> tuple[NDArray[np.float32], ...]:
    """What the head says of each case. Raises: BundleError when there is nothing that can be read."""
    if head.name not in fact.logits:
        raise BundleError(f"{bundle.source} has no golden logits of its head {head.name!r}: run `edgebert quantize`")
    path = bundle.path(fact.logits[head.name])
    try:
        with path.open("rb") as stream:
            found = np.lib.format.read_array(stream, allow_pickle=False).astype(np.float32)
    except (OSError, EOFError, ValueError) as problem:
        raise BundleError(f"{path} holds no golden logits that can be read: {problem}") from None
    sizes = [1 if head.level == "text" else len(case.input_ids) for case in cases]
    if found.ndim != 2 or len(found) != sum(sizes) or not np.isfinite(found).all():
        raise BundleError(f"{path}: logits of shape {found.shape} do not fit {len(cases)} golden cases")
    parts = np.split(found, np.cumsum(sizes)[:-1])
    return tuple(part[0] if head.level == "text" else part for part in parts)


def gate(artifact: Artifact, kind: Kind, *, max_error: float, hint: Hint = "f32") -> float:
    """The least cosine to torch fp32 that vectors of `artifact` under `hint` must have on texts of that kind.

    An int8 artifact has its own gates under any hint: what it loses there is lost in int8 first.
    """
    if artifact.precision == "fp32":
        return 1.0 - max_error if hint == "f32" else MIN_COSINE_HALF
    return artifact.min_cosine.get(kind, MIN_COSINE[kind])


def tokenizer_fault(tokenizer: Tokenizer, golden: Golden) -> str:
    """What `tokenizer` reads otherwise than the golden cases say, "" when nothing."""
    for case, tokens in zip(golden.cases, tokenizer([c.text for c in golden.cases]), strict=True):
        if tuple(tokens.ids) != case.input_ids:
            return (
                f"the tokenizer gives {tokens.ids[:12]} for {case.text[:40]!r} and must give {[*case.input_ids[:12]]}"
            )
    return ""


class _HeadError:
    """How far a head's answers are from the golden ones: see `add`."""

    def __init__(self, head: Head, golden: Sequence[NDArray[np.float32]]) -> None:
        self.head, self.found = head, list[float]()
        means = [float(part.mean()) for part in golden]
        self._spread = max(float(np.std(means)), _LEAST_SPREAD * float(np.abs(means).max(initial=0)), 1e-6)

    def add(self, got: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
        """The greatest difference of a label's probability, the mean over tokens; of numbers the difference, the
        golden ones' standard deviation being 1. Shape: (labels,) or (tokens, labels) of both; another one, or what is
        not finite, makes the mean infinite.
        """
        if got.shape != wanted.shape or not np.isfinite(got).all():
            self.found.append(math.inf)
        elif self.head.level == "text" and not self.head.labels:
            self.found.append(float(np.abs(got - wanted).max()) / self._spread)
        else:
            axis = 0 if self.head.level == "span" else -1
            ours, theirs = (probabilities(one, self.head, axis=axis) for one in (got, wanted))
            difference = np.abs(ours - theirs).max(axis=-1)
            self.found.append(float(difference.max() if self.head.level == "span" else difference.mean()))

    @property
    def mean(self) -> float:
        """Over all answers."""
        return float(np.mean(self.found)) if self.found else 0.0

    def fault(self, most: float) -> str:
        """What is wrong where the mean may be `most`, "" when nothing."""
        if not self.mean <= most:
            return (
                f"the head {self.head.name!r} is {self.mean:.4g} from its golden answers, at most {most:g} is allowed"
            )
        far = sum(not one <= _FAR for one in self.found)
        if far > HEAD_FAR * len(self.found):
            return (
                f"the head {self.head.name!r} answers {far} of {len(self.found)} golden cases otherwise (more than "
                f"{_FAR} from them), at most {HEAD_FAR:.0%} are allowed"
            )
        return ""


class Worst:
    """The least cosine to the reference met so far for each kind of text, where that was, and the mean."""

    def __init__(self) -> None:
        self.cosine: dict[Kind, float] = {}
        self.heads: list[_HeadError] = []
        self._all: dict[Kind, list[float]] = {}
        self._where: dict[Kind, str] = {}

    def add(self, vectors: Vectors, reference: Vectors, kinds: Sequence[Kind], where: str) -> None:
        """Takes in a batch. Shape: vectors and reference (len(kinds), dimension); anything else counts as -1."""
        if vectors.shape != reference.shape:
            where = f"{where}: vectors of shape {vectors.shape} instead of {reference.shape}"
            found = np.full(len(kinds), -1.0)
        else:
            found = np.nan_to_num(row_cosines(vectors, reference), nan=-1.0)
        for cosine, kind in zip(found.tolist(), kinds, strict=True):
            self._all.setdefault(kind, []).append(cosine)
            if cosine < self.cosine.get(kind, 2.0):
                self.cosine[kind], self._where[kind] = cosine, where

    def mean(self, kind: Kind) -> float:
        """The mean cosine on that kind of text, of which there must have been some."""
        return float(np.mean(self._all[kind]))

    def fault(self, artifact: Artifact, max_error: float, hint: Hint = "f32") -> str:
        """What is below the gates of the artifact under `hint`, "" when nothing."""
        faults = [
            f"cosine {cosine:.6f} on {kind} text ({self._where[kind]}), at least {wanted:.6g} is needed"
            for kind, cosine in self.cosine.items()
            if not cosine >= (wanted := gate(artifact, kind, max_error=max_error, hint=hint))
        ]
        most = HEAD_ERROR if artifact.precision == "fp32" else HEAD_ERROR_INT8
        most = HEAD_ERROR_HALF if artifact.precision == "fp32" and hint != "f32" else most
        faults += filter(None, (one.fault(most) for one in self.heads))
        return "; ".join(faults)


def prove(engine: Engine, golden: Golden, bundle: Bundle) -> Worst:
    """How near `engine` comes to the golden vectors: every case alone, padded as the runtime pads, then in a batch.

    The batch leaves out the longest cases: it would be as wide as the longest, and a first load would take seconds.
    Of a ladder every rung is tried too, whichever lengths the cases have.

    Raises: EngineError when the engine fails.
    """
    manifest, worst = bundle.manifest, Worst()
    for i, case in enumerate(golden.cases):
        width = ladder(len(case.input_ids), manifest.max_length)
        vectors = engine.embed(*pad([case.input_ids], manifest.pad_token_id, to=width))
        worst.add(vectors, golden.vectors[i : i + 1], [case.kind], f"golden case {i}, {len(case.input_ids)} tokens")
    short = [i for i, case in enumerate(golden.cases) if len(case.input_ids) <= _BATCH_TOKENS]
    ids, kinds = [golden.cases[i].input_ids for i in short], [golden.cases[i].kind for i in short]
    if short:
        width = ladder(max(map(len, ids)), manifest.max_length)
        vectors = engine.embed(*pad(ids, manifest.pad_token_id, to=width))
        worst.add(vectors, golden.vectors[short], kinds, f"{len(ids)} golden cases in a batch")
    if isinstance(engine, StaticLadder):
        _prove_rungs(engine, golden, worst)
    if golden.logits:
        _prove_heads(engine, golden, bundle, worst, short)
    return worst


def segments(length: int) -> list[int]:
    """The segments that golden logits of a model of pairs or answers are computed with: the second half is a second
    text."""
    return [0] * (length // 2) + [1] * (length - length // 2)


def _prove_heads(engine: Engine, golden: Golden, bundle: Bundle, worst: Worst, short: Sequence[int]) -> None:
    """What each head says of every case alone, and of the `short` ones in a batch."""
    manifest = bundle.manifest
    worst.heads = [_HeadError(head, wanted) for head, wanted in zip(manifest.heads, golden.logits, strict=True)]
    for cases in [*([i] for i in range(len(golden.cases))), short]:
        rows = [golden.cases[i].input_ids for i in cases]
        if not rows:
            continue
        inputs, mask = pad(rows, manifest.pad_token_id, to=ladder(max(map(len, rows)), manifest.max_length))
        types = np.zeros_like(inputs) if golden.two_texts else None
        for place, row in enumerate(rows):
            if types is not None:
                types[place, : len(row)] = segments(len(row))
        answers = engine.answer(inputs, mask, types)
        for error, wanted, got in zip(worst.heads, golden.logits, answers, strict=True):
            for place, (i, row) in enumerate(zip(cases, rows, strict=True)):
                error.add(got[place] if got.ndim == 2 else got[place, : len(row)], wanted[i])


def _prove_rungs(ladder: StaticLadder, golden: Golden, worst: Worst) -> None:
    """The longest and the shortest case of each kind at every rung that holds them."""
    for width in ladder.rungs:
        for kind in ("ordinary", "degenerate"):
            fits = [i for i, c in enumerate(golden.cases) if c.kind == kind and len(c.input_ids) <= width]
            fits.sort(key=lambda i: len(golden.cases[i].input_ids))
            for i in {*fits[:1], *fits[-1:]}:
                ids = golden.cases[i].input_ids
                vectors = ladder.embed_at(width, *pad([ids], 0))
                where = f"golden case {i}, {len(ids)} tokens at the rung of {width}"
                worst.add(vectors, golden.vectors[i : i + 1], [golden.cases[i].kind], where)


def _kind(value: object) -> Kind:
    if value not in ("ordinary", "degenerate"):
        raise ValueError(f"kind {value!r} is neither 'ordinary' nor 'degenerate'")
    return value
