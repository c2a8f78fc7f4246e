"""The manifest `edgebert.json`: the facts about a bundle, one schema, validated on read.

Facts never change after a bundle is written. What one machine finds out about a bundle is a stamp (`edgebert.stamps`).
The format is described in docs/bundle.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgebert.errors import BundleError
from edgebert.once import once
from edgebert.schema import parse, plain

MANIFEST_NAME = "edgebert.json"
PACKAGE_SUFFIX = ".edgebert"
SCHEMA_VERSION = 1
OUTPUT = "sentence_embedding"  # as sentence-transformers calls a text's vector, in graphs too
# Architectures that number positions from the padding id + 1, so two of their positions are never used.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "mpnet")
_LARGEST = 2**31  # of lengths and token ids

EngineName = Literal["onnxruntime", "openvino"]
Precision = Literal["fp32", "int8", "fp16", "int4", "unknown"]  # the last three only of files that others exported
Level = Literal["text", "token", "span"]
PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@dataclass(frozen=True)
class FileFact:
    """What a file must be: sha256 in lower-case hex, size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Parity:
    """How near an artifact came to torch fp32 when it was built.

    Cosines are the smallest and the mean over all checked lengths and batches; `agreement` is the Spearman correlation
    of pairwise similarities with those of fp32.
    """

    ordinary_min: float
    ordinary_mean: float
    degenerate_min: float
    degenerate_mean: float
    agreement: float | None = None


@dataclass(frozen=True)
class Artifact:
    """One compiled form of the model.

    `files`: names in the bundle, the one to open first. `inputs`: the graph's input names, each int64 of Shape:
    (batch, seq_len). `output`: what is asked of the graph; token states are pooled by the runtime. Empty ones are read
    from the graph when it is opened. `shapes`: "dynamic", or "static" to run it at the fixed shapes of a
    ladder only. `min_cosine`: the gate it passed, which every device asks for again (keys "ordinary" and "degenerate").
    """

    engine: EngineName
    precision: Precision
    files: tuple[str, ...]
    inputs: tuple[str, ...]
    shapes: Literal["dynamic", "static"] = "dynamic"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    parity: Parity | None = None
    min_cosine: Mapping[str, float] = field(default_factory=dict)
    output: str = OUTPUT


@dataclass(frozen=True)
class Golden:
    """Inputs and the reference outputs of torch fp32, by which a device proves itself.

    `cases`: a JSON file, a list of {"text", "input_ids", "kind": "ordinary" | "degenerate"}; `vectors`: an .npy file,
    float32, Shape: (cases, dimension). `max_error`: largest distance (1 - cosine) an fp32 engine may have. `logits`:
    for each head an .npy file of its answers, Shape: (cases, labels), or (tokens of all cases, labels) of tokens and
    spans; `two_texts`: whether the second half of each case was a second text then, None: if a head reads two.
    """

    cases: str
    vectors: str
    max_error: float = 1e-4
    logits: Mapping[str, str] = field(default_factory=dict)
    two_texts: bool | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its files."""
        return (self.cases, self.vectors, *self.logits.values())


@dataclass(frozen=True)
class Quality:
    """A measured score with the data it was measured on."""

    metric: str
    value: float
    data: str
    artifact: str | None = None


@dataclass(frozen=True)
class Head:
    """One task that the model answers, beside the sentence vector.

    `level`: what it answers for, a text, each token, or the start and end of a span. `labels`: in the order of the
    logits, empty for a number and for a span. `multi_label`: whether several may hold at once. `temperature`: what
    logits are divided by before they are probabilities (Guo et al. 2017, arXiv:1706.04599). `may_be_none`: whether it
    learnt questions without an answer, and says where there is none. `folder`: where its weights lie, "" where the
    model's own folder is that of a transformers model with this head.
    """

    name: str
    task: str
    level: Level
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    temperature: float = 1.0
    may_be_none: bool = False
    folder: str = ""

    @property
    def output(self) -> str:
        """The name of its logits in graphs."""
        return "logits" if not self.folder else f"logits_{self.name}"


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime must know about a model.

    `architecture`: the `model_type` of config.json. `pooling`: one or several modes, concatenated in this order.
    `heads`: what it answers beside the vector; `task` is that of the only one, "multi" of several, "embedding" of none.
    Which tasks there are says `edgebert.tasks.KINDS`.
    `dense`: folders of Dense modules between pooling and normalisation. `dimension`: width of the vectors.
    `max_length`: tokens, special ones included. `prompts`: name -> text put before the input. `files`: every file of
    the bundle except the manifest. `lineage`: teacher, recipe, seed, versions, and under "assumed" what had to be
    assumed about the source because its files did not say.
    """

    schema: int
    task: str
    architecture: str
    pooling: tuple[PoolingMode, ...]
    normalize: bool
    dimension: int
    max_length: int
    dense: tuple[str, ...] = ()
    heads: tuple[Head, ...] = ()
    include_prompt: bool = True
    pad_token_id: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    files: Mapping[str, FileFact] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    golden: Golden | None = None
    quality: tuple[Quality, ...] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None

    @once
    def identity(self) -> str:
        """The SHA-256 of the facts: what holds for one manifest holds for every equal one."""
        return hashlib.sha256(manifest_bytes(self)).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`.

    Raises: BundleError when it is missing, is not JSON, or has an unknown schema version, key or value.
    """
    path = folder / MANIFEST_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST_NAME}") from None
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{path} is damaged, it is not JSON: {problem}") from None
    except OSError as problem:
        raise BundleError(f"{path} cannot be read: {problem.strerror}") from None
    version = data.get("schema") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path} has schema version {version!r}; this edgebert reads {SCHEMA_VERSION}: "
            "install the edgebert that wrote it, or build the bundle again"
        )
    manifest = parse(Manifest, data, where=str(path), error=BundleError)
    for key, least in (("max_length", 3), ("pad_token_id", 0), ("dimension", 1)):
        if not least <= (value := getattr(manifest, key)) < _LARGEST:
            raise BundleError(f"{path}: {key} is {value}; it must be within {least} to {_LARGEST - 1}")
    for head in manifest.heads:
        if not head.temperature > 0:
            raise BundleError(f"{path}: the temperature of {head.name!r} is {head.temperature}; it must be above 0")
    return manifest


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def manifest_bytes(manifest: Manifest) -> bytes:
    """`manifest` as it stands on disk: sorted, indented UTF-8 JSON, the same bytes for the same facts."""
    return (json.dumps(plain(manifest), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8"
    )
