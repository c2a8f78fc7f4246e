"""The teacher on the fastest path that computes what torch computes in fp32.

On a GPU that is torch in bf16. On a processor it is OpenVINO where it is installed, in bf16 where the processor
computes that, after its answers were held against torch in fp32 at several widths (`is_exact`); else torch itself.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.distill.encoder import SentenceEncoder, load_encoder
from edgebert.engines.quiet import quiet_import
from edgebert.vectors import row_cosines

# Of the cosine to torch in fp32: the mean of sentence vectors, the mean at one width, the mean of tokens' states. An
# engine may be wrong at a single width: OpenVINO's bf16 was once, at 32 tokens of an int8 model.
MEAN, LEAST, STATES = 0.999, 0.99, 0.99
_WIDTHS = (3, 8, 16, 24, 32, 33, 48, 64, 96, 128)
_ROWS = 4


class Answers(NamedTuple):
    """Shapes: states (batch, seq_len, width), vectors (batch, dimension), float32."""

    states: NDArray[np.float32]
    vectors: NDArray[np.float32]


class TeacherEngine(Protocol):
    """name: such as "openvino bf16", a part of the cache's key."""

    name: str

    def answer(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Answers:
        """Shape: inputs (batch, seq_len)."""


class TorchTeacher:
    """The teacher in torch, under autocast where the precision is bf16."""

    def __init__(self, encoder: SentenceEncoder, precision: str) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder, self.precision = encoder.to(self.device), precision
        self.name = f"torch {precision}"

    def answer(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Answers:
        """See `TeacherEngine.answer`."""
        tensors = (torch.from_numpy(a).to(self.device) for a in (input_ids, attention_mask))
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            encoded = self.encoder(*tensors)
        return Answers(*(part.float().cpu().numpy() for part in encoded))


class OpenVinoTeacher:
    """The teacher's graph in OpenVINO, all threads on one batch."""

    def __init__(self, encoder: SentenceEncoder, architecture: str, precision: str) -> None:
        from edgebert.quantize.export import OUTPUTS, export_onnx

        ov = quiet_import("openvino")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "onnx" / "model.onnx"
            self._inputs = export_onnx(encoder, architecture, path).inputs
            model = ov.Core().read_model(path, config={"ENABLE_MMAP": False})
        hint = {"bf16": "bf16"}.get(precision, "f32")
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": False,
                  "INFERENCE_NUM_THREADS": torch.get_num_threads()}  # fmt: skip
        self._request: Any = ov.Core().compile_model(model, "CPU", config).create_infer_request()
        self._outputs = OUTPUTS
        self.name = f"openvino {precision}"

    def answer(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Answers:
        """See `TeacherEngine.answer`."""
        known = {"input_ids": input_ids, "attention_mask": attention_mask}
        self._request.infer({name: known.get(name, np.zeros_like(input_ids)) for name in self._inputs})
        return Answers(*(np.array(self._request.get_tensor(name).data) for name in self._outputs))


def open_teacher(teacher: Bundle, precision: str) -> TeacherEngine:
    """The fastest exact engine. precision: "bf16" or "fp32".

    Raises: BundleError, see `load_encoder`.
    """
    fused = TorchTeacher(load_encoder(teacher, fused_attention=True), precision)
    if torch.cuda.is_available() or find_spec("openvino") is None:
        return fused
    with contextlib.suppress(RuntimeError, ValueError, ImportError, OSError):
        plain = load_encoder(teacher)
        found = OpenVinoTeacher(plain, teacher.manifest.architecture, precision)
        if is_exact(found, TorchTeacher(plain, "fp32"), teacher):
            return found
    return fused


def is_exact(one: TeacherEngine, other: TeacherEngine, teacher: Bundle) -> bool:
    """Whether the first answers as the second does, over made-up rows of several widths."""
    vectors, states = [], []
    for ids, mask in _probes(teacher):
        a, b = one.answer(ids, mask), other.answer(ids, mask)
        vectors.append(float(np.nan_to_num(row_cosines(a.vectors, b.vectors), nan=-1).mean()))
        states.append(float(np.nan_to_num(row_cosines(a.states[mask == 1], b.states[mask == 1]), nan=-1).mean()))
    return float(np.mean(vectors)) >= MEAN and min(vectors) >= LEAST and min(states) >= STATES


def _probes(teacher: Bundle) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from edgebert.distill.encoder import load_tokenizer
    from edgebert.distill.reference import CHINESE, ENGLISH

    text = " ".join((*ENGLISH, *CHINESE))
    running = load_tokenizer(teacher)([text])[0].ids
    for width in (w for w in _WIDTHS if w <= teacher.manifest.max_length):
        rows = [np.resize(running[i * 5 :], width) for i in range(_ROWS)]
        mask = np.ones((_ROWS, width), np.int64)
        mask[1, max(2, width // 2) :] = 0
        ids = np.where(mask == 1, np.stack(rows).astype(np.int64), teacher.manifest.pad_token_id)
        yield ids, mask
