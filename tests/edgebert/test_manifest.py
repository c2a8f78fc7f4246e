"""The manifest: what it says, how it is read, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgebert.bundle import Bundle
from edgebert.errors import BundleError
from edgebert.manifest import MANIFEST_NAME, Manifest, manifest_bytes, read_manifest


def changed(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = bundle / MANIFEST_NAME
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return bundle


def refuses(folder: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        read_manifest(folder)
    assert str(folder) in str(caught.value)


def test_the_manifest_of_a_quantized_bundle_says_what_it_is(tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    assert (manifest.schema, manifest.task, manifest.architecture) == (1, "embedding", "bert")
    assert (manifest.pooling, manifest.normalize, manifest.dimension) == (("mean",), True, 64)
    assert manifest.max_length == 48
    assert sorted(manifest.artifacts) == ["onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-int8"]
    assert manifest.golden is not None
    assert manifest.lineage["source"] == "tiny"


def test_the_bytes_read_back_as_the_same_facts_and_the_same_bytes(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    data = manifest_bytes(manifest)
    assert data == (tiny_bundle / MANIFEST_NAME).read_bytes()
    (tmp_path / MANIFEST_NAME).write_bytes(data)
    assert read_manifest(tmp_path) == manifest


def test_the_order_of_tables_does_not_change_the_bytes() -> None:
    facts = Manifest(1, "embedding", "bert", ("mean",), True, 8, 16, prompts={"a": "1", "b": "2"})
    turned = dataclasses.replace(facts, prompts={"b": "2", "a": "1"})
    assert manifest_bytes(facts) == manifest_bytes(turned)


def test_text_outside_ascii_stays_readable() -> None:
    facts = Manifest(1, "embedding", "bert", ("mean",), True, 8, 16, prompts={"query": "查询: "})
    assert "查询: ".encode() in manifest_bytes(facts)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    refuses(tmp_path, r"is not a bundle: it has no edgebert.json")


@pytest.mark.parametrize("data", [b"", b"{", b'{"schema": 1', b"\xff\xfe"])
def test_a_manifest_that_is_not_json_is_damaged(data: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(data)
    refuses(tmp_path, "is damaged, it is not JSON")


@pytest.mark.parametrize("version", [0, 2, "1", None, 99])
def test_an_unknown_schema_version_is_named_with_the_known_one(version: object, copied_bundle: Path) -> None:
    changed(copied_bundle, lambda m: m.update(schema=version))
    refuses(copied_bundle, rf"schema version {version!r}; this edgebert reads 1")


@pytest.mark.parametrize("data", ["[]", "1", '"text"', "null"])
def test_json_that_is_no_table_has_no_version(data: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text(data)
    refuses(tmp_path, "schema version None")


def test_an_unknown_key_is_named_with_the_known_ones(copied_bundle: Path) -> None:
    changed(copied_bundle, lambda m: m.update(dimensions=64))
    refuses(copied_bundle, r"unknown key 'dimensions'; known are architecture, artifacts, .*dimension, ")


def test_an_unknown_key_of_an_artifact_says_which(copied_bundle: Path) -> None:
    changed(copied_bundle, lambda m: m["artifacts"]["openvino-int8"].update(device="npu"))
    refuses(copied_bundle, r"artifacts.openvino-int8: unknown key 'device'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("dimension"), "the key 'dimension' is missing"),
        (lambda m: m.update(dimension="64"), "dimension: int is wanted, not '64'"),
        (lambda m: m.update(normalize=1), "normalize: bool is wanted, not 1"),
        (lambda m: m.update(pooling=["median"]), r"pooling\[0\]: 'median' is not one of 'cls'"),
        (lambda m: m.update(task=1), "task: str is wanted, not 1"),
        (lambda m: m["artifacts"]["openvino-int8"].update(engine="coreml"), "'coreml' is not one of 'onnxruntime'"),
        (lambda m: m["files"]["config.json"].update(size="1"), r"files.config.json: size: int is wanted, not '1'"),
    ],
)
def test_a_wrong_value_is_named(change: Callable[[dict[str, Any]], object], message: str, copied_bundle: Path) -> None:
    refuses(changed(copied_bundle, change), message)


def test_the_command_line_says_it_in_one_line(copied_bundle: Path, refused: Callable[..., str]) -> None:
    changed(copied_bundle, lambda m: m.update(schema=7))
    for command in ("verify", "export"):
        out = copied_bundle.parent / "out"
        more = ["-o", out] if command == "export" else []
        refused(command, copied_bundle, *more, says="schema version 7", out=out)


def test_an_unknown_key_reaches_the_command_line(copied_bundle: Path, refused: Callable[..., str]) -> None:
    changed(copied_bundle, lambda m: m.update(colour="red"))
    refused("verify", copied_bundle, says="unknown key 'colour'")


def test_a_plain_folder_is_opened_as_a_model_and_has_no_manifest(tiny_teacher: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_teacher, tmp_path / "plain"))
    refuses(folder, "is not a bundle")
    assert Bundle.from_pretrained(folder).manifest.dimension == 64
