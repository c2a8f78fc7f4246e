"""Models that come with EdgeBERT: found by name, used for a lone text, and never in the way of a path or a Hub id."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Result
from helpers import assert_refused

import edgebert
from edgebert import hub
from edgebert.bundle import Bundle
from edgebert.errors import BundleError
from edgebert.hub import DEFAULT_MODEL, resolve, shipped_models
from edgebert.targets.build import build_package
from edgebert.targets.profile import read_profile

Cli = Callable[..., Result]
TEXT = "the dog runs"


@pytest.fixture
def default(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package in the place of the default model."""
    folder = tmp_path / "shipped"
    build_package(Bundle.open(tiny_bundle), folder / f"{DEFAULT_MODEL}.edgebert", read_profile("any-cpu"))
    monkeypatch.setattr(hub, "_SHIPPED", folder)
    monkeypatch.chdir(tmp_path)
    return folder / f"{DEFAULT_MODEL}.edgebert"


def test_a_shipped_model_is_found_by_its_name(default: Path, tiny_bundle: Path) -> None:
    assert shipped_models() == [DEFAULT_MODEL]
    assert resolve(DEFAULT_MODEL) == default
    with edgebert.load(DEFAULT_MODEL) as named, edgebert.load(default) as opened:
        np.testing.assert_array_equal(named.encode([TEXT]), opened.encode([TEXT]))


def test_a_path_of_that_name_comes_first(default: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / DEFAULT_MODEL)
    assert resolve(DEFAULT_MODEL) == Path(DEFAULT_MODEL)


def test_a_shipped_model_has_no_revisions(default: Path) -> None:
    with pytest.raises(BundleError) as refused:
        edgebert.load(DEFAULT_MODEL, revision="main")
    assert str(refused.value) == f"revision 'main' goes with a Hub id, and {DEFAULT_MODEL} comes with EdgeBERT"


@pytest.mark.parametrize("arguments", [(TEXT,), ("--text", TEXT), (DEFAULT_MODEL, "--text", TEXT)])
def test_a_lone_text_is_embedded_by_the_default_model(arguments: tuple[str, ...], default: Path, cli: Cli) -> None:
    found = cli("embed", *arguments)
    assert found.code == 0, found.err
    assert (f"edgebert: {DEFAULT_MODEL}\n" in found.err) == (DEFAULT_MODEL not in arguments)
    with edgebert.load(default) as encoder:
        np.testing.assert_allclose(json.loads(found.out), encoder.encode(TEXT), atol=1e-5)


def test_one_word_and_an_address_with_blanks_are_texts(default: Path, cli: Cli) -> None:
    for text in ("hello", "either / or", "你好", "x" * 5000):
        assert cli("embed", text).code == 0


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "folder/model", "model.edgebert", "."])
def test_a_lone_model_is_not_taken_for_a_text(model: str, default: Path, cli: Cli) -> None:
    found = cli("embed", model)
    assert (found.code, found.out) == (2, "")
    assert "give -o OUT.npy, .jsonl or .parquet for the vectors, or --text TEXT to print one" in found.err


def test_nothing_at_all_is_wrong_usage(default: Path, cli: Cli) -> None:
    found = cli("embed")
    assert (found.code, found.out) == (2, "")
    assert "give a text, a MODEL and FILES, or --text TEXT" in found.err


def test_a_name_that_is_not_shipped_is_looked_for_on_the_hub(
    default: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = cli("embed", "edgebert-mini-xx", "--text", TEXT)
    assert_refused(
        found, tmp_path / "none" / "x", "'edgebert-mini-xx' is neither a local path nor a model that the Hub gives here"
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", shipped_models())
def test_what_comes_with_edgebert_is_whole_small_and_knows_what_is_alike(name: str, engine: str) -> None:
    assert resolve(name).stat().st_size < 15e6
    english = ["How do I reset my password?", "I forgot the code to log in", "The cat sleeps on the sofa"]
    chinese = ["怎么重置我的密码？", "我忘了登录的密码", "猫在沙发上睡觉"]
    traditional = ["怎麼重置我的密碼？", "我忘了登入的密碼", "貓在沙發上睡覺"]
    with edgebert.load(name, engine=engine) as encoder:
        for texts in (english, chinese, traditional) if name.endswith("-zh") else (english,):
            scores = encoder.similarity(encoder.encode_query(texts), encoder.encode_query(texts))
            others = max(scores[0, 2], scores[1, 2])
            # Vectors of the Chinese model's teacher all lie near each other.
            assert scores[0, 1] > others + 0.05 if name.endswith("-zh") else scores[0, 1] > 0.4 > others


def test_the_default_model_comes_with_edgebert() -> None:
    assert DEFAULT_MODEL in shipped_models()


@pytest.mark.parametrize("name", shipped_models())
def test_the_manifest_of_what_is_shipped_names_no_place_on_a_machine(name: str) -> None:
    bundle = Bundle.from_pretrained(name)
    bundle.check()
    assert not any(part in json.dumps(dict(bundle.manifest.lineage)) for part in ("/root", "/home", "/tmp"))
    assert "Scores" in (bundle.root / "README.md").read_text(encoding="utf-8")
