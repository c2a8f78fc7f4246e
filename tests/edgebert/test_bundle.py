"""Bundles: opening, hashing every file, and everything that can be wrong with the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgebert.bundle import Bundle, seal
from edgebert.errors import BundleError
from edgebert.manifest import MANIFEST_NAME

NAME = "onnx/model_qint8.onnx"


def rename_in_manifest(bundle: Path, old: str, new: str) -> None:
    path = bundle / MANIFEST_NAME
    path.write_text(path.read_text(encoding="utf-8").replace(f'"{old}"', json.dumps(new)), encoding="utf-8")


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_bundle_opens_and_holds(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    bundle.check()
    assert bundle.is_sealed
    assert bundle.source == str(tiny_bundle)
    assert bundle.path(NAME) == tiny_bundle / "onnx" / "model_qint8.onnx"
    there = {p.relative_to(tiny_bundle).as_posix() for p in tiny_bundle.rglob("*") if p.is_file()}
    assert there == {*bundle.manifest.files, MANIFEST_NAME}


def test_a_missing_file_is_named_when_opening_and_when_checking(copied_bundle: Path) -> None:
    bundle = Bundle.open(copied_bundle)
    (copied_bundle / NAME).unlink()
    with pytest.raises(BundleError, match=f"the file {NAME} is missing"):
        Bundle.open(copied_bundle)
    with pytest.raises(BundleError, match=f"is damaged: {NAME} is missing"):
        bundle.check()


@pytest.mark.parametrize("damage", [append, cut])
def test_another_size_is_named_with_both_sizes(damage: Callable[[Path], None], copied_bundle: Path) -> None:
    size = (copied_bundle / NAME).stat().st_size
    damage(copied_bundle / NAME)
    now = (copied_bundle / NAME).stat().st_size
    with pytest.raises(BundleError, match=f"{NAME} has {now} bytes and must have {size}"):
        Bundle.open(copied_bundle)


@pytest.mark.parametrize("name", [NAME, "config.json", "golden/vectors.npy", "openvino/openvino_model.bin"])
def test_one_changed_bit_is_found_by_the_check(name: str, copied_bundle: Path) -> None:
    flip(copied_bundle / name)
    with pytest.raises(BundleError, match=f"is damaged: {name} was changed$"):
        Bundle.open(copied_bundle).check()


def test_an_extra_file_is_found_by_the_check(copied_bundle: Path) -> None:
    (copied_bundle / "onnx" / "model.py").write_text("print()")
    with pytest.raises(BundleError, match=r"onnx/model.py is extra"):
        Bundle.open(copied_bundle).check()


def test_everything_wrong_is_named_at_once(copied_bundle: Path) -> None:
    bundle = Bundle.open(copied_bundle)
    flip(copied_bundle / "config.json")
    (copied_bundle / "vocab.txt").unlink()
    (copied_bundle / "notes.txt").write_text("x")
    with pytest.raises(BundleError, match=r"config.json was changed; vocab.txt is missing; notes.txt is extra"):
        bundle.check()


@pytest.mark.parametrize("outside", ["../secret", "/etc/passwd", "a/../../b", "C:/x", "a\\b", "."])
def test_a_name_that_leads_outside_is_refused(outside: str, copied_bundle: Path) -> None:
    rename_in_manifest(copied_bundle, NAME, outside)
    with pytest.raises(BundleError, match="leads outside the bundle") as caught:
        Bundle.open(copied_bundle)
    assert repr(outside) in str(caught.value)


def test_a_name_inside_is_a_path_below_the_folder(tmp_path: Path) -> None:
    assert Bundle.inside(tmp_path, "a/b.txt") == tmp_path / "a" / "b.txt"


def test_an_artifact_file_that_is_not_listed_is_refused(copied_bundle: Path) -> None:
    path = copied_bundle / MANIFEST_NAME
    data = json.loads(path.read_text(encoding="utf-8"))
    data["artifacts"]["onnxruntime-int8"]["files"] = ["onnx/other.onnx"]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BundleError, match=r"the manifest uses onnx/other.onnx, which is not among its files"):
        Bundle.open(copied_bundle)


def test_golden_files_must_be_listed_too(copied_bundle: Path) -> None:
    path = copied_bundle / MANIFEST_NAME
    data = json.loads(path.read_text(encoding="utf-8"))
    data["golden"]["vectors"] = "golden/others.npy"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BundleError, match=r"golden/others.npy, which is not among"):
        Bundle.open(copied_bundle)


def test_sealing_again_makes_a_changed_bundle_whole(copied_bundle: Path) -> None:
    bundle = Bundle.open(copied_bundle)
    append(copied_bundle / "README.md")
    (copied_bundle / "LICENSE").write_text("mine")
    sealed = seal(copied_bundle, bundle.manifest)
    sealed.check()
    assert sealed.manifest.files["LICENSE"].size == 4
    assert sealed.manifest.files["config.json"] == bundle.manifest.files["config.json"]


def test_a_bundle_keeps_its_own_lineage_wherever_it_lies(copied_bundle: Path) -> None:
    assert Bundle.from_pretrained(copied_bundle).manifest.lineage["source"] == "tiny"


def test_a_plain_folder_is_named_as_the_source(tiny_teacher: Path) -> None:
    bundle = Bundle.from_pretrained(tiny_teacher)
    assert not bundle.is_sealed
    assert bundle.manifest.lineage["source"] == "tiny"
    assert bundle.source == str(tiny_teacher)


def test_a_revision_goes_with_no_local_path(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"^revision 'main' goes with a Hub id, and .* is a local path"):
        Bundle.from_pretrained(tiny_bundle, revision="main")


@pytest.mark.parametrize("name", ["./absent", "/no/such/folder", "absent.edgebert", "a/b/c", "with space"])
def test_what_can_be_no_hub_id_is_a_missing_path(name: str) -> None:
    with pytest.raises(BundleError, match=f"no such file or folder: {name}"):
        Bundle.from_pretrained(name)


def test_a_hub_id_that_is_not_in_the_cache_is_named_without_a_network() -> None:
    with pytest.raises(BundleError, match=r"'someone/something' is neither a local path nor a model") as caught:
        Bundle.from_pretrained("someone/something")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: (b / NAME).unlink(), f"{NAME} is missing"),
        (lambda b: cut(b / NAME), f"{NAME} was changed"),
        (lambda b: flip(b / NAME), f"{NAME} was changed"),
        (lambda b: (b / "extra.bin").write_bytes(b"x"), "extra.bin is extra"),
        (lambda b: rename_in_manifest(b, NAME, "../../etc/passwd"), "'../../etc/passwd' leads outside"),
    ],
)
def test_verify_names_the_damage_and_fails(
    damage: Callable[[Path], object], says: str, copied_bundle: Path, cli: Callable[..., object]
) -> None:
    damage(copied_bundle)
    result = cli("verify", copied_bundle, "--json")
    assert result.code == 1
    report = json.loads(result.out)
    assert report["ok"] is False
    assert report["chosen"] is None
    files, *others = report["findings"]
    assert (files["what"], files["status"]) == ("files", "failed")
    assert says in files["detail"]
    assert [f["status"] for f in others] == ["not run"] * 4
    assert result.err.splitlines() == [f"edgebert: {copied_bundle} fails on this machine: files"]


@pytest.mark.parametrize("damage", [lambda b: (b / NAME).unlink(), lambda b: cut(b / NAME)])
def test_embed_refuses_a_damaged_bundle(
    damage: Callable[[Path], object],
    copied_bundle: Path,
    corpus_file: Path,
    tmp_path: Path,
    refused: Callable[..., str],
) -> None:
    damage(copied_bundle)
    out = tmp_path / "out.npy"
    refused("embed", copied_bundle, corpus_file, "-o", out, says=NAME, out=out)


def test_a_changed_config_of_the_same_size_is_no_trace(copied_bundle: Path, refused: Callable[..., str]) -> None:
    path = copied_bundle / "config.json"
    path.write_bytes(b"x" * path.stat().st_size)
    refused("embed", copied_bundle, "--text", "x", says="config.json is damaged")


def test_hidden_files_are_no_damage_wherever_they_lie(copied_bundle: Path) -> None:
    for name in (".gitattributes", "onnx/.DS_Store", ".cache/x"):
        (copied_bundle / name).parent.mkdir(exist_ok=True)
        (copied_bundle / name).write_text("x", encoding="utf-8")
    Bundle.open(copied_bundle).check()
    (copied_bundle / "onnx" / "more.onnx").write_text("x", encoding="utf-8")
    with pytest.raises(BundleError, match="onnx/more.onnx is extra"):
        Bundle.open(copied_bundle).check()


@pytest.mark.parametrize(
    ("key", "value"), [("max_length", 2**70), ("max_length", 2), ("pad_token_id", -1), ("dimension", 0)]
)
def test_a_manifest_with_a_number_out_of_range_is_refused(copied_bundle: Path, key: str, value: int) -> None:
    path = copied_bundle / "edgebert.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    with pytest.raises(BundleError, match=f"{key} is {value}; it must be within"):
        Bundle.open(copied_bundle)


def test_a_manifest_with_nan_is_refused(copied_bundle: Path) -> None:
    path = copied_bundle / "edgebert.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"ordinary": 0.97', '"ordinary": NaN'), encoding="utf-8")
    with pytest.raises(BundleError, match="NaN is no number"):
        Bundle.open(copied_bundle)
