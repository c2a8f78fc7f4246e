"""What is built is what is in the tree, and the device install runs a bundle without the workshop's packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "optimum", "onnx", "scipy", "sklearn", "openvino", "pyarrow", "nncf")
PACKAGES = {"edgebert": "edgebert", "distill": "edgebert/distill", "quantize": "edgebert/quantize"}
PACKAGES["targets"] = "edgebert/targets"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist, as `python -m build` does."""
    out = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The Python of a clean environment with that wheel and no extras."""
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    return python


def test_the_wheel_holds_every_module_profile_and_model_of_the_tree(wheel: Path) -> None:
    expected = set()
    for folder, place in PACKAGES.items():
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT / folder).parts
            through_a_link = folder == "edgebert" and parts[0] in ("distill", "quantize", "targets")
            if (
                path.suffix in (".py", ".toml", ".edgebert") and not through_a_link and "__pycache__" not in parts
            ) or path.name in ("py.typed", "card.md"):
                expected.add("/".join([place, *parts]))
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
    assert len(held) > 50


def test_the_device_install_brings_nothing_of_the_workshop(device: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {HEAVY!r} if u.find_spec(n)])"
    found = subprocess.run([device, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_device_install_embeds_a_lone_text_with_the_model_that_comes_with_it(device: Path, tmp_path: Path) -> None:
    nowhere = {**os.environ, "HF_HUB_OFFLINE": "1", "EDGEBERT_CACHE": str(tmp_path)}
    found = subprocess.run(
        [device, "-I", "-m", "edgebert", "embed", "the dog runs"],
        capture_output=True,
        text=True,
        check=False,
        env=nowhere,
    )
    assert (found.returncode, found.stderr) == (0, "edgebert: edgebert-mini-en\n")
    assert len(json.loads(found.stdout)) == 768


def test_the_device_install_opens_verifies_and_runs_a_bundle(device: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    texts.write_text("the dog runs\nthe cat sleeps\n", encoding="utf-8")
    edgebert = [device, "-I", "-m", "edgebert"]
    verified = subprocess.run([*edgebert, "verify", tiny_bundle], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "edgebert.load takes onnxruntime-int8 here" in verified.stdout
    embedded = subprocess.run(
        [*edgebert, "embed", tiny_bundle, texts, "-o", out], capture_output=True, text=True, check=False
    )
    assert embedded.returncode == 0, embedded.stderr
    import numpy as np

    import edgebert as here

    with here.load(tiny_bundle, engine="onnxruntime", precision="int8") as encoder:
        wanted = encoder.encode(["the dog runs", "the cat sleeps"])
    assert np.load(out).shape == (2, 64)
    np.testing.assert_allclose(np.load(out), wanted, atol=1e-5)


def test_the_device_install_names_the_extra_for_the_workshop(device: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        [device, "-I", "-m", "edgebert", "quantize", tiny_teacher, "--calibration", "none.txt", "-o", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, "pip install 'edgebert[workshop]'" in told.stderr) == (1, True), told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_the_device_install_names_the_extra_for_openvino(device: Path, tiny_bundle: Path) -> None:
    told = subprocess.run(
        [device, "-I", "-m", "edgebert", "embed", tiny_bundle, "--text", "a", "--engine", "openvino"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert told.stderr.strip() == ("edgebert: the engine 'openvino' is not installed: pip install 'edgebert[openvino]'")
