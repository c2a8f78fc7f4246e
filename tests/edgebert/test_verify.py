"""What `edgebert verify` finds, and what it leaves for the next load."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import edgebert
from edgebert import engines, proof, variants
from edgebert import verify as verify_module
from edgebert.batching import widths
from edgebert.bundle import Bundle, seal
from edgebert.errors import BundleError, RecipeError
from edgebert.progress import Progress
from edgebert.stamps import Stamp, read_stamp
from edgebert.verify import verify

if TYPE_CHECKING:
    from conftest import Pretended

NAMES = ["onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-int8"]
HALF = ["openvino-fp32-bf16", "openvino-int8-bf16"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Times as given instead of measured ones: seconds by variant."""
    times = dict.fromkeys([*NAMES, *HALF], 0.01)
    monkeypatch.setattr(proof, "_alone", lambda bundle, v, golden, threads: times[v.name])
    monkeypatch.setattr(proof, "_ratio", lambda bundle, v, golden, threads: times[v.name] / times[v.artifact])
    return times


def spoil(folder: Path, name: str) -> None:
    """Turns the weights of the ONNX artifact `name` upside down and seals the bundle again."""
    import onnx
    from onnx import numpy_helper

    manifest = Bundle.open(folder).manifest
    path = folder / manifest.artifacts[name].files[0]
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[::-1]), tensor.name))
    onnx.save(model, path)
    seal(folder, manifest)


def test_a_whole_bundle_holds_in_both_engines(tiny_bundle: Path, quick: dict[str, float]) -> None:
    quick["onnxruntime-int8"] = 0.001
    report = verify(tiny_bundle, threads=1)
    assert report.ok
    assert report.chosen == "onnxruntime-int8"
    by_name = {finding.what: finding for finding in report.findings}
    assert [*by_name] == ["files", "tokenizer", *NAMES]
    assert {finding.status for finding in report.findings} == {"ok"}
    count = len(Bundle.open(tiny_bundle).manifest.files)
    assert by_name["files"].detail == f"{count} files as the manifest says"
    for name in NAMES:
        found = by_name[name]
        assert found.ordinary is not None
        assert found.degenerate is not None
        least = (1 - 1e-4, 1 - 1e-4) if name.endswith("fp32") else (0.97, 0.93)
        assert least[0] <= found.ordinary <= 1 + 1e-6
        assert least[1] <= found.degenerate <= 1 + 1e-6
        assert found.milliseconds == quick[name] * 1e3


def test_what_holds_is_remembered_for_load(tiny_bundle: Path, quick: dict[str, float]) -> None:
    quick["onnxruntime-int8"] = 0.001
    verify(tiny_bundle, threads=1)
    bundle = Bundle.open(tiny_bundle)
    assert read_stamp(bundle, "onnxruntime-int8") == Stamp("onnxruntime-int8", True, seconds=0.001, thorough=True)
    assert all(read_stamp(bundle, name) is not None for name in NAMES)
    with edgebert.load(tiny_bundle) as encoder:
        assert (encoder.engine, encoder.precision) == ("onnxruntime", "int8")


@pytest.mark.parametrize("threads", [None, 2])
def test_times_are_measured_on_the_threads_that_load_would_use(
    threads: int | None, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: set[tuple[int | None, int]] = set()
    genuine = variants.open_engine

    def spy(
        bundle: Bundle, name: str, *, hint: engines.Hint, threads: int | None = None, streams: int = 1, **options: Any
    ) -> engines.Engine:
        tried.add((threads, streams))
        return genuine(bundle, name, hint=hint, threads=threads, streams=streams, **options)

    monkeypatch.setattr(variants, "open_engine", spy)
    report = verify(tiny_bundle, threads=threads)
    assert tried == {(threads, 1)}
    for finding in report.findings[2:]:
        assert finding.milliseconds is not None
        assert 0 < finding.milliseconds < 1000


def test_wrong_vectors_fail_and_are_never_chosen(copied_bundle: Path, quick: dict[str, float]) -> None:
    spoil(copied_bundle, "onnxruntime-int8")
    quick["onnxruntime-int8"] = 0.0001
    report = verify(copied_bundle, threads=1)
    assert not report.ok
    assert report.chosen == "openvino-int8"
    status = {finding.what: finding.status for finding in report.findings}
    assert status == {n: "failed" if n == "onnxruntime-int8" else "ok" for n in ["files", "tokenizer", *NAMES]}
    stamp = read_stamp(Bundle.open(copied_bundle), "onnxruntime-int8")
    assert stamp is not None
    assert not stamp.verified


def test_a_wrong_fp32_does_not_make_the_others_fail(copied_bundle: Path, quick: dict[str, float]) -> None:
    spoil(copied_bundle, "onnxruntime-fp32")
    report = verify(copied_bundle, threads=1)
    assert [finding.what for finding in report.findings if finding.status == "failed"] == ["onnxruntime-fp32"]


def test_a_file_that_its_engine_cannot_read_fails(copied_bundle: Path, quick: dict[str, float]) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    (copied_bundle / manifest.artifacts["openvino-int8"].files[0]).write_bytes(b"nonsense")
    seal(copied_bundle, manifest)
    report = verify(copied_bundle, threads=1)
    (failed,) = [finding for finding in report.findings if finding.status == "failed"]
    assert failed.what == "openvino-int8"
    assert "OpenVINO cannot load" in failed.detail
    assert report.chosen == "onnxruntime-int8"


def test_golden_cases_of_another_tokenizer_fail(copied_bundle: Path, quick: dict[str, float]) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    path = copied_bundle / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"##a"', '"##A"'), encoding="utf-8")
    seal(copied_bundle, manifest)
    report = verify(copied_bundle, threads=1)
    assert not report.ok
    assert report.chosen is None
    assert {f.what: f.status for f in report.findings}["tokenizer"] == "failed"
    assert read_stamp(Bundle.open(copied_bundle), "openvino-int8") is None


def test_an_engine_that_is_not_installed_is_no_fault(
    tiny_bundle: Path, quick: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else object())
    report = verify(tiny_bundle, threads=1)
    assert report.ok
    assert report.chosen == "onnxruntime-int8"
    missing = [finding for finding in report.findings if finding.status == "not installed"]
    assert [finding.what for finding in missing] == ["openvino-fp32", "openvino-int8"]
    assert {finding.detail for finding in missing} == {"pip install 'edgebert[openvino]'"}


def test_without_any_engine_nothing_is_chosen(
    tiny_bundle: Path, quick: dict[str, float], monkeypatch: pytest.MonkeyPatch, cli: Callable[..., object]
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    result = cli("verify", tiny_bundle, "--threads", 1, "--json")
    assert result.code == 1
    assert json.loads(result.out)["chosen"] is None
    assert result.err.splitlines() == [f"edgebert: {tiny_bundle} fails on this machine: no installed engine runs it"]


def test_int8_alone_is_compared_with_its_golden_cases(copied_bundle: Path, quick: dict[str, float]) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    only = {"openvino-int8": manifest.artifacts["openvino-int8"]}
    seal(copied_bundle, dataclasses.replace(manifest, artifacts=only))
    report = verify(copied_bundle, threads=1)
    assert report.ok
    assert report.chosen == "openvino-int8"
    assert report.findings[-1].ordinary is not None
    assert report.findings[-1].ordinary >= 0.97


def test_full_tries_every_length(tiny_bundle: Path, quick: dict[str, float]) -> None:
    totals: dict[bool, int] = {}

    class Counting(Progress):
        def start(self, title: str, total: int) -> None:
            totals[full] = total

    for full in (False, True):
        assert verify(tiny_bundle, full=full, threads=1, progress=Counting()).ok
    batches = 3 * 3  # of lengths 16, 32 and 48
    assert widths(48) == [*range(2, 33, 2), 36, 40, 44, 48]
    golden = 2 * 20 - 1 + batches  # of both kinds at every width that the runtime pads to; a text of 2 tokens is one
    assert totals == {False: golden + 2 * 20 + batches, True: golden + 2 * 47 + batches}


def test_an_engine_that_is_wrong_in_one_shape_only_fails(
    tiny_bundle: Path, quick: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = variants.open_engine

    def sometimes_wrong(bundle: Bundle, name: str, *, streams: int, **options: Any) -> engines.Engine:
        engine = genuine(bundle, name, streams=streams, **options)
        embed = engine.embed
        if name == "onnxruntime-int8":

            def turned(ids: Any, mask: Any) -> Any:
                return embed(ids, mask)[:, ::-1] if ids.shape == (8, 32) else embed(ids, mask)

            monkeypatch.setattr(engine, "embed", turned)
        return engine

    monkeypatch.setattr(variants, "open_engine", sometimes_wrong)
    report = verify(tiny_bundle, threads=1)
    (failed,) = [finding for finding in report.findings if finding.status == "failed"]
    assert failed.what == "onnxruntime-int8"
    assert "batch of 8, 32 tokens padded to 32" in failed.detail
    assert report.chosen == "openvino-int8"


def test_a_bundle_without_engine_files_is_checked_in_torch(
    copied_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(copied_bundle, dataclasses.replace(Bundle.open(copied_bundle).manifest, artifacts={}))
    report = verify(copied_bundle)
    assert report.ok
    assert report.chosen is None
    assert (report.findings[-1].what, report.findings[-1].status) == ("torch-fp32", "ok")
    assert "run `edgebert quantize`" in report.findings[-1].detail
    monkeypatch.setattr(verify_module, "is_installed", lambda engine: False)
    assert not verify(copied_bundle).ok


def test_wrong_weights_of_a_bundle_without_engine_files_are_found(copied_bundle: Path) -> None:
    golden = copied_bundle / "golden" / "vectors.npy"
    np.save(golden, np.roll(np.load(golden), 1, axis=1))
    seal(copied_bundle, dataclasses.replace(Bundle.open(copied_bundle).manifest, artifacts={}))
    report = verify(copied_bundle)
    assert not report.ok
    assert report.findings[-1].detail == "the vectors differ from the golden ones"


def test_a_plain_folder_is_no_bundle(tiny_teacher: Path, refused: Callable[..., str]) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: it has no edgebert.json"):
        verify(tiny_teacher)
    refused("verify", tiny_teacher, says=f"{tiny_teacher} is not a bundle")
    refused("verify", tiny_teacher / "absent", says="no such file or folder")


def test_a_wrong_number_of_threads_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(RecipeError, match="threads is -1"):
        verify(tiny_bundle, threads=-1)


def test_the_table_shows_every_finding_and_the_choice(
    tiny_bundle: Path, quick: dict[str, float], cli: Callable[..., object]
) -> None:
    quick["onnxruntime-int8"] = 0.001
    result = cli("verify", tiny_bundle, "--threads", 1)
    assert result.code == 0
    for name in ("files", "tokenizer", *NAMES):
        assert any(line.split()[:2] == [name, "ok"] for line in result.out.splitlines()), result.out
    assert result.out.splitlines()[-1] == "edgebert.load takes onnxruntime-int8 here"


def test_the_json_report_has_the_same_facts(
    tiny_bundle: Path, quick: dict[str, float], cli: Callable[..., object]
) -> None:
    result = cli("verify", tiny_bundle, "--threads", 1, "--json")
    assert result.code == 0
    report = json.loads(result.out)
    assert (report["ok"], report["source"], report["chosen"]) == (True, str(tiny_bundle), "openvino-int8")
    assert [finding["what"] for finding in report["findings"]] == ["files", "tokenizer", *NAMES]


def test_a_hint_that_is_right_and_faster_is_chosen_and_loaded(
    tiny_bundle: Path, quick: dict[str, float], bf16: Pretended, cli: Callable[..., Any]
) -> None:
    quick["openvino-int8-bf16"] = 0.005
    report = verify(tiny_bundle, threads=1)
    assert [f.what for f in report.findings[2:]] == [*NAMES[:2], "openvino-fp32", HALF[0], "openvino-int8", HALF[1]]
    assert {f.status for f in report.findings} == {"ok"}
    assert report.chosen == "openvino-int8-bf16"
    stamp = Stamp("openvino-int8", True, seconds=0.005, thorough=True, hint="bf16")
    assert read_stamp(Bundle.open(tiny_bundle), "openvino-int8", "bf16") == stamp
    with edgebert.load(tiny_bundle) as encoder:
        assert encoder.runs == "openvino int8 (hint bf16)"
    assert "edgebert.load takes openvino-int8-bf16 here" in cli("verify", tiny_bundle, "--threads", 1).out


@pytest.mark.parametrize("shape", [*((None, width) for width in (8, 16, 24, 32, 40, 48)), (8, None), (32, 16)])
def test_a_hint_that_is_wrong_in_one_shape_is_refused_and_the_bundle_is_not(
    shape: tuple[int | None, int | None], tiny_bundle: Path, quick: dict[str, float], bf16: Pretended,
    cli: Callable[..., Any],
) -> None:  # fmt: skip
    quick["openvino-int8-bf16"] = 0.001
    bf16.only = ("openvino-int8",)
    bf16.wrong = lambda found: all(want in (None, have) for want, have in zip(shape, found, strict=True))
    result = cli("verify", tiny_bundle, "--threads", 1, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    status = {finding["what"]: finding["status"] for finding in report["findings"]}
    assert {name for name, told in status.items() if told != "ok"} == {"openvino-int8-bf16"}
    assert status["openvino-int8-bf16"] == "refused"
    assert report["chosen"] == "openvino-int8"
    bundle = Bundle.open(tiny_bundle)
    bad, good = read_stamp(bundle, "openvino-int8", "bf16"), read_stamp(bundle, "openvino-int8")
    assert bad is not None and good is not None
    assert (bad.verified, bad.seconds, good.verified, good.thorough) == (False, None, True, True)
    assert "cosine" in bad.problem
    with edgebert.load(tiny_bundle) as encoder:
        assert (encoder.precision, encoder.hint) == ("int8", "f32")


def test_a_file_that_is_replaced_after_the_check_is_not_taken_for_proven(
    copied_bundle: Path, quick: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Bundle.check

    def replaced_then(bundle: Bundle) -> None:
        check(bundle)
        os.utime(copied_bundle / "onnx" / "model.onnx", ns=(0, 0))

    monkeypatch.setattr(Bundle, "check", replaced_then)
    assert verify(copied_bundle, threads=1).ok
    assert read_stamp(Bundle.open(copied_bundle), "onnxruntime-fp32") is None
