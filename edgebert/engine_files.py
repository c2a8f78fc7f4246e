"""Engine files that others exported, known by their names, and which of them is taken.

The layouts are those of sentence-transformers (`onnx/`, `openvino/`), transformers.js (`onnx/`) and optimum (the folder
itself). A name is all that tells what is inside before it is downloaded, and it is no proof: unasked only a file whose
name says fp32 is taken, and an int8 file only by `precision="int8"` or by its name.
"""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from edgebert.engines import ENGINE_ORDER, is_installed, require_engine
from edgebert.errors import EngineError
from edgebert.manifest import EngineName, Precision
from edgebert.processor import processor
from edgebert.variants import Wish

# The first that is found in a name holds.
_NAMES: tuple[tuple[str, Precision], ...] = (
    (r"q4|bnb4|int4|4bit", "int4"),
    (r"fp16|float16|_f16|_half|_O4$", "fp16"),  # O4 is O3 in float16
    (r"int8|quant|_q8", "int8"),
    (r"^(openvino_)?model(_fp32|_O[12])?$", "fp32"),  # O3 approximates GELU: other vectors
)
_FP32_ORDER = ("", "_fp32", "_O1", "_O2")
_INT8_ORDER = ("qint8", "quantized", "int8", "uint8")
_PROCESSORS = ("avx512_vnni", "avx512", "avx2", "arm64")  # as sentence-transformers writes them into names
_EXTERNAL = ("_data", ".data")  # what ONNX files above 2 GB keep beside them


@dataclass(frozen=True)
class EngineFile:
    """An engine file by its name in the folder. precision: what the name says; processor: of int8, "" for any."""

    name: str
    engine: EngineName
    precision: Precision
    processor: str = ""


def known_files(names: Iterable[str]) -> list[EngineFile]:
    """The engine files among `names`, sorted; names are relative, with forward slashes."""
    return [file for name in sorted(names) if (file := _known(name)) is not None]


def parts(file: EngineFile, names: Iterable[str]) -> tuple[str, ...]:
    """What must lie in the folder for `file` to be opened, itself first; names: what there is."""
    if file.engine == "openvino":
        return (file.name, str(PurePosixPath(file.name).with_suffix(".bin")))
    return (file.name, *sorted(n for n in names if n.startswith(tuple(file.name + end for end in _EXTERNAL))))


def choose(files: Sequence[EngineFile], wish: Wish, source: str) -> list[EngineFile]:
    """What fits `wish` and whose engine is installed, the one to use first.

    Raises: EngineError when nothing fits, or two files do and nothing says which.
    """
    if wish.engine != "auto":
        require_engine(wish.engine)
    there = ", ".join(f"{file.name} ({file.precision})" for file in files)
    fitting = [file for file in files if wish.engine in ("auto", file.engine)]
    if wish.artifact is not None:
        fitting = [f for f in fitting if f.name == wish.artifact and wish.precision in ("auto", f.precision)]
        problem = f"{source} has no artifact {wish.artifact!r} for {wish.engine}-{wish.precision}; it has {there}"
    else:
        precision = "fp32" if wish.precision == "auto" else wish.precision
        fitting = [f for f in fitting if f.precision == precision and f.processor in ("", *fitting_processors())]
        problem = (
            f"{source} has no {precision} file for {wish.engine} on this processor; it has {there}. "
            'Without a manifest only fp32 is taken unasked: ask with precision="int8" or artifact=NAME'
            + '; "unknown" is what neither name nor size tells, or a part is missing, such as .onnx_data'
            * any(file.precision == "unknown" for file in files)
        )
    if not fitting:
        raise EngineError(problem)
    installed = [file for file in fitting if is_installed(file.engine)]
    if not installed:
        require_engine(fitting[0].engine)
    ordered = sorted(installed, key=_rank)
    for one, other in itertools.pairwise(ordered):
        if _rank(one) == _rank(other):
            raise EngineError(f"{source} has {one.name} and {other.name}: say which with artifact=NAME")
    return ordered


@lru_cache(maxsize=1)
def fitting_processors() -> tuple[str, ...]:
    """The names in `_PROCESSORS` that this processor is, the best first."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return ("arm64",)
    flags = set(processor().split())
    # Of a system that does not tell, the least is supposed. avx_vnni multiplies as avx512_vnni does.
    known = (("avx512_vnni", {"avx512_vnni", "avx_vnni"}), ("avx512", {"avx512f"}), ("avx2", {"avx2"}))
    return tuple(name for name, wanted in known if wanted & flags) or ("avx2",)


def _known(name: str) -> EngineFile | None:
    path = PurePosixPath(name)
    folder, stem = str(path.parent), path.stem
    engine: EngineName
    if path.suffix == ".onnx" and folder in (".", "onnx"):
        engine = "onnxruntime"
    elif path.suffix == ".xml" and folder in (".", "openvino") and stem.startswith("openvino_model"):
        engine = "openvino"
    else:
        return None
    precision: Precision = next((kind for pattern, kind in _NAMES if re.search(pattern, stem)), "unknown")
    tag = next((p for p in _PROCESSORS if stem.endswith(p)), "") if precision == "int8" else ""
    return EngineFile(name, engine, precision, tag)


def _rank(file: EngineFile) -> tuple[int, int, int]:
    """Sorts by engine, then by how well the file fits this processor, then by how plain its name is."""
    stem = PurePosixPath(file.name).stem
    fit = (*fitting_processors(), "")
    if file.precision == "fp32":
        kind = _FP32_ORDER.index(re.sub("^(openvino_)?model", "", stem))
    else:
        kind = next((i for i, word in enumerate(_INT8_ORDER) if word in stem), len(_INT8_ORDER))
    place = fit.index(file.processor) if file.processor in fit else len(fit)
    return ENGINE_ORDER.index(file.engine), place, kind
