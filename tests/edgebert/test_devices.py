"""Where a model runs: what is there, what was asked for, what it falls back to, and what it says about it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_devices import NAME, FakeNpu
from helpers import sentences

import edgebert
from edgebert import devices, placing
from edgebert.bundle import Bundle
from edgebert.devices import Place, Placement, places
from edgebert.engines import openvino, openvino_devices
from edgebert.engines.static_ladder import rungs
from edgebert.errors import EngineError, RecipeError
from edgebert.processor import processor_name
from edgebert.stamps import Stamp, placed_stamps, read_stamp, write_stamp

TEXTS = ["", "a dog.", *sentences(12, seed=4), "cat " * 90]


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> FakeNpu:
    """OpenVINO with an NPU, on any machine."""
    pretended = FakeNpu()
    monkeypatch.setattr(openvino, "core", lambda: pretended)
    return pretended


def the_npu() -> Place:
    (place,) = [place for place in places("openvino") if place.kind == "npu"]
    return place


def timed(bundle: Bundle, cpu: float | None, elsewhere: float | None, **facts: Any) -> None:
    """Stamps as `edgebert verify` leaves them of int8 in OpenVINO."""
    write_stamp(bundle, Stamp("openvino-int8", True, seconds=cpu, thorough=True))
    there = Stamp("openvino-int8", True, seconds=elsewhere, thorough=True, hint="f16", place=the_npu().identity)
    write_stamp(bundle, dataclasses.replace(there, **facts))


def test_the_devices_of_this_machine_are_those_that_openvino_lists() -> None:
    listed = [name for name in openvino.core().available_devices if name.partition(".")[0] in ("NPU", "GPU")]
    assert sorted(place.name for place in places("openvino")) == sorted(listed)
    assert devices.present(("openvino",)).startswith(f"openvino has CPU ({processor_name()})")


def test_on_the_cpu_the_placement_says_so(tiny_bundle: Path) -> None:
    for device in ("auto", "cpu"):
        with edgebert.load(tiny_bundle, device=device, threads=1) as encoder:
            assert encoder.placement == Placement("cpu", "openvino", "int8", device, "", processor_name())
            assert str(encoder.placement) == f"openvino int8 on the CPU ({processor_name()})"
            assert encoder.runs == "openvino int8"
    with pytest.raises(dataclasses.FrozenInstanceError):
        encoder.placement.device = "npu"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device is 'tpu'; it must be one of auto, cpu, npu, gpu"),
        ({"device": "AUTO:NPU,CPU"}, "device is 'AUTO:NPU,CPU'"),
        ({"fallback": "yes"}, "fallback is 'yes'; it must be True, False or None"),
    ],
)
def test_an_unknown_device_is_named(options: dict[str, Any], message: str, tiny_bundle: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        edgebert.load(tiny_bundle, **options)


@pytest.mark.parametrize("fallback", [None, False])
def test_a_device_that_is_not_there_is_an_error_that_names_those_that_are(
    fallback: bool | None, tiny_bundle: Path, npu: FakeNpu, refused: Callable[..., str]
) -> None:  # fmt: skip
    npu.there = False
    with pytest.raises(EngineError, match="does not run on npu: there is no npu. Here .*openvino has CPU") as caught:
        edgebert.load(tiny_bundle, device="npu", fallback=fallback)
    assert processor_name() in str(caught.value)
    assert "fallback=True" in str(caught.value)
    npu.there = True
    cpu = processor_name()
    says = f"there is no gpu. Here onnxruntime has CPU ({cpu}); openvino has CPU ({cpu}), NPU ({NAME})"
    refused("embed", tiny_bundle, "--text", "x", "--device", "gpu", says=says)


def test_a_fallback_that_is_allowed_warns_and_gives_its_reason(
    tiny_bundle: Path, npu: FakeNpu, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    npu.there = False
    with caplog.at_level(logging.WARNING), edgebert.load(tiny_bundle, device="npu", fallback=True) as encoder:
        assert encoder.placement == Placement("cpu", "openvino", "int8", "npu", "there is no npu", processor_name())
        assert str(encoder.placement).endswith(f"on the CPU ({processor_name()}), a fallback: there is no npu")
    assert [r.message for r in caplog.records] == [f"{tiny_bundle} falls back to the CPU: there is no npu"]


@pytest.mark.parametrize(
    ("precision", "artifact", "got", "near"),
    [("auto", "int8", "int8", 2e-2), ("int8", "int8", "int8", 2e-2), ("fp16", "fp32", "fp16", 1e-5)],
)
def test_an_npu_that_is_asked_for_runs_every_text_at_a_static_shape(
    precision: str, artifact: str, got: str, near: float, tiny_bundle: Path, npu: FakeNpu, own_cache: Path
) -> None:  # fmt: skip
    with edgebert.load(tiny_bundle, device="npu", precision=precision, threads=1) as encoder:
        assert encoder.placement == Placement("npu", "openvino", got, "npu", "", NAME)
        assert (encoder.hint, encoder.runs) == ("f16", f"openvino {got} (hint f16) on the NPU")
        vectors = encoder.encode(TEXTS)
    with edgebert.load(tiny_bundle, device="cpu", engine="openvino", precision=artifact, threads=1) as dynamic:
        assert np.abs(vectors - dynamic.encode(TEXTS)).max() < near
    assert {*npu.shapes} == {(1, width) for width in rungs(48)}
    assert {c["CACHE_DIR"] for c in npu.configs} == {str(own_cache / "compiled")}
    assert {c["INFERENCE_PRECISION_HINT"] for c in npu.configs} == {"f16"}


def test_compiled_models_of_a_device_are_kept_unless_that_is_switched_off(
    tiny_bundle: Path, npu: FakeNpu, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBERT_COMPILED", "0")
    edgebert.load(tiny_bundle, device="npu", threads=1).close()
    assert npu.configs and not any("CACHE_DIR" in config for config in npu.configs)
    assert not (own_cache / "compiled").exists()


def test_what_was_proven_on_a_device_is_stamped_for_it_alone(tiny_bundle: Path, npu: FakeNpu) -> None:
    edgebert.load(tiny_bundle, device="npu", threads=1).close()
    bundle, place = Bundle.open(tiny_bundle), the_npu()
    stamp = Stamp("openvino-int8", True, hint="f16", place=place.identity)
    assert read_stamp(bundle, "openvino-int8", "f16", place) == stamp
    assert placed_stamps(bundle, "openvino-int8", "f16") == [stamp]
    assert read_stamp(bundle, "openvino-int8", "f16") is None
    assert read_stamp(bundle, "openvino-int8") is None
    assert place.identity == f"NPU {NAME} 1.0"
    compiled = len(npu.shapes)
    edgebert.load(tiny_bundle, device="npu", threads=1).close()
    assert npu.shapes[compiled:] == [(1, 16)]  # not proven again
    npu.driver = "2.0"
    assert read_stamp(bundle, "openvino-int8", "f16", the_npu()) is None


@pytest.mark.parametrize("width", rungs(48))
def test_a_device_that_is_wrong_at_one_rung_is_refused_and_falls_back_with_the_reason(
    width: int, tiny_bundle: Path, npu: FakeNpu, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    npu.wrong = lambda seen: seen == width
    with caplog.at_level(logging.WARNING), edgebert.load(tiny_bundle, device="npu", fallback=True) as encoder:
        placement = encoder.placement
    assert (placement.device, placement.requested) == ("cpu", "npu")
    for name in ("openvino-int8-f16@NPU: cosine ", "openvino-fp32-f16@NPU: cosine "):
        assert name in placement.reason
    assert "at least 0.97 is needed" in placement.reason
    assert any("falls back to the CPU: openvino-" in record.message for record in caplog.records)
    with pytest.raises(EngineError, match="does not run on npu: .*it failed on this machine before"):
        edgebert.load(tiny_bundle, device="npu")


def test_int8_that_is_wrong_on_a_device_gives_way_to_float_there(tiny_bundle: Path, npu: FakeNpu) -> None:
    bundle = Bundle.open(tiny_bundle)
    write_stamp(bundle, Stamp("openvino-int8", False, "cosine 0.1", hint="f16", place=the_npu().identity))
    with edgebert.load(tiny_bundle, device="npu", threads=1) as encoder:
        assert encoder.placement == Placement("npu", "openvino", "fp16", "npu", "", NAME)


@pytest.mark.parametrize(
    ("broken", "runs_on", "says"),
    [
        ("no compiler", ["NPU"], "OpenVINO cannot load .*: no compiler"),
        ("", ["CPU"], "NPU was asked for, and OpenVINO runs the model on CPU"),
        ("", ["NPU", "CPU"], "NPU was asked for, and OpenVINO runs the model on NPU, CPU"),
        ("", [], "NPU was asked for, and OpenVINO runs the model on none"),
    ],
)
def test_a_device_that_refuses_or_is_left_for_another_is_an_error(
    broken: str, runs_on: list[str], says: str, tiny_bundle: Path, npu: FakeNpu
) -> None:  # fmt: skip
    npu.broken, npu.runs_on = broken, runs_on
    with pytest.raises(EngineError, match=says):
        edgebert.load(tiny_bundle, device="npu", precision="int8")
    assert placed_stamps(Bundle.open(tiny_bundle), "openvino-int8", "f16") == []  # nothing is known of its vectors


def test_a_precision_that_the_device_does_not_have_is_named(tiny_bundle: Path, npu: FakeNpu) -> None:
    with pytest.raises(EngineError, match="the npu does not offer fp32; it offers fp16, int8"):
        edgebert.load(tiny_bundle, device="npu", precision="fp32")
    with pytest.raises(EngineError, match="does not run on npu: there is no npu"):
        edgebert.load(tiny_bundle, device="npu", engine="onnxruntime")


@pytest.mark.parametrize(
    ("cpu", "elsewhere", "facts"),
    [
        (None, 0.001, {}),
        (0.02, None, {}),
        (0.02, 0.019, {}),  # within the noise
        (0.01, 0.02, {}),
        (0.02, 0.001, {"thorough": False}),
        (0.02, 0.001, {"verified": False, "problem": "cosine 0.1"}),
    ],
)
def test_auto_is_the_cpu_unless_a_device_was_verified_and_is_faster(
    cpu: float | None, elsewhere: float | None, facts: dict[str, Any], tiny_bundle: Path, npu: FakeNpu
) -> None:  # fmt: skip
    timed(Bundle.open(tiny_bundle), cpu, elsewhere, **facts)
    with edgebert.load(tiny_bundle, threads=1) as encoder:
        assert encoder.placement == Placement("cpu", "openvino", "int8", "auto", "", processor_name())
    assert npu.shapes == []


def test_auto_takes_a_device_that_was_verified_and_is_faster(tiny_bundle: Path, npu: FakeNpu) -> None:
    timed(Bundle.open(tiny_bundle), 0.02, 0.001)
    with edgebert.load(tiny_bundle, threads=1) as encoder:
        assert encoder.placement == Placement("npu", "openvino", "int8", "auto", "", NAME)
    for options in ({"device": "cpu"}, {"engine": "onnxruntime"}, {"precision": "fp32"}):
        with edgebert.load(tiny_bundle, threads=1, **options) as encoder:  # type: ignore[arg-type]
            assert (encoder.placement.device, encoder.placement.reason) == ("cpu", "")


@pytest.mark.parametrize("fault", ["gone", "broken"])
def test_auto_falls_back_with_a_reason_where_the_faster_device_fails(
    fault: str, tiny_bundle: Path, npu: FakeNpu, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    timed(Bundle.open(tiny_bundle), 0.02, 0.001)
    npu.there, npu.broken = fault != "gone", "no driver" if fault == "broken" else ""
    says = f"was fastest on NPU {NAME} 1.0, which is not here any more" if fault == "gone" else "no driver"
    with caplog.at_level(logging.WARNING), edgebert.load(tiny_bundle, threads=1) as encoder:
        assert encoder.placement.device == "cpu"
        assert says in encoder.placement.reason
    assert "falls back to the CPU" in caplog.text
    with pytest.raises(EngineError, match="does not run on auto: openvino-int8"):
        edgebert.load(tiny_bundle, fallback=False)


def test_verify_proves_the_device_and_auto_takes_what_it_says(
    tiny_bundle: Path, npu: FakeNpu, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("edgebert.proof._alone", lambda *_: 0.01)
    monkeypatch.setattr("edgebert.proof._ratio", lambda *_: 0.1)
    report = json.loads(cli("verify", tiny_bundle, "--json").out)
    found = {f["what"]: f["status"] for f in report["findings"]}
    assert {name for name in found if "@" in name} == {"openvino-int8-f16@NPU", "openvino-fp32-f16@NPU"}
    assert {*found.values()} == {"ok"}
    assert report["chosen"] in ("openvino-int8-f16@NPU", "openvino-fp32-f16@NPU")
    with edgebert.load(tiny_bundle, threads=1) as encoder:
        assert encoder.placement.device == "npu"
    npu.wrong = lambda width: width == 32
    result = cli("verify", tiny_bundle, "--json", "--device", "npu")
    found = {f["what"]: f["status"] for f in json.loads(result.out)["findings"]}
    assert (result.code, found["openvino-int8-f16@NPU"], found["openvino-int8"]) == (0, "refused", "ok")
    assert edgebert.load(tiny_bundle, threads=1).placement.device == "cpu"
    found = {f["what"] for f in json.loads(cli("verify", tiny_bundle, "--json", "--device", "cpu").out)["findings"]}
    assert not [name for name in found if "@" in name]


def test_loading_on_the_cpu_asks_no_engine_for_its_devices(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        pytest.fail("an engine was asked for its devices")

    monkeypatch.setattr(placing, "placed_variants", asked)
    for device in ("cpu", "auto"):
        edgebert.load(tiny_bundle, device=device, threads=1).close()


@pytest.mark.parametrize(
    ("told", "name", "same"),
    [
        (["GPU.0"], "GPU", True), (["GPU"], "GPU.0", True), (["GPU.1"], "GPU.1", True), (["GPU.0"], "GPU.1", False),
        (["NPU"], "NPU", True), (["NPU.4000"], "NPU", True), (["CPU"], "NPU", False),
    ],
)  # fmt: skip
def test_a_lone_device_may_tell_its_number(told: list[str], name: str, same: bool) -> None:
    class Compiled:
        def get_property(self, key: str) -> list[str]:
            assert key == "EXECUTION_DEVICES"
            return told

    place = Place("openvino", "gpu", name, "", ("f16",), False)
    if same:
        openvino_devices.require_device(Compiled(), place)
    else:
        with pytest.raises(EngineError, match=f"{name} was asked for, and OpenVINO runs the model on {told[0]}"):
            openvino_devices.require_device(Compiled(), place)


def test_an_engine_that_cannot_list_its_devices_has_none_and_warns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("no plugins.xml")

    monkeypatch.setattr(openvino, "core", broken)
    assert places("openvino") == []
    assert "no accelerators of openvino: OpenVINO cannot list its devices: no plugins.xml" in caplog.text


@pytest.mark.parametrize("fallback", [None, True])
def test_an_artifact_is_asked_for_by_its_name_on_a_device_too(
    fallback: bool | None, tiny_bundle: Path, npu: FakeNpu
) -> None:
    options: dict[str, Any] = {"device": "npu", "threads": 1, "fallback": fallback}
    with edgebert.load(tiny_bundle, artifact="openvino-fp32", **options) as encoder:
        assert encoder.placement == Placement("npu", "openvino", "fp16", "npu", "", NAME)
    with pytest.raises(EngineError, match="has no artifact 'tflite'; it has .*openvino-fp32"):
        edgebert.load(tiny_bundle, artifact="tflite", **options)
    if not fallback:
        with pytest.raises(EngineError, match="does not run on npu: there is no npu for onnxruntime-int8"):
            edgebert.load(tiny_bundle, artifact="onnxruntime-int8", **options)
        with pytest.raises(EngineError, match="the npu does not offer int8; it offers fp16"):
            edgebert.load(tiny_bundle, artifact="openvino-fp32", precision="int8", **options)


def test_auto_runs_no_other_artifact_than_the_one_asked_for(tiny_bundle: Path, npu: FakeNpu) -> None:
    timed(Bundle.open(tiny_bundle), 0.02, 0.001)
    write_stamp(Bundle.open(tiny_bundle), Stamp("openvino-fp32", True, seconds=0.03, thorough=True))
    with edgebert.load(tiny_bundle, artifact="openvino-fp32", threads=1) as encoder:
        assert (encoder.placement.device, encoder.precision) == ("cpu", "fp32")
    with edgebert.load(tiny_bundle, artifact="openvino-int8", threads=1) as encoder:
        assert encoder.placement.device == "npu"


def test_files_of_others_run_on_a_device_only_as_on_the_cpu(copied_bundle: Path, npu: FakeNpu) -> None:
    (copied_bundle / "edgebert.json").unlink()
    with pytest.raises(EngineError, match="does not run on npu: the npu does not offer fp32; it offers fp16"):
        edgebert.load(copied_bundle, device="npu", threads=1)  # less than fp32 is never taken unasked
    with pytest.raises(EngineError, match="no golden vectors to prove bf16 with"):
        edgebert.load(copied_bundle, device="npu", precision="bf16")
    with pytest.raises(EngineError, match="has no artifact 'absent.xml'"):
        edgebert.load(copied_bundle, device="npu", artifact="absent.xml")
    assert npu.shapes == []
    with edgebert.load(copied_bundle, device="npu", precision="int8", threads=1) as encoder:
        assert (encoder.precision, encoder.placement.device) == ("int8", "npu")
        assert encoder.unproven == "openvino/openvino_model_qint8.xml"
