"""int8 by the quick road: the files that `edgebert quantize` writes by its default recipe, without its proofs.

Their sizes, speeds and vectors are those of a quantized bundle; whether every length is right is asked of the chosen
student alone.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from edgebert.bundle import Bundle, seal
from edgebert.card import model_card
from edgebert.distill.encoder import load_encoder, load_tokenizer
from edgebert.distill.folder import write_model
from edgebert.files import new_folder
from edgebert.manifest import Artifact
from edgebert.quantize.calibration import calibration
from edgebert.quantize.context import Context
from edgebert.quantize.export import export_onnx, export_openvino
from edgebert.quantize.recipe import DEFAULT, RECIPES, TableBits, with_tables

_ANY = {"ordinary": -1.0, "degenerate": -1.0}  # nothing is proven here


def quick_int8(model: Bundle, texts: Sequence[str], out: Path, *, tables: TableBits, samples: int = 200) -> Bundle:
    """The bundle `out` with fp32 and int8 files of `model` for both engines, nothing of them checked.

    texts: calibration text.
    Raises: DataError for fewer than 8 usable texts; BundleError.
    """
    with new_folder(out) as partial, tempfile.TemporaryDirectory(dir=partial, prefix=".scratch") as scratch:
        encoder = load_encoder(model)
        manifest = write_model(partial, encoder, model, model.manifest)
        fp32 = export_onnx(encoder, manifest.architecture, partial / "onnx" / "model.onnx")
        exported = Path(shutil.copyfile(partial / "onnx" / "model.onnx", Path(scratch) / "model.onnx"))
        rows = calibration(texts, load_tokenizer(model), max_length=manifest.max_length, samples=samples).rows
        context = Context(exported, rows, fp32.inputs, manifest.pad_token_id, Path(scratch))
        int8 = partial / "onnx" / "model_qint8.onnx"
        onnx.save(with_tables(RECIPES[DEFAULT], tables).run(context), int8)
        folder, inputs = partial / "openvino", fp32.inputs
        artifacts = {
            "onnxruntime-fp32": fp32,
            "openvino-fp32": export_openvino(exported, folder / "openvino_model.xml", "fp32", inputs),
            "onnxruntime-int8": Artifact("onnxruntime", "int8", (f"onnx/{int8.name}",), inputs, min_cosine=_ANY),
            "openvino-int8": dataclasses.replace(
                export_openvino(int8, folder / "openvino_model_qint8.xml", "int8", inputs), min_cosine=_ANY
            ),
        }
        manifest = dataclasses.replace(manifest, artifacts=artifacts)
        (partial / "README.md").write_text(model_card(manifest, out.name, partial), encoding="utf-8")
        seal(partial, manifest)
    return Bundle.open(out)
