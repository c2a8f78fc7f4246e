"""Folders as others export them: engine files that end at the tokens' hidden states, and no manifest."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def export_tokens(folder: Path, *, openvino: bool = True, output: str = "last_hidden_state") -> Path:
    """Adds onnx/model.onnx and OpenVINO's form of it to the model in `folder`, with the one output `output`."""
    from edgebert.bundle import Bundle
    from edgebert.distill.encoder import load_encoder
    from edgebert.quantize.export import export_onnx, export_openvino

    path = folder / "onnx" / "model.onnx"
    export_onnx(load_encoder(Bundle.from_pretrained(folder)), "bert", path)
    model = onnx.load(path)
    keep(model, ["last_hidden_state"])
    if output != "last_hidden_state":
        rename_output(model, output)
    onnx.save(model, path)
    if openvino:
        export_openvino(path, folder / "openvino" / "openvino_model.xml", "fp32", ("input_ids",))
    return folder


def keep(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Takes every other output out of the graph."""
    for value in [v for v in model.graph.output if v.name not in outputs]:
        model.graph.output.remove(value)


def rename_output(model: onnx.ModelProto, name: str) -> None:
    """Gives the graph's only output another name."""
    (value,) = model.graph.output
    model.graph.node.append(helper.make_node("Identity", [value.name], [name]))
    value.name = name


def take_int32(model: onnx.ModelProto) -> None:
    """Makes the graph's inputs int32."""
    for value in model.graph.input:
        value.type.tensor_type.elem_type = TensorProto.INT32
        inner = f"{value.name}_as_int64"
        for node in model.graph.node:
            for i, used in enumerate(node.input):
                if used == value.name:
                    node.input[i] = inner
        model.graph.node.insert(0, helper.make_node("Cast", [value.name], [inner], to=TensorProto.INT64))


def copied(folder: Path, to: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(folder, to))
