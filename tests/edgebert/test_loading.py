"""Which pair of engine and precision is opened, and how a wrong one is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import edgebert
from edgebert import engines, variants
from edgebert.bundle import Bundle, seal
from edgebert.errors import BundleError, EdgeBertError, EngineError, RecipeError
from edgebert.models import open_model
from edgebert.plan import default_plan
from edgebert.stamps import Stamp, read_stamp, write_stamp
from edgebert.variants import candidates

if TYPE_CHECKING:
    from conftest import Pretended

NAMES = ["openvino-int8", "onnxruntime-int8", "openvino-fp32", "onnxruntime-fp32"]


def opened(folder: Path, **options: object) -> str:
    with edgebert.load(folder, threads=1, **options) as encoder:  # type: ignore[arg-type]
        assert encoder.encode("the dog").shape == (64,)
        return f"{encoder.engine}-{encoder.precision}"


def names(bundle: Bundle, **options: str) -> list[str]:
    return [variant.name for variant in candidates(bundle, **options)]


def spoil(folder: Path, name: str) -> None:
    """Turns the weights of the ONNX artifact `name` upside down and seals the bundle again."""
    import onnx
    from onnx import numpy_helper

    manifest = Bundle.open(folder).manifest
    path = folder / manifest.artifacts[name].files[0]
    model = onnx.load(path)
    turned = 0
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[::-1]), tensor.name))
            turned += 1
    assert turned
    onnx.save(model, path)
    seal(folder, manifest)


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name in missing else object())


def test_auto_takes_int8_in_openvino_as_long_as_nothing_was_timed(tiny_bundle: Path) -> None:
    assert opened(tiny_bundle) == "openvino-int8"
    assert names(Bundle.open(tiny_bundle)) == NAMES


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_pair_can_be_asked_for(engine: str, precision: str, tiny_bundle: Path) -> None:
    assert opened(tiny_bundle, engine=engine, precision=precision) == f"{engine}-{precision}"


def test_one_half_of_the_pair_can_be_asked_for(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert names(bundle, engine="onnxruntime") == ["onnxruntime-int8", "onnxruntime-fp32"]
    assert names(bundle, precision="fp32") == ["openvino-fp32", "onnxruntime-fp32"]


def test_the_engine_that_was_found_faster_comes_first_within_a_precision(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    for name, seconds in {"onnxruntime-int8": 0.01, "openvino-int8": 0.02, "onnxruntime-fp32": 0.001}.items():
        write_stamp(bundle, Stamp(name, True, seconds=seconds))
    assert names(bundle) == ["onnxruntime-int8", "openvino-int8", "onnxruntime-fp32", "openvino-fp32"]
    assert opened(tiny_bundle) == "onnxruntime-int8"


def test_without_openvino_onnx_runtime_is_taken(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino")
    assert opened(tiny_bundle) == "onnxruntime-int8"


@pytest.mark.parametrize(
    ("engine", "command"), [("openvino", r"pip install 'edgebert\[openvino\]'"), ("onnxruntime", "pip install onnx")]
)
def test_an_engine_that_is_not_installed_names_what_installs_it(
    engine: str, command: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, engine)
    with pytest.raises(EngineError, match=f"the engine '{engine}' is not installed: {command}"):
        edgebert.load(tiny_bundle, engine=engine)


def test_without_any_engine_the_first_is_named(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(EngineError, match="the engine 'onnxruntime' is not installed: pip install onnxruntime"):
        edgebert.load(tiny_bundle)


def test_the_command_line_names_the_extra(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    without(monkeypatch, "openvino")
    refused("embed", tiny_bundle, "--text", "x", "--engine", "openvino", says="pip install 'edgebert[openvino]'")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tensorrt"}, "engine is 'tensorrt'; it must be one of auto, onnxruntime, openvino"),
        ({"precision": "int4"}, "precision is 'int4'; it must be one of auto, int8, fp32, bf16, fp16"),
        ({"threads": 0}, "threads is 0; it must be 1 to 1024"),
    ],
)
def test_an_unknown_option_is_named(options: dict[str, object], message: str, tiny_bundle: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        edgebert.load(tiny_bundle, **options)  # type: ignore[arg-type]


def test_an_artifact_that_is_not_there_is_named_with_those_that_are(copied_bundle: Path) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    only = {"onnxruntime-fp32": manifest.artifacts["onnxruntime-fp32"]}
    seal(copied_bundle, dataclasses.replace(manifest, artifacts=only))
    with pytest.raises(EngineError, match="has no artifact for openvino-int8; it has onnxruntime-fp32"):
        edgebert.load(copied_bundle, engine="openvino", precision="int8")
    assert opened(copied_bundle) == "onnxruntime-fp32"


def test_a_model_without_engine_files_says_what_makes_them(tiny_teacher: Path) -> None:
    with pytest.raises(EngineError, match=f"has no files for an engine yet: run `edgebert quantize {tiny_teacher} "):
        edgebert.load(tiny_teacher)


def test_a_pair_with_wrong_vectors_is_refused_and_the_next_one_taken(
    copied_bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "openvino")
    spoil(copied_bundle, "onnxruntime-int8")
    with caplog.at_level(logging.WARNING, "edgebert.loading"):
        assert opened(copied_bundle) == "onnxruntime-fp32"
    (record,) = caplog.records
    assert f"{copied_bundle}: onnxruntime-int8 is refused: cosine " in record.message
    assert "at least 0.97 is needed" in record.message


def test_a_refused_pair_is_remembered_with_its_reason(
    copied_bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "openvino")
    spoil(copied_bundle, "onnxruntime-int8")
    opened(copied_bundle)
    stamp = read_stamp(Bundle.open(copied_bundle), "onnxruntime-int8")
    assert stamp is not None
    assert not stamp.verified
    assert "cosine" in stamp.problem
    caplog.clear()
    assert opened(copied_bundle) == "onnxruntime-fp32"
    assert "it failed on this machine before (cosine " in caplog.text


def test_a_pair_that_was_asked_for_and_is_wrong_is_an_error(copied_bundle: Path, refused: Callable[..., str]) -> None:
    spoil(copied_bundle, "onnxruntime-int8")
    with pytest.raises(EngineError, match=r"nothing that was asked for works here. onnxruntime-int8: cosine"):
        edgebert.load(copied_bundle, engine="onnxruntime", precision="int8")


def test_golden_vectors_of_another_model_refuse_every_pair(copied_bundle: Path) -> None:
    bundle = Bundle.open(copied_bundle)
    assert bundle.manifest.golden is not None
    path = copied_bundle / bundle.manifest.golden.vectors
    np.save(path, np.load(path)[:, ::-1].copy())
    seal(copied_bundle, bundle.manifest)
    with pytest.raises(EngineError, match="nothing that was asked for works here") as caught:
        edgebert.load(copied_bundle)
    assert all(f"{name}: cosine" in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("name", ["onnxruntime-int8", "openvino-int8"])
def test_a_file_that_its_engine_cannot_read_is_refused(name: str, copied_bundle: Path) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    (copied_bundle / manifest.artifacts[name].files[0]).write_bytes(b"nonsense")
    seal(copied_bundle, manifest)
    engine, precision = name.split("-")
    with pytest.raises(EngineError, match=f"{name}: .* cannot load .*{manifest.artifacts[name].files[0]}") as caught:
        edgebert.load(copied_bundle, engine=engine, precision=precision)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(copied_bundle: Path) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    path = copied_bundle / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    assert '"lowercase":true' in text.replace(" ", "")
    path.write_text(text.replace('"##a"', '"##A"'), encoding="utf-8")
    seal(copied_bundle, manifest)
    with pytest.raises(BundleError, match=r"the tokenizer gives \[2, .* and must give \[2, .*: they do not match"):
        edgebert.load(copied_bundle)


def test_a_bundle_without_golden_vectors_cannot_be_proven(copied_bundle: Path) -> None:
    seal(copied_bundle, dataclasses.replace(Bundle.open(copied_bundle).manifest, golden=None))
    with pytest.raises(BundleError, match="has no golden vectors to prove an engine with"):
        edgebert.load(copied_bundle)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"nonsense"])
def test_golden_vectors_that_cannot_be_read_are_named(data: bytes, copied_bundle: Path) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    assert manifest.golden is not None
    (copied_bundle / manifest.golden.vectors).write_bytes(data)
    seal(copied_bundle, manifest)
    with pytest.raises(BundleError, match=r"golden/vectors.npy holds no golden cases that can be read"):
        edgebert.load(copied_bundle)


def test_golden_cases_without_any_text_are_named(copied_bundle: Path) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    assert manifest.golden is not None
    cases, vectors = (copied_bundle / name for name in (manifest.golden.cases, manifest.golden.vectors))
    known = json.loads(cases.read_text(encoding="utf-8"))
    (empty,) = [i for i, case in enumerate(known) if len(case["input_ids"]) == 2][:1]
    cases.write_text(json.dumps([known[empty]]), encoding="utf-8")
    np.save(vectors, np.load(vectors)[empty : empty + 1])
    seal(copied_bundle, manifest)
    with pytest.raises(BundleError, match="cases.json: no golden case has more than 2 token ids; one at least must"):
        edgebert.load(copied_bundle, threads=2)


@pytest.mark.parametrize(
    "data", ["{}", "[1]", '[{"text": "x"}]', "[", '[{"text": "x", "input_ids": [1], "kind": "y"}]']
)
def test_golden_cases_that_cannot_be_read_are_named(data: str, copied_bundle: Path) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    assert manifest.golden is not None
    (copied_bundle / manifest.golden.cases).write_text(data)
    seal(copied_bundle, manifest)
    with pytest.raises(BundleError, match=r"golden/(cases.json holds no golden cases|vectors.npy: vectors of shape)"):
        edgebert.load(copied_bundle)


def test_a_proven_pair_is_not_proven_again(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    assert opened(tiny_bundle) == "openvino-int8"
    stamp = read_stamp(Bundle.open(tiny_bundle), "openvino-int8")
    assert stamp == Stamp("openvino-int8", True)
    assert len(list((own_cache / "stamps").iterdir())) == 1

    def again(*_: object) -> None:
        pytest.fail("it was proven before")

    monkeypatch.setattr("edgebert.proving.open_first", again)
    assert opened(tiny_bundle) == "openvino-int8"


def test_a_changed_file_is_refused_at_first_use_and_after_it(copied_bundle: Path) -> None:
    path = copied_bundle / "onnx" / "model_qint8.onnx"
    whole = path.read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes(changed)
    with pytest.raises(BundleError, match=r"onnx/model_qint8.onnx was changed"):
        edgebert.load(copied_bundle)
    path.write_bytes(whole)
    assert opened(copied_bundle) == "openvino-int8"
    path.write_bytes(changed)
    with pytest.raises(BundleError, match=r"onnx/model_qint8.onnx was changed"):
        edgebert.load(copied_bundle)


def test_a_stamp_does_not_hold_for_another_bundle_or_version(
    copied_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(copied_bundle)
    write_stamp(bundle, Stamp("openvino-int8", True))
    assert read_stamp(bundle, "openvino-int8") is not None
    assert read_stamp(bundle, "openvino-fp32") is None
    other = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, max_length=20))
    assert read_stamp(other, "openvino-int8") is None
    monkeypatch.setattr("edgebert.stamps.engine_version", lambda name: "99")
    assert read_stamp(bundle, "openvino-int8") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"artifact": 1}', '{"artifact": "x", "verified": true, "y": 1}'])
def test_a_damaged_stamp_is_as_none(content: str, tiny_bundle: Path, own_cache: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    write_stamp(bundle, Stamp("openvino-int8", True))
    (path,) = (own_cache / "stamps").iterdir()
    path.write_text(content)
    assert read_stamp(bundle, "openvino-int8") is None
    assert opened(tiny_bundle) == "openvino-int8"
    assert read_stamp(bundle, "openvino-int8") == Stamp("openvino-int8", True)


def test_it_runs_on_the_threads_asked_for_else_on_all(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int | None, int]] = []
    genuine = variants.open_engine

    def spy(bundle: Bundle, name: str, *, threads: int | None, streams: int, **options: Any) -> engines.Engine:
        asked.append((threads, streams))
        return genuine(bundle, name, threads=threads, streams=streams, **options)

    monkeypatch.setattr(variants, "open_engine", spy)
    monkeypatch.setattr("edgebert.threads.usable_threads", lambda: 2)
    write_stamp(Bundle.open(tiny_bundle), Stamp("openvino-int8", True, seconds=0.001))
    for given, expected in ((None, 2), (5, 5)):
        with edgebert.load(tiny_bundle, threads=given, tune=False) as encoder:
            assert encoder.plan == default_plan(expected)
            encoder.encode("x")
    assert asked == [(2, 1), (5, 1)]


@pytest.mark.parametrize("cache", ["below-a-file", "no-home"])
def test_without_a_writable_cache_it_loads_all_the_same(
    cache: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cache == "no-home":

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("EDGEBERT_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
    else:
        (tmp_path / "file").write_text("x")
        monkeypatch.setenv("EDGEBERT_CACHE", str(tmp_path / "file" / "cache"))
    assert opened(tiny_bundle) == "openvino-int8"
    assert opened(tiny_bundle) == "openvino-int8"
    assert read_stamp(Bundle.open(tiny_bundle), "openvino-int8") is None


def proven(bundle: Bundle, times: dict[str, float | None], **facts: Any) -> None:
    """Stamps as `edgebert verify` leaves them: seconds by variant."""
    for name, seconds in times.items():
        artifact, hint = (name[:-5], "bf16") if name.endswith("-bf16") else (name, "f32")
        stamp = Stamp(artifact, True, seconds=seconds, thorough=True, hint=hint)  # type: ignore[arg-type]
        write_stamp(bundle, dataclasses.replace(stamp, **facts) if hint == "bf16" else stamp)


def test_a_hint_that_was_verified_and_is_faster_is_taken(tiny_bundle: Path, bf16: Pretended) -> None:
    bundle = Bundle.open(tiny_bundle)
    proven(bundle, {"openvino-int8": 0.02, "openvino-int8-bf16": 0.01, "onnxruntime-int8": 0.015})
    assert names(bundle)[:3] == ["openvino-int8-bf16", "onnxruntime-int8", "openvino-int8"]
    for precision in ("auto", "int8"):
        with edgebert.load(tiny_bundle, precision=precision, threads=1) as encoder:
            assert (encoder.engine, encoder.precision, encoder.hint) == ("openvino", "int8", "bf16")
            assert encoder.runs == "openvino int8 (hint bf16)"
            assert repr(encoder).endswith("engine='openvino', precision='int8', hint='bf16')")
    assert bf16.opened == [("openvino-int8", "bf16")] * 2


@pytest.mark.parametrize(
    ("plain", "half", "facts"),
    [
        (0.02, 0.01, {"thorough": False}),
        (0.02, 0.01, {"verified": False, "problem": "cosine 0.7"}),
        (0.02, None, {}),
        (None, 0.01, {}),
        (0.02, 0.019, {}),  # within the noise
        (0.01, 0.02, {}),
    ],
)
def test_a_hint_is_not_taken_unasked_otherwise(
    plain: float | None, half: float | None, facts: dict[str, Any], tiny_bundle: Path, bf16: Pretended
) -> None:
    bundle = Bundle.open(tiny_bundle)
    proven(bundle, {"openvino-int8": plain, "openvino-int8-bf16": half}, **facts)
    assert names(bundle) == NAMES
    assert opened(tiny_bundle) == "openvino-int8"
    assert {hint for _, hint in bf16.opened} == {"f32"}


@pytest.mark.parametrize("order", list(itertools.permutations((0.001, 0.002, 0.003, None), 3)))
def test_what_was_not_verified_is_never_first(
    order: tuple[float | None, ...], tiny_bundle: Path, bf16: Pretended
) -> None:
    bundle = Bundle.open(tiny_bundle)
    proven(bundle, dict(zip(["openvino-int8", "openvino-fp32", "onnxruntime-int8"], order, strict=True)))
    for options in ({}, {"engine": "openvino"}, {"precision": "int8"}, {"precision": "fp32"}):
        assert {variant.hint for variant in candidates(bundle, **options)} == {"f32"}


def test_fp32_is_f32_however_fast_bf16_is(tiny_bundle: Path, bf16: Pretended) -> None:
    bundle = Bundle.open(tiny_bundle)
    proven(bundle, {"openvino-fp32": 0.1, "openvino-fp32-bf16": 0.001})
    assert names(bundle, precision="fp32") == ["openvino-fp32", "onnxruntime-fp32"]
    with edgebert.load(tiny_bundle, precision="fp32", threads=1) as encoder:
        assert (encoder.precision, encoder.hint, encoder.runs) == ("fp32", "f32", "openvino fp32")


def test_a_verified_bf16_comes_after_int8_and_before_a_slower_fp32(tiny_bundle: Path, bf16: Pretended) -> None:
    bundle = Bundle.open(tiny_bundle)
    proven(bundle, {"openvino-fp32": 0.1, "openvino-fp32-bf16": 0.001, "openvino-int8": 0.2})
    assert names(bundle)[:4] == ["openvino-int8", "onnxruntime-int8", "openvino-fp32-bf16", "openvino-fp32"]


def test_bf16_that_is_asked_for_is_the_fp32_artifact_proven_at_first_use(tiny_bundle: Path, bf16: Pretended) -> None:
    with edgebert.load(tiny_bundle, precision="bf16", threads=1) as encoder:
        assert (encoder.engine, encoder.precision, encoder.hint) == ("openvino", "bf16", "bf16")
        assert encoder.encode("the dog").shape == (64,)
    assert bf16.opened == [("openvino-fp32", "bf16")]
    bundle = Bundle.open(tiny_bundle)
    assert read_stamp(bundle, "openvino-fp32", "bf16") == Stamp("openvino-fp32", True, hint="bf16")
    assert read_stamp(bundle, "openvino-fp32") is None
    assert names(bundle) == NAMES  # proven, not verified


@pytest.mark.parametrize("width", [2, 8, 14, 32, 36, 48])
def test_a_hint_that_is_wrong_at_one_width_is_refused_with_its_reason(
    width: int, tiny_bundle: Path, bf16: Pretended, refused: Callable[..., str]
) -> None:
    bf16.wrong = lambda shape: shape[1] == width
    with pytest.raises(EngineError, match="nothing that was asked for works here. openvino-fp32-bf16: cosine .*0.995"):
        edgebert.load(tiny_bundle, precision="bf16", threads=1)
    stamp = read_stamp(Bundle.open(tiny_bundle), "openvino-fp32", "bf16")
    assert stamp is not None
    assert not stamp.verified
    said = refused("embed", tiny_bundle, "--text", "x", "--precision", "bf16", says="it failed on this machine before")
    assert "openvino-fp32-bf16: " in said
    assert opened(tiny_bundle, precision="fp32") == "openvino-fp32"


@pytest.mark.parametrize("width", [2, 8, 14, 32, 36, 48])
@pytest.mark.parametrize("name", ["openvino-int8", "onnxruntime-int8"])
def test_an_engine_that_is_wrong_at_one_width_is_not_taken(
    name: str, width: int, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = variants.open_engine

    def wrong_there(bundle: Bundle, artifact: str, **options: Any) -> Any:
        engine: Any = genuine(bundle, artifact, **options)
        if artifact == name:
            embed = engine.embed
            engine.embed = lambda ids, mask: embed(ids, mask)[:, :: -1 if ids.shape[1] == width else 1]
        return engine

    monkeypatch.setattr(variants, "open_engine", wrong_there)
    other = "onnxruntime-int8" if name.startswith("openvino") else "onnxruntime-fp32"
    if name.startswith("onnxruntime"):
        without(monkeypatch, "openvino")
    assert opened(tiny_bundle) == other


def test_a_verified_hint_that_does_not_open_gives_way_with_a_warning(
    tiny_bundle: Path, bf16: Pretended, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proven(Bundle.open(tiny_bundle), {"openvino-int8": 0.02, "openvino-int8-bf16": 0.01})

    def broken(bundle: Bundle, name: str, *, hint: engines.Hint, **options: Any) -> engines.Engine:
        if hint != "f32":
            raise EngineError("no bf16 today")
        return bf16.open(bundle, name, hint=hint, **options)

    monkeypatch.setattr(variants, "open_engine", broken)
    with caplog.at_level(logging.WARNING, "edgebert.loading"):
        assert opened(tiny_bundle) == "openvino-int8"
    (record,) = caplog.records
    assert record.message == f"{tiny_bundle}: openvino-int8-bf16 is refused: no bf16 today"


@pytest.mark.parametrize(("precision", "hint"), [("bf16", "bf16"), ("fp16", "f16")])
def test_a_hint_that_the_processor_does_not_offer_is_an_error(
    precision: str, hint: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setattr("edgebert.engines.openvino.offered_hints", lambda: ("f32",))
    says = f"openvino-fp32-{hint}: openvino does not offer {hint} on this processor; it offers f32"
    with pytest.raises(EngineError, match=says):
        edgebert.load(tiny_bundle, precision=precision)
    refused("embed", tiny_bundle, "--text", "x", "--precision", precision, says=says)
    assert read_stamp(Bundle.open(tiny_bundle), "openvino-fp32", hint) is None  # type: ignore[arg-type]


def test_what_openvino_offers_is_what_it_says_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "FP16", "INT8", "BF16", "BIN"]

    from edgebert.engines import openvino

    monkeypatch.setattr(openvino, "core", Core)
    assert openvino.offered_hints.__wrapped__() == ("f32", "bf16", "f16")
    monkeypatch.setattr(Core, "get_property", lambda *_: ["FP32", "INT8"])
    assert openvino.offered_hints.__wrapped__() == ("f32",)


def test_onnx_runtime_has_f32_only(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    says = "has no artifact for onnxruntime-bf16; it has .*; bf16 is an fp32 artifact in OpenVINO"
    with pytest.raises(EngineError, match=says):
        edgebert.load(tiny_bundle, engine="onnxruntime", precision="bf16")
    with pytest.raises(EngineError, match="onnxruntime does not offer bf16 on this processor; it offers f32"):
        engines.open_engine(bundle, "onnxruntime-fp32", hint="bf16")


def test_bf16_without_openvino_names_what_installs_it(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino")
    with pytest.raises(EngineError, match=r"pip install 'edgebert\[openvino\]'"):
        edgebert.load(tiny_bundle, precision="bf16")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_torch_runs_fp32_only(precision: str, tiny_bundle: Path) -> None:
    with pytest.raises(RecipeError, match=f"has no files for engine torch, precision {precision}"):
        open_model(tiny_bundle, engine="torch", precision=precision)


@pytest.mark.parametrize("changed", ["PROOF", "STEPS"])
def test_a_stamp_does_not_hold_for_another_hint_or_proof(
    changed: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(tiny_bundle)
    write_stamp(bundle, Stamp("openvino-int8", True, hint="bf16"))
    assert read_stamp(bundle, "openvino-int8", "bf16") == Stamp("openvino-int8", True, hint="bf16")
    assert read_stamp(bundle, "openvino-int8") is None
    assert read_stamp(bundle, "openvino-int8", "f16") is None
    monkeypatch.setattr(f"edgebert.stamps.{changed}", 99)
    assert read_stamp(bundle, "openvino-int8", "bf16") is None


def test_every_refusal_is_one_of_our_errors(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "absent", "someone/something", "~/absent"):
        with pytest.raises(EdgeBertError) as caught:
            edgebert.load(name)
        assert "\n" not in str(caught.value)


def test_ctrl_c_after_several_openvino_engines_is_an_interrupt_and_no_crash(tiny_bundle: Path) -> None:
    code = f"""
import os, signal
from edgebert.bundle import Bundle
from edgebert.engines import open_engine
bundle = Bundle.open({str(tiny_bundle)!r})
first, second = (open_engine(bundle, name) for name in ("openvino-fp32", "openvino-int8"))
first.close()
second.close()
del first, second
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr
