"""What the package says it offers, and what importing it costs."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import edgebert

HEAVY = {
    "torch", "transformers", "sentence_transformers", "accelerate", "optimum", "onnx", "onnxscript", "nncf", "scipy",
    "sklearn", "ir_measures", "pandas", "pyarrow", "datasets",
}  # fmt: skip
ENGINES = {"onnxruntime", "openvino"}
ALLOWED = {"edgebert"}


def modules_after(code: str, **environment: str) -> set[str]:
    """The top-level modules beside the standard library that a fresh interpreter holds after `code`."""
    script = (
        f"import sys, json\nbefore = set(sys.modules)\n{code}\n"
        "print(); print(json.dumps(sorted({n.partition('.')[0] for n in set(sys.modules) - before})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1])) - set(sys.stdlib_module_names)


def test_every_public_name_is_there() -> None:
    assert sorted(edgebert.__all__) == [
        "Answer", "Bundle", "Classification", "Classifier", "EdgeBertError", "Embedder", "MultiTask", "PairScorer",
        "QuestionAnswerer", "Ranked", "Regressor", "Sentence", "Tag", "Tagger", "__version__", "load", "summarize",
        "watch",
    ]  # fmt: skip
    for name in edgebert.__all__:
        assert getattr(edgebert, name) is not None
    assert edgebert.Bundle.__name__ == "Bundle"
    assert edgebert.Embedder.__name__ == "Embedder"
    assert issubclass(edgebert.EdgeBertError, Exception)
    assert callable(edgebert.load)


def test_the_version_is_that_of_the_installation() -> None:
    assert edgebert.__version__ == metadata.version("edgebert")


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'edgebert' has no attribute 'lode'"):
        edgebert.lode  # noqa: B018


def test_every_class_of_error_is_one_of_ours() -> None:
    errors = importlib.import_module("edgebert.errors")
    kinds = {k: v for k, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert {*kinds} == {
        "EdgeBertError", "BundleError", "RecipeError", "DataError", "EngineError", "TargetError", "BudgetError",
        "MissingExtraError", "NoSuchMethodError",
    }  # fmt: skip
    assert all(issubclass(kind, edgebert.EdgeBertError) for kind in kinds.values())


def test_importing_the_package_imports_nothing_else() -> None:
    found = modules_after("import edgebert")
    assert "edgebert" in found
    assert {name for name in found if not name.startswith("__editable__")} <= ALLOWED


def test_reading_the_version_imports_nothing_else() -> None:
    found = modules_after("import edgebert; edgebert.__version__")
    assert not found & (HEAVY | ENGINES | {"numpy", "tokenizers", "huggingface_hub"})


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_the_help_imports_nothing_but_click(arguments: list[str]) -> None:
    code = (
        f"sys.argv = ['edgebert', *{arguments!r}]\nfrom edgebert.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code"
    )
    found = modules_after(code)
    assert "click" in found
    assert not found & (HEAVY | ENGINES | {"numpy", "tokenizers", "huggingface_hub", "rich"})


@pytest.mark.parametrize(
    "command",
    ["bench", "distill", "embed", "evaluate", "export", "finetune", "package", "predict", "quantize", "trim", "verify"],
)
def test_the_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    code = (
        f"sys.argv = ['edgebert', {command!r}, '--help']\nfrom edgebert.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code"
    )
    assert not modules_after(code) & (HEAVY | ENGINES)


def test_encoding_in_onnx_runtime_imports_nothing_of_the_workshop(tiny_bundle: Path, own_cache: Path) -> None:
    code = (
        f"import edgebert\nencoder = edgebert.load({str(tiny_bundle)!r}, engine='onnxruntime')\n"
        "assert encoder.encode(['the dog', 'a cat']).shape == (2, 64)"
    )
    found = modules_after(code, EDGEBERT_CACHE=str(own_cache))
    assert {"onnxruntime", "numpy", "tokenizers"} <= found
    assert not found & (HEAVY | {"openvino", "rich"})


def test_encoding_in_openvino_imports_nothing_of_the_workshop(tiny_bundle: Path, own_cache: Path) -> None:
    code = (
        f"import edgebert\nencoder = edgebert.load({str(tiny_bundle)!r}, engine='openvino')\n"
        "assert encoder.encode(['the dog', 'a cat']).shape == (2, 64)"
    )
    found = modules_after(code, EDGEBERT_CACHE=str(own_cache))
    assert "openvino" in found
    assert not found & (HEAVY - {"onnx", "scipy"} | {"onnxruntime"})


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_later_load_imports_nothing_that_only_the_first_needs(
    engine: str, tiny_bundle: Path, own_cache: Path
) -> None:
    code = (
        "import sys\nsys.modules['openvino_telemetry'] = None  # its thread imports on and on\n"
        f"import {engine}, numpy\nbefore = set(sys.modules)\nimport edgebert\n"
        f"edgebert.load({str(tiny_bundle)!r}, engine={engine!r}).encode('the dog')\n"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    found: list[set[str]] = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "EDGEBERT_CACHE": str(own_cache), "OMP_NUM_THREADS": "2"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(set(json.loads(done.stdout.splitlines()[-1])))
    proving = {f"edgebert.{name}" for name in ("proving", "golden", "probes", "tuning")}
    assert proving <= found[0]
    idle = {f"edgebert.{name}" for name in ("placing", "foreign", "engine_files", "pretrained", "memory", "compact")}
    assert not found[1] & (proving | idle | {"subprocess", "tempfile", "asyncio"})


def test_what_has_hooks_for_forks_is_imported_before_threads_encode() -> None:
    found = "import sys, edgebert.embedder; sys.exit('concurrent.futures.thread' not in sys.modules)"
    subprocess.run([sys.executable, "-c", found], timeout=120, check=True)


def test_every_runtime_module_has_a_docstring_and_future_annotations() -> None:
    folder = Path(edgebert.__file__).parent
    for path in [
        *folder.glob("*.py"),
        *(p for n in ("cli", "engines", "integrations", "tasks") for p in (folder / n).glob("*.py")),
    ]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                parents = [p for p in ast.walk(tree) if node in ast.iter_child_nodes(p)]
                overload = any(getattr(one, "id", "") == "overload" for one in node.decorator_list)
                if isinstance(parents[0], ast.Module) and not overload:
                    assert ast.get_docstring(node), f"{path}: {node.name}"


def test_the_command_is_the_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgebert", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert edgebert.__version__ in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "edgebert", "verify", "./absent"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "edgebert: no such file or folder: ./absent\n"
