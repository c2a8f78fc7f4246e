"""The teacher on the fastest path that computes what torch computes in fp32.

On a GPU that is torch in bf16. On a processor it is OpenVINO where it is installed, in bf16 where the processor
computes that, after its answers were held against torch in fp32 at several widths (`fault`); else torch itself. Which
one it is stays known on this machine (`choose`), so that a whole cache is found without opening the teacher.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.cache import cache_folder
from edgebert.distill.encoder import SentenceEncoder, load_encoder, load_tokenizer
from edgebert.engines.openvino import core
from edgebert.errors import EdgeBertError
from edgebert.files import new_file
from edgebert.processor import processor
from edgebert.vectors import row_cosines

# Of the cosine to torch in fp32: the mean of sentence vectors, the mean at one width, the mean of tokens' states. An
# engine may be wrong at a single width: OpenVINO's bf16 was once, at 32 tokens of an int8 model.
MEAN, LEAST, STATES = 0.999, 0.99, 0.99
_WIDTHS = (3, 8, 16, 24, 32, 33, 48, 64, 96, 128, 256, 512)
_ROWS = 4
_PROOF = 1  # one more whenever `fault` asks for more


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
        self.name = _torch_name(precision)

    def answer(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Answers:
        """See `TeacherEngine.answer`."""
        tensors = (torch.from_numpy(a).to(self.device) for a in (input_ids, attention_mask))
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            states, vectors, _ = self.encoder(*tensors)
        return Answers(states.float().cpu().numpy(), vectors.float().cpu().numpy())


class OpenVinoTeacher:
    """The teacher's graph in OpenVINO, all threads on one batch."""

    def __init__(self, encoder: SentenceEncoder, architecture: str, precision: str) -> None:
        from edgebert.quantize.export import OUTPUTS, export_onnx

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "onnx" / "model.onnx"
            self._inputs = export_onnx(encoder, architecture, path).inputs
            model = core().read_model(path, config={"ENABLE_MMAP": False})
        hint = "bf16" if precision == "bf16" else "f32"
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": False,
                  "INFERENCE_NUM_THREADS": torch.get_num_threads()}  # fmt: skip
        self._request: Any = core().compile_model(model, "CPU", config).create_infer_request()
        self._outputs = OUTPUTS
        self.name = f"openvino {precision}"

    def answer(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Answers:
        """See `TeacherEngine.answer`."""
        known = {"input_ids": input_ids, "attention_mask": attention_mask}
        self._request.infer({name: known.get(name, np.zeros_like(input_ids)) for name in self._inputs})
        return Answers(*(np.array(self._request.get_tensor(name).data) for name in self._outputs))


@dataclass(frozen=True)
class Choice:
    """The name of the engine that answers on this machine, and why OpenVINO does not, "" where it does."""

    engine: str
    why: str = ""


def choose(teacher: Bundle, precision: str, weights: str) -> Choice:
    """Which engine answers, as it was found out before or is found out now. weights: the teacher's fingerprint.

    Raises: BundleError, see `load_encoder`.
    """
    if torch.cuda.is_available():
        return Choice(_torch_name(precision), "torch has a GPU")
    if find_spec("openvino") is None:
        return Choice(_torch_name(precision), "openvino is not installed")
    versions = [metadata.version("torch"), metadata.version("openvino"), processor()]
    facts = json.dumps([weights, precision, _PROOF, *versions])
    path = cache_folder("teachers") / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.engine.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Choice(**json.loads(path.read_text(encoding="utf-8")))
    found = _try_openvino(teacher, precision)
    choice = Choice(_torch_name(precision), found) if isinstance(found, str) else Choice(found.name)
    with contextlib.suppress(OSError, EdgeBertError), new_file(path, replace=True) as partial:
        partial.write_text(json.dumps(vars(choice)), encoding="utf-8")
    return choice


def open_teacher(teacher: Bundle, precision: str, choice: Choice) -> TeacherEngine:
    """The engine that was chosen. precision: "bf16" or "fp32".

    Raises: BundleError, see `load_encoder`.
    """
    if choice.engine == _torch_name(precision):
        return TorchTeacher(load_encoder(teacher, fused_attention=True), precision)
    return OpenVinoTeacher(load_encoder(teacher), teacher.manifest.architecture, precision)


def _try_openvino(teacher: Bundle, precision: str) -> OpenVinoTeacher | str:
    """The teacher in OpenVINO, or what is wrong with it."""
    plain = load_encoder(teacher)
    try:
        found = OpenVinoTeacher(plain, teacher.manifest.architecture, precision)
        wrong = fault(found, TorchTeacher(plain, "fp32"), teacher)
    except (RuntimeError, ValueError, ImportError, OSError) as problem:  # what exporters and engines raise
        return f"OpenVINO does not take it: {next(iter(str(problem).splitlines()), type(problem).__name__)[:200]}"
    return wrong or found


def fault(one: TeacherEngine, other: TeacherEngine, teacher: Bundle) -> str:
    """In what the first answers otherwise than the second, over made-up rows of several widths; "" for in nothing."""
    means: list[float] = []
    for ids, mask in _probes(teacher):
        a, b = one.answer(ids, mask), other.answer(ids, mask)
        vectors, states = _mean_cosine(a.vectors, b.vectors), _mean_cosine(a.states[mask == 1], b.states[mask == 1])
        means.append(vectors)
        if vectors < LEAST or states < STATES:
            least = min(vectors, states)
            return f"{one.name} is wrong at {ids.shape[1]} tokens: cosine {least:.4f} to {other.name}"
    mean = float(np.mean(means))
    return "" if mean >= MEAN else f"{one.name} is inexact: mean cosine {mean:.5f} to {other.name}"


def _mean_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.nan_to_num(row_cosines(one, other), nan=-1).mean())


def _torch_name(precision: str) -> str:
    return f"torch {precision}" + (" on a GPU" if torch.cuda.is_available() else "")


def _probes(teacher: Bundle) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Token ids and masks of ordinary text at each width, the second row half padding."""
    from edgebert.distill.reference import CHINESE, ENGLISH

    running = load_tokenizer(teacher)([" ".join((*ENGLISH, *CHINESE))])[0].ids
    for width in (w for w in _WIDTHS if w <= teacher.manifest.max_length):
        rows = [np.resize(np.roll(running, -5 * i), width) for i in range(_ROWS)]
        mask = np.ones((_ROWS, width), np.int64)
        mask[1, max(2, width // 2) :] = 0
        ids = np.where(mask == 1, np.stack(rows).astype(np.int64), teacher.manifest.pad_token_id)
        yield ids, mask
