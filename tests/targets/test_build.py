"""Packages: every shipped profile, one's own, static shapes, and what a bundle cannot give."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result
from helpers import assert_refused, sentences

import edgebert
from edgebert.bundle import Bundle
from edgebert.errors import TargetError
from edgebert.targets import build
from edgebert.targets.build import build_package
from edgebert.targets.profile import Profile, read_profile, shipped_profiles
from edgebert.vectors import row_cosines

Cli = Callable[..., Result]


def own(tmp_path: Path, **keys: Any) -> Path:
    """A profile of one's own; every value is as JSON writes it, which TOML reads too."""
    known = {"name": "mine", "description": "a box", "artifacts": ["onnxruntime-int8"], **keys}
    path = tmp_path / "mine.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in known.items()), encoding="utf-8")
    return path


def manifest_of(package: Path) -> dict[str, Any]:
    """The manifest in a package."""
    with zipfile.ZipFile(package) as archive:
        found: dict[str, Any] = json.loads(archive.read("edgebert.json"))
    return found


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_package_for_every_shipped_profile_is_built_and_verifies(
    name: str, tiny_bundle: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out" / f"{name}.edgebert"
    built = cli("package", tiny_bundle, "-o", out, "--target", name)
    assert built.code == 0, built.err
    assert built.out.startswith(f"{out}: ")
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    manifest, profile = manifest_of(out), read_profile(name)
    assert manifest["target"] == name
    assert set(manifest["artifacts"]) == {f"{a}-static" if profile.static else a for a in profile.artifacts}
    verified = cli("verify", out, "--json")
    assert verified.code == 0, verified.err
    report = json.loads(verified.out)
    assert report["ok"]
    assert {f["what"] for f in report["findings"] if f["status"] == "ok"} >= set(manifest["artifacts"])


def test_a_package_holds_what_the_device_needs_and_nothing_else(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.edgebert"
    build_package(Bundle.from_pretrained(tiny_bundle), out, read_profile("linux-arm64"))
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == [
            "edgebert.json", "README.md", "config.json", "golden/cases.json", "golden/vectors.npy",
            "onnx/model_qint8.onnx", "tokenizer.json",
        ]  # fmt: skip
    manifest = manifest_of(out)
    assert sorted(manifest["files"]) == sorted(set(zipfile.ZipFile(out).namelist()) - {"edgebert.json"})
    assert {q["artifact"] for q in manifest["quality"]} == {"onnxruntime-int8"}


def test_a_packages_tokenizer_says_the_same_in_fewer_bytes(tiny_bundle: Path, tmp_path: Path) -> None:
    build_package(Bundle.from_pretrained(tiny_bundle), tmp_path / "p.edgebert")
    before = (tiny_bundle / "tokenizer.json").read_bytes()
    with zipfile.ZipFile(tmp_path / "p.edgebert") as archive:
        packed = archive.read("tokenizer.json")
    assert json.loads(packed) == json.loads(before)
    assert "\u72d7".encode() in packed  # a Chinese character as it is, not as six of ASCII
    assert len(packed) < 0.7 * len(before)


def test_without_a_target_the_int8_artifacts_are_taken(tiny_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "p.edgebert"
    assert cli("package", tiny_bundle, "-o", out).code == 0
    assert set(manifest_of(out)["artifacts"]) == {"onnxruntime-int8", "openvino-int8"}
    assert manifest_of(out)["target"] is None


def test_without_int8_the_fp32_artifacts_are_taken(copied_bundle: Path, tmp_path: Path) -> None:
    import dataclasses

    bundle = Bundle.open(copied_bundle)
    fp32 = {n: a for n, a in bundle.manifest.artifacts.items() if a.precision == "fp32"}
    reduced = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, artifacts=fp32))
    build_package(reduced, tmp_path / "p.edgebert")
    assert set(manifest_of(tmp_path / "p.edgebert")["artifacts"]) == {"onnxruntime-fp32", "openvino-fp32"}


@pytest.mark.parametrize("target", [None, "linux-x86-avx2", "intel-npu"])
def test_the_same_bundle_gives_the_same_bytes(
    target: str | None, tiny_bundle: Path, copied_bundle: Path, tmp_path: Path, cli: Cli
) -> None:
    options = ["--target", target] if target else []
    for name, bundle in (("a", tiny_bundle), ("b", copied_bundle)):
        assert cli("package", bundle, "-o", tmp_path / f"{name}.edgebert", *options).code == 0
    assert (tmp_path / "a.edgebert").read_bytes() == (tmp_path / "b.edgebert").read_bytes()


def test_static_shapes_give_the_vectors_of_dynamic_ones(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.edgebert"
    bundle = Bundle.from_pretrained(tiny_bundle)
    names = ("openvino-int8", "openvino-fp32", "onnxruntime-int8", "onnxruntime-fp32")
    build_package(bundle, out, Profile("npu", "npu", names, static=True))
    artifacts = manifest_of(out)["artifacts"]
    assert {a["shapes"] for a in artifacts.values()} == {"static"}
    texts = ["", "a dog.", *sentences(12, seed=4), "cat " * 90]
    for engine in ("openvino", "onnxruntime"):
        for precision, near in (("fp32", 1e-5), ("int8", 2e-2)):
            static = edgebert.load(out, engine=engine, precision=precision).encode(texts)
            dynamic = edgebert.load(tiny_bundle, engine=engine, precision=precision).encode(texts)
            assert np.abs(static - dynamic).max() < near


def test_a_package_with_static_shapes_holds_the_weights_once(tiny_bundle: Path, tmp_path: Path) -> None:
    sizes = {}
    for static in (False, True):
        out = tmp_path / f"{static}.edgebert"
        build_package(Bundle.from_pretrained(tiny_bundle), out, Profile("x", "x", ("openvino-int8",), static=static))
        with zipfile.ZipFile(out) as archive:
            sizes[static] = {n.filename: n.file_size for n in archive.infolist() if n.filename != "edgebert.json"}
    assert sizes[True] == sizes[False]
    assert [name for name in sizes[True] if name.endswith(".bin")] == ["openvino/openvino_model_qint8.bin"]


def test_a_users_own_profile_is_built(tiny_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "p.edgebert"
    profile = own(tmp_path, artifacts=["onnxruntime-fp32", "openvino-int8"], max_size_mb=50)
    result = cli("package", tiny_bundle, "-o", out, "--target", profile)
    assert result.code == 0, result.err
    manifest = manifest_of(out)
    assert (manifest["target"], set(manifest["artifacts"])) == ("mine", {"onnxruntime-fp32", "openvino-int8"})
    vectors = edgebert.load(out).encode(sentences(3))
    assert vectors.shape == (3, 64)


def test_an_unknown_target_and_an_unknown_key_are_refused(tiny_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "p.edgebert"
    assert_refused(cli("package", tiny_bundle, "-o", out, "--target", "toaster"), out, "'toaster'", "intel-npu")
    refused = cli("package", tiny_bundle, "-o", out, "--target", own(tmp_path, colour="red"))
    assert_refused(refused, out, "mine.toml", "unknown key 'colour'", "max_size_mb")


def test_an_artifact_that_is_missing_is_named_with_those_there(tiny_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "p.edgebert"
    profile = own(tmp_path, artifacts=["openvino-int8", "coreml-fp16"])
    result = cli("package", tiny_bundle, "-o", out, "--target", profile)
    assert_refused(result, out, "target mine needs the artifact coreml-fp16", "has onnxruntime-fp32, ")


def test_a_package_that_would_be_too_large_is_refused_with_its_size(
    tiny_bundle: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "p.edgebert"
    result = cli("package", tiny_bundle, "-o", out, "--target", own(tmp_path, max_size_mb=0.1))
    assert_refused(result, out, "the package for mine would have 0.", " MB; max_size_mb is 0.1")


def test_a_model_without_artifacts_is_refused(tiny_teacher: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "p.edgebert"
    result = cli("package", tiny_teacher, "-o", out)
    assert_refused(result, out, "has no files for an engine yet: run `edgebert quantize")


def test_a_damaged_bundle_is_refused(copied_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    path = copied_bundle / "onnx" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(bytes(content))
    (copied_bundle / "more.txt").write_text("x", encoding="utf-8")
    out = tmp_path / "p.edgebert"
    assert_refused(cli("package", copied_bundle, "-o", out), out, "onnx/model.onnx was changed", "more.txt is extra")


def test_an_output_of_another_suffix_or_that_exists_is_refused(tiny_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "p.zip"
    assert_refused(cli("package", tiny_bundle, "-o", out), out, f"{out} must end in .edgebert")
    out = tmp_path / "p.edgebert"
    out.write_text("mine", encoding="utf-8")
    result = cli("package", tiny_bundle, "-o", out)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert f"the output {out} exists already" in result.err
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["_gather", "pack", "seal"])
def test_an_interrupt_leaves_nothing_half_written(
    name: str, tiny_bundle: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, name, interrupted)
    result = cli("package", tiny_bundle, "-o", tmp_path / "out" / "p.edgebert")
    assert (result.code, result.err.strip()) == (130, "edgebert: interrupted")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_package_of_a_package_is_the_same_package(tiny_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    one, two = tmp_path / "one.edgebert", tmp_path / "two.edgebert"
    assert cli("package", tiny_bundle, "-o", one, "--target", "linux-arm64").code == 0
    assert cli("package", one, "-o", two, "--target", "linux-arm64").code == 0
    assert one.read_bytes() == two.read_bytes()


def test_the_bundle_itself_is_not_changed(copied_bundle: Path, tiny_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    assert cli("package", copied_bundle, "-o", tmp_path / "p.edgebert", "--target", "intel-npu").code == 0
    Bundle.open(copied_bundle).check()
    names = [sorted(p.relative_to(b).as_posix() for b in (root,) for p in root.rglob("*")) for root in
             (copied_bundle, tiny_bundle)]  # fmt: skip
    assert names[0] == names[1]
    shutil.rmtree(copied_bundle)
    assert edgebert.load(tmp_path / "p.edgebert").encode(["a dog"]).shape == (1, 64)


def test_one_file_serves_both_engines_with_the_vectors_of_their_own(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.edgebert"
    build_package(Bundle.open(tiny_bundle), out, read_profile("any-cpu"))
    with zipfile.ZipFile(out) as archive:
        assert [n for n in archive.namelist() if n.startswith(("onnx/", "openvino/"))] == ["onnx/model_qint8.onnx"]
    texts = sentences(20, seed=5)
    for engine in ("onnxruntime", "openvino"):
        with (
            edgebert.load(out, engine=engine) as one,
            edgebert.load(tiny_bundle, engine=engine, precision="int8") as own,
        ):
            assert one.runs == own.runs
            # OpenVINO may round an activation otherwise in a graph that it reads from another format.
            assert row_cosines(one.encode(texts), own.encode(texts)).min() > 0.9999


def test_one_file_wants_the_artifact_that_the_other_was_converted_from(tiny_bundle: Path, tmp_path: Path) -> None:
    profile = Profile("mine", "a box", ("openvino-int8", "onnxruntime-fp32"), one_file=True)
    out = tmp_path / "one.edgebert"
    with pytest.raises(TargetError) as refused:
        build_package(Bundle.open(tiny_bundle), out, profile)
    assert str(refused.value) == (
        f"target mine has one_file, and {tiny_bundle} has no artifact of onnxruntime with the precision int8 and the "
        "recipe of openvino's among openvino-int8, onnxruntime-fp32"
    )
    assert not out.exists()
