"""The torch model as graphs of dynamic shape: ONNX by torch's exporter, OpenVINO by converting an ONNX file.

Pooling and normalisation are in the graph (`sentence_embedding`), beside `last_hidden_state`, which
sentence-transformers and optimum look for by that name.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from edgebert.distill.encoder import SentenceEncoder
from edgebert.engines.quiet import quiet_import
from edgebert.manifest import Artifact, Head, Precision

OPSET = 17
OUTPUTS = ("last_hidden_state", "sentence_embedding")  # and the logits of heads behind them
_WITH_TOKEN_TYPES = ("bert", "electra")


def graph_inputs(architecture: str) -> tuple[str, ...]:
    """The input names of an exported graph, as optimum names them; each int64, Shape: (batch, seq_len)."""
    inputs = ("input_ids", "attention_mask")
    return (*inputs, "token_type_ids") if architecture in _WITH_TOKEN_TYPES else inputs


def export_onnx(encoder: SentenceEncoder, architecture: str, path: Path, heads: Sequence[Head] = ()) -> Artifact:
    """Writes `encoder` as an ONNX file; returns its description, named relative to the bundle `path` lies in.

    heads: the manifest's, whose logits are outputs of their own. The older exporter is used: it gives 3e-7 of torch on
    all lengths, while the newer one refuses some output names.
    """
    names = graph_inputs(architecture)
    # Two rows of unlike length: a batch or length of 1 would be taken for a constant.
    ids = torch.full((2, 9), 5, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    example = (ids, mask, torch.zeros_like(ids))[: len(names)]
    axes = {name: {0: "batch", 1: "seq_len"} for name in (*names, OUTPUTS[0])} | {OUTPUTS[1]: {0: "batch"}}
    for head in heads:
        axes[head.output] = {0: "batch"} if head.level == "text" else {0: "batch", 1: "seq_len"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracer notes about shapes, which the parity check answers
        torch.onnx.export(
            _Graph(encoder).eval(),
            example,
            str(path),
            input_names=list(names),
            output_names=[*OUTPUTS, *(head.output for head in heads)],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return Artifact(engine="onnxruntime", precision="fp32", files=(f"onnx/{path.name}",), inputs=names)


def export_openvino(
    onnx_path: Path, path: Path, precision: Precision, inputs: tuple[str, ...], *, half: bool = False
) -> Artifact:
    """Converts an ONNX file of that precision to OpenVINO IR (`path` and its .bin), weights kept as they are.

    half: float weights in float16 on disk, which OpenVINO must be asked for: it folds the casts of `Float16`.
    """
    ov = quiet_import("openvino")
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(ov.convert_model(onnx_path), path, compress_to_fp16=half)
    files = (f"openvino/{path.name}", f"openvino/{path.with_suffix('.bin').name}")
    return Artifact(engine="openvino", precision=precision, files=files, inputs=inputs)


class _Graph(nn.Module):
    """The encoder with the graph's signature."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        found = self.encoder(input_ids, attention_mask, token_type_ids)
        return (found.last_hidden_state, found.sentence_embedding, *found.logits)
