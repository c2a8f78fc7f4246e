"""A bundle is a normal model folder: other libraries open it, old and new ones, and give the same vectors.

The environments are made here, a few hundred MB each. They can be left out by name only:
pytest --deselect tests/compat/test_other_libraries.py::test_optimum_onnx_opens_the_bundle
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = Path(__file__).parent / "open_folder.py"
OLD = ("sentence-transformers==5.7.*", "transformers==4.57.*", "optimum-onnx[onnxruntime]==0.1.*")
INTEL = ("optimum-intel[openvino]==2.2.*", "transformers==5.5.*", "sentence-transformers")


@pytest.fixture(scope="module")
def old_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the last transformers 4 and optimum-onnx."""
    return _environment(tmp_path_factory.mktemp("old"), OLD)


@pytest.fixture(scope="module")
def intel_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with optimum-intel, without the torchvision that does not fit a CPU torch."""
    return _environment(tmp_path_factory.mktemp("intel"), INTEL, remove="torchvision")


def test_transformers_opens_the_bundle(tiny_bundle: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bundle, local_files_only=True)
    model = AutoModel.from_pretrained(tiny_bundle, local_files_only=True).eval()
    cases = json.loads((tiny_bundle / "golden" / "cases.json").read_text(encoding="utf-8"))
    golden = np.load(tiny_bundle / "golden" / "vectors.npy")
    for case, wanted in zip(cases, golden, strict=True):
        batch = tokenizer([case["text"]], truncation=True, return_tensors="pt")
        assert batch["input_ids"][0].tolist() == case["input_ids"]
        with torch.inference_mode():
            vector = model(**batch).last_hidden_state.mean(dim=1)
        np.testing.assert_allclose(torch.nn.functional.normalize(vector).numpy()[0], wanted, atol=1e-5)


def test_sentence_transformers_opens_the_bundle(tiny_bundle: Path) -> None:
    found = _open(Path(sys.executable), tiny_bundle, "torch", "")
    assert found["max_difference"] < 1e-5


@pytest.mark.parametrize(
    ("backend", "file", "int8"),
    [("torch", "", False), ("onnx", "onnx/model.onnx", False), ("onnx", "onnx/model_qint8.onnx", True)],
)
def test_optimum_onnx_opens_the_bundle(
    old_environment: Path, tiny_bundle: Path, backend: str, file: str, int8: bool
) -> None:
    _same(_open(old_environment, tiny_bundle, backend, file), int8)


@pytest.mark.parametrize(
    ("file", "int8"), [("openvino/openvino_model.xml", False), ("openvino/openvino_model_qint8.xml", True)]
)
def test_optimum_intel_opens_the_bundle(intel_environment: Path, tiny_bundle: Path, file: str, int8: bool) -> None:
    _same(_open(intel_environment, tiny_bundle, "openvino", file), int8)


def _same(found: dict[str, float], int8: bool) -> None:
    """In fp32 the golden vectors; in int8 within the gates that the manifest promises."""
    if int8:
        assert 0.97 <= found["ordinary"] < 0.999999
        assert 0.93 <= found["degenerate"] < 0.999999
    else:
        assert found["max_difference"] < 1e-5


def _open(python: Path, bundle: Path, backend: str, file: str) -> dict[str, float]:
    done = subprocess.run(
        [python, SCRIPT, bundle, backend, file],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        cwd=bundle.parent,  # else the folders of this project could be taken for packages
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _environment(folder: Path, packages: Sequence[str], *, remove: str = "") -> Path:
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-c", ROOT / "constraints.txt", "torch", *packages], check=True)
    if remove:
        subprocess.run([*pip, "uninstall", "-y", remove], check=True)
    return python
