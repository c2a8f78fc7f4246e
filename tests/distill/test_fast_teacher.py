"""Which engine computes the teacher's answers, and that a wrong one never does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgebert.bundle import Bundle
from edgebert.distill import fast_teacher as module
from edgebert.distill.encoder import load_encoder
from edgebert.distill.fast_teacher import Answers, Choice, OpenVinoTeacher, TorchTeacher, choose, fault, open_teacher
from edgebert.distill.ragged import Ragged, RaggedWriter
from edgebert.distill.teacher import TeacherCache, fingerprint


@pytest.fixture
def teacher(tiny_teacher: Path) -> Bundle:
    """The tiny teacher, opened."""
    return Bundle.from_pretrained(tiny_teacher)


class WrongAt(OpenVinoTeacher):
    """OpenVINO, but at one width it gives another text's answer."""

    width = 24

    def answer(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Answers:
        found = super().answer(input_ids, attention_mask)
        return Answers(*(-part for part in found)) if input_ids.shape[1] == self.width else found


def test_openvino_answers_where_it_is_exact_and_as_torch_does(teacher: Bundle) -> None:
    choice = choose(teacher, "fp32", fingerprint(teacher))
    assert choice == Choice("openvino fp32")
    engine, torch = open_teacher(teacher, "fp32", choice), TorchTeacher(load_encoder(teacher), "fp32")
    ids = np.array([[2, 40, 41, 42, 3], [2, 40, 3, 0, 0]])
    mask = (ids > 0).astype(np.int64)
    ours, theirs = engine.answer(ids, mask), torch.answer(ids, mask)
    assert np.abs(ours.vectors - theirs.vectors).max() < 1e-5
    assert np.abs(ours.states - theirs.states)[mask == 1].max() < 1e-4


def test_what_was_found_out_is_not_found_out_again(teacher: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    first = choose(teacher, "fp32", "weights")
    monkeypatch.setattr(module, "load_encoder", lambda *_, **__: pytest.fail("the teacher was loaded"))
    assert choose(teacher, "fp32", "weights") == first


@pytest.mark.parametrize("width", [3, 24, 48])
def test_an_engine_that_is_wrong_at_one_width_is_refused_and_torch_answers(
    width: int, teacher: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WrongAt, "width", width)
    monkeypatch.setattr(module, "OpenVinoTeacher", WrongAt)
    choice = choose(teacher, "fp32", fingerprint(teacher))
    assert choice.engine == "torch fp32"
    assert choice.why == f"openvino fp32 is wrong at {width} tokens: cosine -1.0000 to torch fp32"
    assert isinstance(open_teacher(teacher, "fp32", choice), TorchTeacher)


def test_an_engine_that_is_slightly_off_everywhere_is_refused(teacher: Bundle) -> None:
    torch = TorchTeacher(load_encoder(teacher), "fp32")

    class Noisy:
        name = "noisy"

        def answer(self, input_ids: Any, attention_mask: Any) -> Answers:
            found = torch.answer(input_ids, attention_mask)
            noise = np.random.default_rng(0).normal(0, 0.06 / 8, found.vectors.shape)
            return Answers(found.states, (found.vectors + noise).astype(np.float32))

    assert fault(torch, torch, teacher) == ""
    assert fault(Noisy(), torch, teacher).startswith("noisy is inexact: mean cosine 0.99")


def test_an_engine_that_fails_is_told_and_torch_answers(teacher: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such operation\nand a trace")

    monkeypatch.setattr(module, "OpenVinoTeacher", broken)
    choice = choose(teacher, "fp32", "weights")
    assert choice == Choice("torch fp32", "OpenVINO does not take it: no such operation")


def test_without_openvino_torch_answers_and_nothing_is_loaded(teacher: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "load_encoder", lambda *_, **__: pytest.fail("the teacher was loaded"))
    assert choose(teacher, "bf16", "weights") == Choice("torch bf16", "openvino is not installed")


def test_the_engines_name_is_part_of_the_caches_key(
    teacher: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RaggedWriter(tmp_path / "ids", np.int32) as writer:
        writer.append([2, 40, 3])
    caches = []
    for found in (object(), None):
        monkeypatch.setattr(module, "find_spec", lambda name, found=found: found)
        cache = TeacherCache(teacher, Ragged(tmp_path / "ids"), hidden=False, precision="fp32")
        assert cache.missing() == [0]
        cache.fill([0])
        caches.append(cache)
    assert [cache.choice.engine for cache in caches] == ["openvino fp32", "torch fp32"]
    assert caches[0].folder != caches[1].folder
    assert [cache.missing() for cache in caches] == [[], []]
