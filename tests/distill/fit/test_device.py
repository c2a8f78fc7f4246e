"""The device to fit: this machine, or a profile with a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebert.distill.fit import device
from edgebert.distill.fit.device import Device, find_device
from edgebert.distill.fit.table import write_table
from edgebert.errors import BundleError, EngineError, TargetError
from edgebert.targets.profile import MeasuredShape, Profile, read_profile

ROWS = (MeasuredShape(2, 64, 4, 128, 1.5, 2.25, 900.0), MeasuredShape(3, 64, 4, 128, 2.5, 3.25, 600.0))


def test_this_machine_runs_one_int8_file() -> None:
    assert find_device("this").artifact == "openvino-int8"
    found = find_device("this", engine="onnxruntime")
    assert (found.artifact, found.here, found.profile.artifacts) == ("onnxruntime-int8", True, ("onnxruntime-int8",))


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(engine: str) -> None:
        raise EngineError(f"the engine {engine!r} is not installed")

    monkeypatch.setattr(device, "require_engine", refuse)
    with pytest.raises(EngineError, match="the engine 'openvino' is not installed"):
        find_device("this")


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(TargetError, match="no target 'phone'; known are any-cpu, intel-npu"):
        find_device("phone")


@pytest.mark.parametrize("name", ["linux-x86-vnni", "intel-npu"])
def test_a_profile_without_a_table_says_how_to_make_one(name: str) -> None:
    with pytest.raises(TargetError) as raised:
        find_device(name)
    assert str(raised.value) == (
        f"the profile {name} has no [[measured]] table of speeds: write one on the device with `edgebert fit "
        "--measure-only` and give that file to --device, or use --device this"
    )
    assert find_device(name, timed=True).here


def test_the_artifact_is_the_profiles_int8_one() -> None:
    assert Device(Profile("a", "b", ("openvino-fp32", "openvino-int8")), False).artifact == "openvino-int8"
    assert Device(Profile("a", "b", ("openvino-fp32",)), False).artifact == "openvino-fp32"


def test_a_written_table_is_a_profile_to_fit(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    write_table(path, ROWS, Device(Profile("this", 'a "fast" box', ("onnxruntime-int8",)), True))
    assert read_profile(str(path)) == Profile("mine", 'a "fast" box', ("onnxruntime-int8",), measured=ROWS)
    found = find_device(str(path))
    assert (found.here, found.profile.name) == (False, "mine")
    with pytest.raises(BundleError, match="exists already"):
        write_table(path, ROWS, found)


def test_a_table_keeps_all_that_a_profile_says(tmp_path: Path) -> None:
    profile = Profile("npu", "d", ("openvino-int8",), static=True, one_file=True, max_size_mb=12.5, measured=ROWS)
    write_table(tmp_path / "npu.toml", ROWS, Device(profile, True))
    assert read_profile(str(tmp_path / "npu.toml")) == profile
