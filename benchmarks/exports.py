"""sentence-transformers' own int8 exports of a model, and the environments that peers live in, kept in a work folder.

Three environments, because the newest optimum-onnx and optimum-intel want different transformers, and fastembed lives
without torch. A peer that cannot be made ends the program: a comparison without it would say nothing.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from workers import Subject, run_worker

from edgebert.bundle import Bundle
from edgebert.files import sha256
from edgebert.processor import processor
from edgebert.texts import read_texts

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
ONNX = ("sentence-transformers==5.7.*", "transformers==4.57.*", "optimum-onnx[onnxruntime]==0.1.*")
OPENVINO = ("sentence-transformers==6.2.*", "transformers==5.5.*", "optimum-intel[openvino]==2.2.*", "datasets")
FASTEMBED = ("fastembed==0.9.*",)
SAMPLES = 300  # calibration sentences of openvino-qint8
F32 = {"INFERENCE_PRECISION_HINT": "f32"}


@dataclass(frozen=True)
class Export:
    """Facts an export is made from; one with others is not used again."""

    backend: str
    config: str
    teacher: str
    calibration: str
    packages: Sequence[str]


def peer_subjects(teacher: Bundle, work: Path, calibration: Path) -> list[Subject]:
    """torch, onnx-qint8, and openvino-qint8 in its default and its f32 configuration; made where they are missing.

    calibration: SST-2's training sentences, a column "text", which openvino-qint8 is calibrated with by default.
    """
    made = exports(teacher, work, calibration)
    theirs = "sentence_transformers"
    weights = _size(made.teacher, "model.safetensors")
    openvino_size = _size(made.openvino, made.openvino_file, made.openvino_file.replace(".xml", ".bin"))
    openvino = {"python": made.openvino_python, "file": made.openvino_file}
    return [
        Subject("sentence-transformers torch fp32", str(made.teacher), theirs, "torch", weights, made.openvino_python),
        Subject("sentence-transformers openvino-qint8", str(made.openvino), theirs, "openvino", openvino_size,
                **openvino),
        Subject("sentence-transformers openvino-qint8, f32", str(made.openvino), theirs, "openvino", openvino_size,
                ov_config=F32, **openvino),
        Subject(f"sentence-transformers onnx-qint8 ({made.config})", str(made.onnx), theirs, "onnx",
                _size(made.onnx, made.onnx_file), made.onnx_python, file=made.onnx_file),
    ]  # fmt: skip


def other_subjects(teacher: Bundle, work: Path, calibration: Path) -> list[Subject]:
    """The same files in fastembed, in optimum-intel alone and in plain ONNX Runtime; see `openers`."""
    made = exports(teacher, work, calibration)
    python = environment(work.resolve() / "fastembed-environment", FASTEMBED, torch=False)
    local = _fastembed_folder(made, work.resolve() / "fastembed-qint8")
    size = _size(made.onnx, made.onnx_file)
    openvino_size = _size(made.openvino, made.openvino_file, made.openvino_file.replace(".xml", ".bin"))
    intel = {"python": made.openvino_python, "file": made.openvino_file}
    plain = {"file": made.onnx_file, "max_length": teacher.manifest.max_length}
    return [
        Subject("fastembed qint8", str(local), "fastembed", "onnxruntime", size, python, file="model.onnx",
                batch_size=256),
        Subject("optimum-intel openvino-qint8", str(made.openvino), "optimum_intel", "openvino", openvino_size,
                **intel),
        Subject("optimum-intel openvino-qint8, f32, sorted", str(made.openvino), "optimum_intel", "openvino",
                openvino_size, ov_config=F32, by_length=True, **intel),
        Subject("plain onnxruntime qint8", str(made.onnx), "onnxruntime", "onnxruntime", size, **plain),
        Subject("plain onnxruntime qint8, sorted", str(made.onnx), "onnxruntime", "onnxruntime", size, by_length=True,
                **plain),
    ]  # fmt: skip


@dataclass(frozen=True)
class Exports:
    """Where the exports lie, and the Pythons that can open them."""

    teacher: Path
    onnx: Path
    openvino: Path
    onnx_python: Path
    openvino_python: Path
    config: str
    openvino_file: str = "openvino/openvino_model_qint8_quantized.xml"

    @property
    def onnx_file(self) -> str:
        return f"onnx/model_qint8_{self.config}.onnx"


def exports(teacher: Bundle, work: Path, calibration: Path) -> Exports:
    """sentence-transformers' exports of the teacher, made where they are missing."""
    teacher, work = replace(teacher, root=teacher.root.resolve()), work.resolve()
    made = Exports(
        teacher.root, work / "onnx-qint8", work / "openvino-qint8", environment(work / "onnx-environment", ONNX),
        environment(work / "openvino-environment", OPENVINO, remove="torchvision"), onnx_config(),
    )  # fmt: skip
    weights = sha256(teacher.root / "model.safetensors")
    _exported(Export("onnx", made.config, weights, "", ONNX), made.onnx_python, teacher, made.onnx)
    source = _calibration_folder(calibration, work / "calibration")
    facts = Export("openvino", f"{SAMPLES} samples", weights, sha256(source / "train.jsonl"), OPENVINO)
    _exported(facts, made.openvino_python, teacher, made.openvino, calibration=source)
    return made


def _fastembed_folder(made: Exports, folder: Path) -> Path:
    """The ONNX export as fastembed opens it.

    It cuts texts at the `max_length` that this model's tokenizer_config.json still has from its training, 128 tokens.
    Without it `model_max_length` holds, and long texts are as long as the others' are.
    """
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "special_tokens_map.json"):
        shutil.copyfile(made.onnx / name, folder / name)
    shutil.copyfile(made.onnx / made.onnx_file, folder / "model.onnx")
    config = json.loads((made.onnx / "tokenizer_config.json").read_text(encoding="utf-8"))
    config.pop("max_length", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def environment(folder: Path, packages: Sequence[str], *, remove: str = "", torch: bool = True) -> Path:
    """The Python of the environment in `folder`, made there unless a whole one of these packages is there.

    remove: a package that comes along and does not fit: the default torchvision is built for another torch.
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / "packages.json"
    if done.exists() and json.loads(done.read_text(encoding="utf-8")) == list(packages):
        return python
    print(f"making an environment of {', '.join(packages)}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    needed = ["torch", *packages] if torch else packages
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*pip, "install", "-c", str(CONSTRAINTS), *needed], check=False)
    if installed.returncode:
        sys.exit(f"the environment of {', '.join(packages)} cannot be installed, see above")
    if remove:
        subprocess.run([*pip, "uninstall", "-y", remove], check=True)
    done.write_text(json.dumps(list(packages)), encoding="utf-8")
    return python


def onnx_config() -> str:
    """Which of their configurations fits this processor."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    return "avx512_vnni" if "avx512_vnni" in processor().split() else "avx2"


def _exported(facts: Export, python: Path, teacher: Bundle, out: Path, *, calibration: Path | None = None) -> None:
    """Makes the export in `out`, or makes sure that the one there has the same facts."""
    record = out / "export.json"
    wanted = json.loads(json.dumps(asdict(facts)))
    if record.exists():
        found = json.loads(record.read_text(encoding="utf-8"))
        if found != wanted:
            differ = ", ".join(key for key in wanted if found.get(key) != wanted[key])
            sys.exit(f"{out} was made from another {differ}: remove it, or give another --work")
        return
    print(f"exporting {out.name}", file=sys.stderr, flush=True)
    shutil.rmtree(out, ignore_errors=True)
    task = {"model": str(teacher.root), "backend": facts.backend, "config": facts.config, "out": str(out)}
    task |= {"calibration": str(calibration), "samples": SAMPLES}
    run_worker(python, "export", task, what=f"the export {out.name}")
    record.write_text(json.dumps(wanted, indent=2), encoding="utf-8")


def _calibration_folder(source: Path, folder: Path) -> Path:
    """A local data set with the split and the column that the Hub's has."""
    lines = [json.dumps({"sentence": text}) for text in read_texts([source], column="text")]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _size(folder: Path, *names: str) -> int:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        sys.exit(f"{folder} has no {', '.join(missing)}: the peer was not made as expected")
    return sum((folder / name).stat().st_size for name in names)
