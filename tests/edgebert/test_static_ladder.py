"""A ladder of fixed shapes: which rung a text takes, and that every rung answers as the dynamic model does."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgebert
from edgebert.batching import pad
from edgebert.bundle import Bundle, seal
from edgebert.engines import open_engine
from edgebert.engines.static_ladder import StaticLadder, rungs
from edgebert.errors import EngineError
from edgebert.golden import prove, read_golden
from edgebert.probes import KINDS, probe_ids
from edgebert.vectors import row_cosines

PAD = 7


class Rung:
    """Answers with its width, the first token, the sum of the tokens it sees, and how many are padding."""

    name, precision = "toy", "fp32"

    def __init__(self, width: int) -> None:
        self.width, self.open = width, True

    def embed(self, input_ids: Any, attention_mask: Any) -> Any:
        assert input_ids.shape == attention_mask.shape == (1, self.width)
        assert (input_ids[attention_mask == 0] == PAD).all()
        seen = (input_ids * attention_mask).sum()
        return np.array([[self.width, input_ids[0, 0], seen]], np.float32)

    def close(self) -> None:
        self.open = False


def toy(max_length: int) -> tuple[StaticLadder, list[Rung]]:
    made: list[Rung] = []

    def compile(width: int) -> Any:
        made.append(Rung(width))
        return made[-1]

    return StaticLadder("toy", "fp32", compile, max_length=max_length, pad_token_id=PAD), made


@pytest.mark.parametrize(
    ("longest", "widths"),
    [(8, (8,)), (16, (16,)), (17, (16, 17)), (48, (16, 32, 48)), (128, (16, 32, 64, 128)),
     (512, (16, 32, 64, 128, 256, 512)), (514, (16, 32, 64, 128, 256, 512, 514))],
)  # fmt: skip
def test_the_ladder_ends_with_the_longest_input(longest: int, widths: tuple[int, ...]) -> None:
    assert rungs(longest) == widths


@given(st.lists(st.integers(1, 100), min_size=1, max_size=9), st.integers(0, 20))
def test_every_text_takes_the_narrowest_rung_that_holds_it(lengths: list[int], more: int) -> None:
    ladder, made = toy(100)
    ids = [list(range(1, n + 1)) for n in lengths]
    found = ladder.embed(*pad(ids, 0, to=min(100, max(lengths) + more)))
    expected = [[min(w for w in rungs(100) if w >= n), 1, n * (n + 1) // 2] for n in lengths]
    assert found.tolist() == expected
    assert [rung.width for rung in made] == list(dict.fromkeys([16, *(row[0] for row in expected)]))
    assert ladder.compiled == tuple(sorted({rung.width for rung in made}))


def test_rungs_are_freed_and_made_again_and_a_closed_ladder_says_so() -> None:
    ladder, made = toy(100)
    assert ladder.compiled == (16,)
    ladder.release()
    assert (ladder.compiled, [rung.open for rung in made]) == ((), [False])
    ladder.embed(*pad([[1] * 20], 0))
    assert ladder.compiled == (32,)
    with pytest.raises(EngineError, match="a text of 101 tokens is longer than the longest rung, 100"):
        ladder.embed(*pad([[1] * 101], 0))
    ladder.close()
    ladder.close()
    assert not any(rung.open for rung in made)
    with pytest.raises(EngineError, match="the model is closed: load it again"):
        ladder.embed(*pad([[1]], 0))


@pytest.fixture
def static_bundle(copied_bundle: Path) -> Bundle:
    """The tiny bundle, every artifact with its static twin over the same file."""
    manifest = Bundle.open(copied_bundle).manifest
    twins = {f"{n}-static": dataclasses.replace(a, shapes="static") for n, a in manifest.artifacts.items()}
    return seal(copied_bundle, dataclasses.replace(manifest, artifacts={**manifest.artifacts, **twins}))


@pytest.mark.parametrize("name", ["openvino-fp32", "openvino-int8", "onnxruntime-fp32", "onnxruntime-int8"])
def test_every_rung_answers_as_the_dynamic_model_at_every_length(name: str, static_bundle: Bundle) -> None:
    golden, facts = read_golden(static_bundle), static_bundle.manifest
    dynamic, ladder = (open_engine(static_bundle, n, threads=1) for n in (name, f"{name}-static"))
    assert isinstance(ladder, StaticLadder)
    assert (ladder.name, ladder.precision) == tuple(name.split("-"))
    least = 0.9999 if name.endswith("fp32") else 0.995
    for length in range(2, facts.max_length + 1):
        for kind in KINDS:
            ids, mask = pad([probe_ids(golden.cases, kind, length)], facts.pad_token_id)
            known = dynamic.embed(ids, mask)
            for width in (w for w in ladder.rungs if w >= length):
                cosine = row_cosines(ladder.embed_at(width, ids, mask), known)[0]
                assert cosine >= least, (length, width, kind)
            assert row_cosines(ladder.embed(ids, mask), known)[0] >= least
    assert ladder.compiled == rungs(facts.max_length)
    for engine in (dynamic, ladder):
        engine.close()


@pytest.mark.parametrize("width", rungs(48))
def test_the_proof_tries_every_rung(width: int, static_bundle: Bundle) -> None:
    name = "openvino-fp32-static"
    ladder: Any = open_engine(static_bundle, name, threads=1)
    golden, artifact = read_golden(static_bundle), static_bundle.manifest.artifacts[name]
    assert prove(ladder, golden, static_bundle).fault(artifact, golden.max_error) == ""
    genuine = ladder.embed_at
    ladder.embed_at = lambda w, ids, mask: genuine(w, ids, mask)[:, :: -1 if w == width else 1]
    assert "cosine" in prove(ladder, golden, static_bundle).fault(artifact, golden.max_error)
    ladder.close()


def test_a_load_keeps_no_rung_that_no_text_has_needed(static_bundle: Bundle) -> None:
    kept = {n: a for n, a in static_bundle.manifest.artifacts.items() if n == "openvino-int8-static"}
    seal(static_bundle.root, dataclasses.replace(static_bundle.manifest, artifacts=kept))
    with edgebert.load(static_bundle.root, threads=1) as encoder:
        ladder: Any = encoder.opened
        assert ladder.compiled == ()
        encoder.encode("a dog")
        assert ladder.compiled == (16,)


@pytest.mark.parametrize("name", ["openvino-int8-static", "onnxruntime-int8-static"])
def test_a_rung_is_never_made_of_weights_that_were_changed_after_the_load(name: str, static_bundle: Bundle) -> None:
    kept = {n: a for n, a in static_bundle.manifest.artifacts.items() if n == name}
    seal(static_bundle.root, dataclasses.replace(static_bundle.manifest, artifacts=kept))
    with edgebert.load(static_bundle.root, threads=1) as encoder:
        vector = encoder.encode("a dog")
        weights = max((static_bundle.path(file) for file in kept[name].files), key=lambda path: path.stat().st_size)
        data = bytearray(weights.read_bytes())
        data[-64:] = bytes(64)
        weights.write_bytes(data)
        os.utime(weights, ns=(0, 0))  # however coarse the clock of the files is
        for text in ("the dog runs " * 8, "the dog runs " * 30):
            with pytest.raises(EngineError, match="was changed or removed while it was in use: load it again"):
                encoder.encode(text)
        assert (encoder.encode("a dog") == vector).all()
