"""That no engine which is wrong somewhere is proven right: every width, every kind of batch, whoever is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert import engines, proof, variants
from edgebert.batching import ladder, pad, widths
from edgebert.bundle import Bundle
from edgebert.engines.base import precision_of
from edgebert.golden import MIN_COSINE_HALF, Case, Golden, gate, read_golden
from edgebert.manifest import Artifact, Manifest
from edgebert.probes import BATCH_LENGTHS, BATCH_SIZES, length_probes, prove_widths
from edgebert.progress import Progress
from edgebert.proof import Finding, prove_variants
from edgebert.variants import Variant
from edgebert.vectors import row_cosines

Wrong = Callable[[tuple[int, ...]], bool]
_WORDS = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
_ARTIFACTS = {f"{e}-{p}": (e, p) for e in ("onnxruntime", "openvino") for p in ("fp32", "int8")}
_ALL = [*_ARTIFACTS, "openvino-fp32-bf16", "openvino-int8-bf16"]


class Toy:
    """An engine that adds up word vectors, and reverses the sum for the shapes that `wrong` names."""

    def __init__(self, name: str = "toy", precision: str = "fp32", wrong: Wrong = lambda shape: False) -> None:
        self.name, self.precision, self.wrong = name, precision, wrong

    def embed(self, input_ids: Any, attention_mask: Any) -> Any:
        vectors = (_WORDS[input_ids] * attention_mask[:, :, None]).sum(axis=1)
        return vectors[:, ::-1] if self.wrong(input_ids.shape) else vectors

    def close(self) -> None:
        pass


def toy_bundle(max_length: int, names: list[str]) -> tuple[Bundle, Golden]:
    artifacts: dict[str, Any] = {n: Artifact(*_ARTIFACTS[n], files=(), inputs=()) for n in names}  # type: ignore[arg-type]
    manifest = Manifest(1, "embedding", "bert", ("mean",), False, 16, max_length, artifacts=artifacts)
    words = np.random.default_rng(1)
    lengths = [2, 5, 8, 9, 20, 31, min(70, max_length), max_length]
    ids = [(1, *words.integers(3, 50, n - 2).tolist(), 2) for n in lengths]
    cases = tuple(Case("", row, "degenerate" if i % 2 == 0 else "ordinary") for i, row in enumerate(ids))
    vectors = np.concatenate([Toy().embed(*pad([row], 0)) for row in ids])
    return Bundle(Path("toy"), manifest, "toy"), Golden(cases, vectors, 1e-4)


def judged(max_length: int, names: list[str], bad: str, wrong: Wrong) -> dict[str, Finding]:
    """What `prove_variants` says of toys of which the variant `bad` is wrong; OpenVINO offers bf16."""
    bundle, golden = toy_bundle(max_length, names)

    def opened(
        bundle: Bundle, name: str, *, hint: engines.Hint, threads: int | None, streams: int, beside: object
    ) -> Toy:
        full = name if hint == "f32" else f"{name}-{hint}"
        precision = precision_of(bundle.manifest.artifacts[name], hint)
        return Toy(full, precision, wrong) if full == bad else Toy(full, precision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "open_engine", opened)
        patch.setattr(variants, "offered_hints", lambda e: ("f32", "bf16") if e == "openvino" else ("f32",))
        patch.setattr(proof, "_alone", lambda *_: 0.01)
        found = prove_variants(bundle, golden, full=False, threads=1, progress=Progress())
    return {finding.what: finding for finding in found.values()}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_variant_that_is_wrong_at_one_width_alone_is_caught_and_no_other_blamed(data: st.DataObject) -> None:
    max_length = data.draw(st.integers(9, 140), label="max_length")
    width, bad = data.draw(st.sampled_from(widths(max_length))), data.draw(st.sampled_from(_ALL))
    found = judged(max_length, [*_ARTIFACTS], bad, lambda shape: shape[1] == width)
    assert [*found] == [v for n in _ARTIFACTS for v in _ALL if v in (n, f"{n}-bf16")]
    assert {name for name, finding in found.items() if finding.status != "ok"} == {bad}
    assert found[bad].status == ("refused" if bad.endswith("bf16") else "failed")
    assert f"padded to {width}" in found[bad].detail or "golden" in found[bad].detail


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_variant_that_is_wrong_in_one_batch_size_alone_is_caught(data: st.DataObject) -> None:
    max_length = data.draw(st.integers(9, 140), label="max_length")
    size, bad = data.draw(st.sampled_from(BATCH_SIZES)), data.draw(st.sampled_from(_ALL))
    width = ladder(min(data.draw(st.sampled_from(BATCH_LENGTHS)), max_length), max_length)
    found = judged(max_length, [*_ARTIFACTS], bad, lambda shape: shape == (size, width))
    assert {name for name, finding in found.items() if finding.status != "ok"} == {bad}
    assert f"batch of {size}" in found[bad].detail or f"{size} golden cases in a batch" in found[bad].detail


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_int8_without_fp32_beside_it_is_caught_by_its_golden_cases(data: st.DataObject) -> None:
    max_length = data.draw(st.integers(9, 140), label="max_length")
    bad = data.draw(st.sampled_from(["openvino-int8", "openvino-int8-bf16"]))
    width = data.draw(st.sampled_from(widths(max_length)))
    size = data.draw(st.sampled_from((1, *BATCH_SIZES)))
    if size > 1:
        width = ladder(min(32, max_length), max_length)
    found = judged(max_length, ["openvino-int8"], bad, lambda shape: shape == (size, width))
    assert {name for name, finding in found.items() if finding.status != "ok"} == {bad}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_proof_at_first_use_meets_every_width(data: st.DataObject) -> None:
    max_length = data.draw(st.integers(9, 140), label="max_length")
    width = data.draw(st.sampled_from(widths(max_length)))
    bundle, golden = toy_bundle(max_length, ["openvino-fp32"])
    artifact = bundle.manifest.artifacts["openvino-fp32"]
    quick = data.draw(st.booleans())
    assert prove_widths(Toy(), golden, bundle, quick=quick).fault(artifact, 1e-4) == ""
    wrong = prove_widths(Toy(wrong=lambda shape: shape == (1, width)), golden, bundle, quick=quick)
    assert "at least 0.9999 is needed" in wrong.fault(artifact, 1e-4)
    assert "at least 0.995 is needed" in wrong.fault(artifact, 1e-4, "bf16")


def test_two_fp32_that_differ_do_not_acquit_each_other() -> None:
    """Wrong where no golden case goes: a whole row of 40 tokens, without padding."""
    genuine = Toy.embed

    def unpadded(self: Toy, input_ids: Any, attention_mask: Any) -> Any:
        vectors = genuine(self, input_ids, attention_mask)
        return vectors[:, ::-1] if self.name == "openvino-fp32" and attention_mask[:, 39:40].all() else vectors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Toy, "embed", unpadded)
        found = judged(40, [*_ARTIFACTS], "", lambda shape: False)
    assert found["openvino-fp32"].status == "failed"


def test_the_gates_of_a_hint() -> None:
    fp32, int8 = (Artifact("openvino", p, (), (), min_cosine={"ordinary": 0.9}) for p in ("fp32", "int8"))  # type: ignore[arg-type]
    for kind, least in (("ordinary", 0.9), ("degenerate", 0.93)):
        assert gate(fp32, kind, max_error=1e-4) == 1 - 1e-4  # type: ignore[arg-type]
        for hint in ("bf16", "f16"):
            assert gate(fp32, kind, max_error=1e-4, hint=hint) == MIN_COSINE_HALF  # type: ignore[arg-type]
            assert gate(int8, kind, max_error=1e-4, hint=hint) == least  # type: ignore[arg-type]
    assert [precision_of(fp32, hint) for hint in ("f32", "bf16", "f16")] == ["fp32", "bf16", "fp16"]
    assert {precision_of(int8, hint) for hint in ("f32", "bf16", "f16")} == {"int8"}


def test_a_hint_is_timed_in_turns_with_f32(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, golden = toy_bundle(40, ["openvino-int8"])
    monkeypatch.setattr(
        variants, "open_engine", lambda b, n, *, hint, threads, streams, beside: Toy(f"{hint} {threads} {streams}")
    )
    turns: list[str] = []

    def seconds(engine: Toy, *_: object) -> float:
        turns.append(engine.name)
        slow = 100.0 if len(turns) > 8 else 1.0  # the machine becomes busy
        return slow * (0.5 if engine.name.startswith("bf16") else 1.0)

    monkeypatch.setattr(proof, "_seconds", seconds)
    half = Variant("openvino-int8", "openvino", "int8", "bf16")
    assert proof._ratio(bundle, half, golden, 2) == 0.5
    assert turns == ["bf16 2 1", "f32 2 1"] * 10


@pytest.mark.skipif(
    not engines.is_installed("openvino") or "bf16" not in engines.offered_hints("openvino"),
    reason="this processor does not compute in bf16",
)
def test_bf16_of_this_processor_is_judged_by_what_it_does(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "offered_hints", engines.offered_hints)
    monkeypatch.setattr(proof, "_alone", lambda *_: 0.01)
    bundle = Bundle.open(tiny_bundle)
    golden, manifest = read_golden(bundle), bundle.manifest
    found = prove_variants(bundle, golden, full=False, threads=1, progress=Progress())
    half = {variant: finding for variant, finding in found.items() if variant.hint == "bf16"}
    assert [variant.name for variant in half] == ["openvino-fp32-bf16", "openvino-int8-bf16"]
    reference = Variant("onnxruntime-fp32", "onnxruntime", "fp32").open(bundle, threads=1)
    for variant, finding in half.items():
        engine = variant.open(bundle, threads=1)
        plain = dataclasses.replace(variant, hint="f32").open(bundle, threads=1)
        least: dict[str, float] = {}
        changed = False
        for probe in length_probes(golden.cases, manifest.max_length, every=False):
            vectors, under_f32, known = (probe.run(e, manifest.pad_token_id) for e in (engine, plain, reference))
            changed |= not np.array_equal(vectors, under_f32)
            for kind, cosine in zip(probe.kinds, row_cosines(vectors, known).tolist(), strict=True):
                least[kind] = min(least.get(kind, 2.0), cosine)
        assert changed, "the hint does not reach OpenVINO"
        artifact = manifest.artifacts[variant.artifact]
        right = all(c >= gate(artifact, kind, max_error=0, hint="bf16") for kind, c in least.items())  # type: ignore[arg-type]
        assert finding.status == "refused" or (finding.status == "ok" and right)
        engine.close()
        plain.close()
    reference.close()
