"""The stage: a model and calibration text in, a bundle with fp32 and int8 files for both engines out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgebert.bundle import Bundle, seal
from edgebert.card import model_card
from edgebert.distill.encoder import SentenceEncoder, load_encoder, torch_embedder
from edgebert.distill.folder import write_model
from edgebert.embedder import Embedder
from edgebert.engines import open_engine
from edgebert.errors import BudgetError, DataError
from edgebert.files import new_folder
from edgebert.manifest import Artifact, Parity, Quality
from edgebert.progress import Progress
from edgebert.quantize.calibration import Calibration, calibration
from edgebert.quantize.export import export_onnx, export_openvino
from edgebert.quantize.parity import Gates, Reference, measure, reference, require
from edgebert.quantize.sensitivity import most_sensitive, node_names
from edgebert.quantize.static_int8 import StaticInt8
from edgebert.schema import plain
from edgebert.timing import Timing, side_by_side

AGREEMENT_TEXTS = 300
_TIMED = 256
_SINGLES = 64
_LEFT_IN_FLOAT = (0, 1, 2, 4)


@dataclass(frozen=True)
class Row:
    """One line of the table: an artifact, its size in MB, its parity (None for torch, the reference), its speed."""

    name: str
    size_mb: float
    parity: Parity | None
    timing: Timing


def quantize(
    model: Bundle,
    texts: Iterable[str],
    out: Path,
    *,
    int8: StaticInt8 | None = None,
    gates: Gates | None = None,
    progress: Progress | None = None,
) -> tuple[Bundle, list[Row]]:
    """The bundle `out` with fp32 and int8 ONNX and OpenVINO files of `model`, and the table of what they are worth.

    texts: calibration text, read as a stream; a part that calibration does not see measures the agreement.
    Raises: BudgetError when an artifact is below `gates`, DataError, BundleError, EngineError; nothing is written then.
    """
    int8, gates, progress = int8 or StaticInt8(), gates or Gates(), progress or Progress()
    if model.is_sealed:
        model.check()
    with new_folder(out) as partial:
        torch_model, encoder = torch_embedder(model), load_encoder(model)
        seen, unseen = _split(texts, int8.samples)
        rows = calibration(seen, torch_model.tokenizer, max_length=model.manifest.max_length, samples=int8.samples)
        manifest = write_model(partial, encoder, model, model.manifest)
        progress.start("export", 2)
        fp32 = _export(encoder, model.manifest.architecture, partial, progress)
        bundle = Bundle(partial, dataclasses.replace(manifest, artifacts=fp32), str(out))
        known = reference(encoder, torch_model, bundle, unseen, progress)
        parities = _proven(bundle, tuple(fp32), known, gates, progress)
        bundle, found = _int8(bundle, encoder, rows, int8, known, gates, progress)
        parities |= found
        table = _table(bundle, torch_model, parities, unseen, progress)
        facts = {
            "calibration_texts": rows.texts,
            "calibration_rows": len(rows.rows),
            "versions": {name: metadata.version(name) for name in ("onnx", "onnxruntime", "openvino", "nncf")},
        }
        manifest = dataclasses.replace(
            bundle.manifest,
            artifacts={n: dataclasses.replace(a, parity=parities[n]) for n, a in bundle.manifest.artifacts.items()},
            quality=(*(q for q in manifest.quality if q.artifact is None), *_quality(parities, len(unseen))),
            lineage={**manifest.lineage, "quantize": facts},
        )
        (partial / "README.md").write_text(model_card(manifest, out.name, partial), encoding="utf-8")
        seal(partial, manifest)
    return Bundle.open(out), table


def _split(texts: Iterable[str], samples: int) -> tuple[list[str], list[str]]:
    """Texts to calibrate on and texts to measure on, taken in turns from a stream of which enough is read.

    Raises: DataError when there are too few.
    """
    distinct = list(dict.fromkeys(t for t in itertools.islice(texts, 200_000) if t.strip()))
    if len(distinct) < 16:
        raise DataError(f"the calibration text has {len(distinct)} distinct usable lines; at least 16 are needed")
    wanted = samples + AGREEMENT_TEXTS
    step = max(1, len(distinct) // wanted)
    chosen = distinct[::step][:wanted]
    measured = min(AGREEMENT_TEXTS, len(chosen) - min(samples, (len(chosen) + 1) // 2))
    every = len(chosen) / measured
    places = {int(i * every) for i in range(measured)}
    return [t for i, t in enumerate(chosen) if i not in places], [chosen[i] for i in sorted(places)]


def _export(encoder: SentenceEncoder, architecture: str, folder: Path, progress: Progress) -> dict[str, Artifact]:
    """The two fp32 artifacts by name."""
    path = folder / "onnx" / "model.onnx"
    onnx = export_onnx(encoder, architecture, path)
    progress.advance()
    openvino = export_openvino(path, folder / "openvino" / "openvino_model.xml", "fp32", onnx.inputs)
    progress.advance()
    return {"onnxruntime-fp32": onnx, "openvino-fp32": openvino}


def _int8(
    bundle: Bundle, encoder: SentenceEncoder, rows: Calibration, int8: StaticInt8, known: Reference, gates: Gates,
    progress: Progress,
) -> tuple[Bundle, dict[str, Parity]]:  # fmt: skip
    """`bundle` with its two int8 artifacts, and their parities.

    Where int8 everywhere is below the gates, the most sensitive linear layers are left in float, first one, then more.
    Raises: BudgetError when that does not help either.
    """
    source = bundle.path("onnx/model.onnx")
    ranked: tuple[str, ...] | None = None
    failed: BudgetError | None = None
    for count in _LEFT_IN_FLOAT:
        if count and ranked is None:
            progress.say("int8 is below its gates: looking for the layers that lose most")
            names = most_sensitive(encoder, rows, bundle.manifest.pad_token_id)
            ranked = node_names(source, names)
            if not ranked and failed is not None:
                raise failed
        attempt = dataclasses.replace(int8, exclude=(*int8.exclude, *(ranked or ())[:count]))
        progress.start("int8" + (f", {count} layers in float" if count else ""), 2)
        built = _convert(bundle, attempt, rows, gates, progress)
        whole = dataclasses.replace(
            bundle, manifest=dataclasses.replace(bundle.manifest, artifacts={**bundle.manifest.artifacts, **built})
        )
        try:
            return whole, _proven(whole, tuple(built), known, gates, progress)
        except BudgetError as problem:
            if count == _LEFT_IN_FLOAT[-1]:
                raise
            failed = problem
    raise AssertionError("unreachable")


def _convert(
    bundle: Bundle, int8: StaticInt8, rows: Calibration, gates: Gates, progress: Progress
) -> dict[str, Artifact]:
    """The two int8 artifacts by name: one QDQ file, and the same graph as OpenVINO IR."""
    fp32 = bundle.manifest.artifacts["onnxruntime-fp32"]
    path = bundle.root / "onnx" / "model_qint8.onnx"
    int8(bundle.path("onnx/model.onnx"), path, rows, fp32.inputs)
    progress.advance()
    openvino = export_openvino(path, bundle.root / "openvino" / "openvino_model_qint8.xml", "int8", fp32.inputs)
    progress.advance()
    onnx = Artifact("onnxruntime", "int8", ("onnx/model_qint8.onnx",), fp32.inputs)
    facts: dict[str, Any] = {"recipe": {"pass": "static-int8", **plain(int8)}, "min_cosine": gates.cosines}
    return {
        "onnxruntime-int8": dataclasses.replace(onnx, **facts),
        "openvino-int8": dataclasses.replace(openvino, **facts),
    }


def _proven(
    bundle: Bundle, names: tuple[str, ...], known: Reference, gates: Gates, progress: Progress
) -> dict[str, Parity]:
    """The parities of those artifacts.

    Raises: BudgetError at the first one that is below its gates.
    """
    parities = {}
    for name in names:
        parities[name], fault = measure(bundle, name, known, progress)
        require({name: fault}, {name: parities[name]}, gates)
    return parities


def _table(
    bundle: Bundle, torch_model: Embedder, parities: dict[str, Parity], texts: list[str], progress: Progress
) -> list[Row]:
    progress.start("measure speed", 1)
    encoders = {name: Embedder(bundle, open_engine(bundle, name)) for name in parities}
    timed = (texts * (_TIMED // len(texts) + 1))[:_TIMED]
    timings = side_by_side({"torch-fp32": torch_model, **encoders}, timed[:_SINGLES], timed)
    for encoder in encoders.values():
        encoder.close()
    progress.advance()

    def size(name: str) -> float:
        files = bundle.manifest.artifacts[name].files if name in parities else ("model.safetensors",)
        return sum((bundle.root / file).stat().st_size for file in files) / 1e6

    return [Row(name, size(name), parities.get(name), timing) for name, timing in timings.items()]


def _quality(parities: dict[str, Parity], texts: int) -> list[Quality]:
    data = f"{texts} texts of the calibration file that calibration did not see"
    return [
        Quality("agreement_with_fp32", round(parity.agreement, 6), data, name)
        for name, parity in parities.items()
        if parity.agreement is not None
    ]
