"""What all adapters share: opening the model, missing frameworks, and their page in the documents."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from edgebert import Embedder
from edgebert.errors import MissingExtraError, RecipeError
from edgebert.integrations.options import EncodeOptions, LoadOptions, named

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "integrations.md"
FRAMEWORKS = [
    ("langchain", "langchain_core", "langchain"),
    ("llama_index", "llama_index", "llama-index"),
    ("haystack", "haystack", "haystack"),
    ("mteb", "mteb", "mteb"),
    ("scikit_learn", "sklearn", "scikit-learn"),
]


@pytest.mark.parametrize(("module", "package", "extra"), FRAMEWORKS)
def test_a_missing_framework_is_named_with_its_extra(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"edgebert.integrations.{module}", raising=False)
    with pytest.raises(MissingExtraError) as told:
        import_module(f"edgebert.integrations.{module}")
    assert str(told.value).startswith(f"edgebert.integrations.{module} needs the package '{package}")
    assert str(told.value).endswith(f"which is not installed: pip install 'edgebert[{extra}]'")


def test_a_framework_is_imported_by_its_own_module_only() -> None:
    names = {package for _, package, _ in FRAMEWORKS}
    code = (
        "import sys, edgebert.integrations, edgebert.integrations.options\n"
        f"print(sorted({names!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_embedder_is_taken_as_it_is(encoder: Embedder) -> None:
    assert LoadOptions().open(encoder) is encoder


@pytest.mark.parametrize(
    ("name", "value"), [("engine", "openvino"), ("precision", "fp32"), ("threads", 2), ("revision", "main")]
)
def test_load_options_beside_an_embedder_are_refused(encoder: Embedder, name: str, value: str | int) -> None:
    with pytest.raises(RecipeError, match=f"{name} is {value!r}, but the model is loaded already"):
        LoadOptions(**{name: value}).open(encoder)  # type: ignore[arg-type]


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"model is 7 \(int\); an Embedder, a path or a name is needed"):
        LoadOptions().open(7)  # type: ignore[arg-type]


def test_load_options_reach_the_model(prompted: Path) -> None:
    with LoadOptions("onnxruntime", "fp32", 1).open(prompted) as opened:
        assert (opened.engine, opened.precision) == ("onnxruntime", "fp32")


def test_encode_options_reach_the_model(encoder: Embedder) -> None:
    options = EncodeOptions(batch_size=2, truncate_dim=8, query_prompt="the dog ", document_prompt="")
    texts = ["the cat sleeps", "a bird", "the river"]
    wanted = encoder.encode(texts, batch_size=2, truncate_dim=8, prompt="the dog ")
    assert options.query(encoder, texts).tolist() == wanted.tolist()
    wanted = encoder.encode(texts, batch_size=2, truncate_dim=8)
    assert options.document(encoder, texts).tolist() == wanted.tolist()
    assert options.document(encoder, texts).tolist() != encoder.encode_document(texts, truncate_dim=8).tolist()


def test_an_embedder_has_no_name_to_write_down(encoder: Embedder) -> None:
    with pytest.raises(RecipeError, match="writing it needs the model's name or path, not Embedder"):
        named(encoder, "writing it")


SNIPPETS = re.findall(r"## (.+?)\n.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("code", [code for _, code in SNIPPETS], ids=[title for title, _ in SNIPPETS])
def test_the_code_of_the_page_runs(code: str, prompted: Path, tmp_path: Path, own_cache: Path) -> None:
    shutil.copytree(prompted, tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False,
        env={**os.environ, "EDGEBERT_CACHE": str(own_cache), "MTEB_CACHE": str(tmp_path / "mteb")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_page_shows_every_framework() -> None:
    assert len(SNIPPETS) == len(FRAMEWORKS)
    for module, _, extra in FRAMEWORKS:
        assert f"edgebert.integrations.{module} import" in PAGE.read_text(encoding="utf-8")
        assert f"edgebert[{extra}]" in PAGE.read_text(encoding="utf-8")
