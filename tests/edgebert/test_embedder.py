"""The encoder: shapes, order, options, limits, threads, and that both engines agree."""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import sentences

import edgebert
from edgebert.bundle import Bundle, seal
from edgebert.embedder import Embedder, as_texts
from edgebert.errors import DataError, EngineError, RecipeError
from edgebert.golden import read_golden
from edgebert.manifest import Manifest
from edgebert.vectors import row_cosines

TEXTS = sentences(40, seed=5)


def with_facts(folder: Path, **facts: object) -> Bundle:
    """The bundle in `folder`, sealed again with other facts."""
    manifest: Manifest = dataclasses.replace(Bundle.open(folder).manifest, **facts)  # type: ignore[arg-type]
    return seal(folder, manifest)


def opened(folder: Path) -> Embedder:
    return edgebert.load(folder, engine="onnxruntime", precision="fp32", threads=1)


@pytest.fixture
def prompted(copied_bundle: Path) -> Iterator[Embedder]:
    """An encoder with prompts and a default one."""
    with_facts(copied_bundle, prompts={"query": "cat ", "passage": "dog "}, default_prompt_name="passage")
    with opened(copied_bundle) as encoder:
        yield encoder


def test_a_list_gives_a_row_a_text(encoder: Embedder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (40, 64) == (len(TEXTS), encoder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(np.unique(vectors.round(4), axis=0)) == 40


def test_one_string_gives_one_vector(encoder: Embedder) -> None:
    vector = encoder.encode(TEXTS[0])
    assert vector.shape == (64,)
    assert np.allclose(vector, encoder.encode([TEXTS[0]])[0], atol=1e-6)


def test_an_empty_list_gives_an_empty_matrix(encoder: Embedder) -> None:
    for nothing in ([], (), np.array([], dtype=str)):
        vectors = encoder.encode(nothing)  # type: ignore[arg-type]
        assert (vectors.shape, vectors.dtype) == ((0, 64), np.float32)
    assert encoder.encode([], truncate_dim=8).shape == (0, 8)


def test_an_empty_string_has_a_vector_of_its_own(encoder: Embedder) -> None:
    vectors = encoder.encode(["", "dog", "", "   "])
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[2], atol=1e-6)
    assert np.allclose(vectors[0], vectors[3], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-2)


def test_the_vectors_are_those_of_the_teacher(encoder: Embedder, tiny_bundle: Path) -> None:
    golden = read_golden(Bundle.open(tiny_bundle))
    assert row_cosines(encoder.encode([case.text for case in golden.cases]), golden.vectors).min() > 1 - 1e-4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_order_is_kept_under_shuffles(encoder: Embedder, seed: int, batch_size: int) -> None:
    straight = encoder.encode(TEXTS, batch_size=batch_size)
    order = random.Random(seed).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = encoder.encode([TEXTS[i] for i in order], batch_size=batch_size)
    assert np.allclose(shuffled, straight[order], atol=1e-5)


def test_the_batch_size_does_not_change_the_vectors(encoder: Embedder) -> None:
    alone = encoder.encode(TEXTS, batch_size=1)
    for batch_size in (2, 5, 40):
        assert row_cosines(encoder.encode(TEXTS, batch_size=batch_size), alone).min() > 1 - 1e-5


def test_arrays_and_tuples_of_strings_are_lists(encoder: Embedder) -> None:
    wanted = encoder.encode(TEXTS[:3])
    for given in (tuple(TEXTS[:3]), np.array(TEXTS[:3])):
        assert np.allclose(encoder.encode(given), wanted, atol=1e-6)  # type: ignore[arg-type]


def test_an_over_long_text_is_cut_and_counted(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tiny_bundle) as encoder, caplog.at_level(logging.INFO, "edgebert.model"):
        assert (encoder.truncated, encoder.max_length) == (0, 48)
        encoder.encode(["dog " * 46])
        assert encoder.truncated == 0
        cut = encoder.encode(["dog " * 46 + "cat", "cat", "dog " * 46 + "bird " * 500])
        assert encoder.truncated == 2
        assert np.allclose(cut[0], cut[2], atol=1e-6)
        assert np.allclose(cut[0], encoder.encode("dog " * 46), atol=1e-5)
        encoder.encode("cat " * 100)
        assert encoder.truncated == 3
    assert [r.message for r in caplog.records] == ["a text is longer than 48 tokens and was cut; more are only counted"]


@pytest.mark.parametrize("value", [None, 7, 1.5, b"bytes", ["nested"]])
def test_what_is_no_string_is_named_with_its_place(encoder: Embedder, value: object) -> None:
    with pytest.raises(DataError, match=rf"sentences\[1\] is .* \({type(value).__name__}\)") as caught:
        encoder.encode(["fine", value, "fine"])  # type: ignore[list-item]
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [None, 7, b"bytes", {"a": 1}, (text for text in TEXTS)])
def test_what_is_no_list_is_named(encoder: Embedder, value: object) -> None:
    with pytest.raises(DataError, match=r"a string or a list of strings is needed"):
        encoder.encode(value)  # type: ignore[arg-type]


def test_arrays_that_are_no_rows_of_strings() -> None:
    assert as_texts(np.array("abc")) == ["abc"]  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"sentences\[0\] is \['a', 'b'\] \(list\)"):
        as_texts(np.array([["a", "b"]]))
    with pytest.raises(DataError, match=r"sentences\[0\] is 1 \(int\)"):
        as_texts(np.array([1]))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, -1, 2.0, "8", True])
def test_a_wrong_batch_size_is_named(encoder: Embedder, number: object) -> None:
    with pytest.raises(RecipeError, match=rf"batch_size is {number!r}; it must be 1 or more, or None"):
        encoder.encode(TEXTS, batch_size=number)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, -1, 65, 2.0, "8"])
def test_a_wrong_truncate_dim_is_named(encoder: Embedder, number: object) -> None:
    with pytest.raises(RecipeError, match=rf"truncate_dim is {number!r}; it must be 1 to 64"):
        encoder.encode(TEXTS, truncate_dim=number)  # type: ignore[arg-type]


def test_truncate_dim_keeps_the_first_and_normalises_them(encoder: Embedder) -> None:
    whole = encoder.encode(TEXTS)
    kept = encoder.encode(TEXTS, truncate_dim=10)
    assert kept.shape == (40, 10)
    wanted = whole[:, :10] / np.linalg.norm(whole[:, :10], axis=1, keepdims=True)
    assert np.allclose(kept, wanted, atol=1e-5)
    raw = encoder.encode(TEXTS, truncate_dim=10, normalize_embeddings=False)
    assert np.allclose(raw, whole[:, :10], atol=1e-6)
    assert np.allclose(encoder.encode(TEXTS, truncate_dim=64), whole, atol=1e-6)


def test_a_model_that_normalises_itself_gives_unit_vectors_either_way(encoder: Embedder) -> None:
    assert np.allclose(encoder.encode(TEXTS, normalize_embeddings=False), encoder.encode(TEXTS), atol=1e-6)


def test_a_model_that_does_not_is_normalised_on_request(copied_bundle: Path) -> None:
    bundle = with_facts(copied_bundle, normalize=False)

    class Doubled:
        """An engine whose vectors have length 2."""

        name, precision = "onnxruntime", "fp32"

        def embed(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            out = np.zeros((len(input_ids), 64), np.float32)
            out[:, 3] = 2
            return out

        def close(self) -> None:
            pass

    encoder = Embedder(bundle, Doubled())
    assert np.linalg.norm(encoder.encode("x")) == 1
    assert np.linalg.norm(encoder.encode("x", normalize_embeddings=False)) == 2


def test_prompts_are_put_before_the_text(prompted: Embedder, encoder: Embedder) -> None:
    plain = {before: encoder.encode([before + t for t in TEXTS[:4]]) for before in ("", "cat ", "dog ", "red ")}
    assert np.allclose(prompted.encode(TEXTS[:4]), plain["dog "], atol=1e-5)
    assert np.allclose(prompted.encode(TEXTS[:4], prompt=""), plain[""], atol=1e-5)
    assert np.allclose(prompted.encode(TEXTS[:4], prompt="red "), plain["red "], atol=1e-5)
    assert np.allclose(prompted.encode(TEXTS[:4], prompt_name="query"), plain["cat "], atol=1e-5)
    assert np.allclose(prompted.encode_query(TEXTS[:4]), plain["cat "], atol=1e-5)
    assert np.allclose(prompted.encode_document(TEXTS[:4]), plain["dog "], atol=1e-5)
    assert np.allclose(prompted.encode_query(TEXTS[:4], prompt="red "), plain["red "], atol=1e-5)
    assert np.allclose(prompted.encode_document(TEXTS[:4], prompt_name="query"), plain["cat "], atol=1e-5)
    assert not np.allclose(plain["cat "], plain["dog "], atol=1e-2)
    assert prompted.prompts == {"query": "cat ", "passage": "dog "}


def test_without_prompts_queries_and_documents_are_texts(encoder: Embedder) -> None:
    wanted = encoder.encode(TEXTS[:4])
    assert np.allclose(encoder.encode_query(TEXTS[:4]), wanted, atol=1e-6)
    assert np.allclose(encoder.encode_document(TEXTS[:4]), wanted, atol=1e-6)


def test_an_unknown_prompt_is_named_with_the_known(prompted: Embedder, encoder: Embedder) -> None:
    with pytest.raises(RecipeError, match="the model has no prompt 'title'; it has passage, query"):
        prompted.encode("x", prompt_name="title")
    with pytest.raises(RecipeError, match="the model has no prompt 'query'; it has none"):
        encoder.encode("x", prompt_name="query")


def test_two_prompts_at_once_are_refused(prompted: Embedder) -> None:
    with pytest.raises(RecipeError, match="prompt 'a' and prompt_name 'query' are both given"):
        prompted.encode("x", prompt="a", prompt_name="query")


def test_a_model_that_leaves_its_prompt_out_of_pooling_refuses_prompts(copied_bundle: Path) -> None:
    with_facts(copied_bundle, prompts={"query": "cat "}, include_prompt=False)
    with opened(copied_bundle) as encoder:
        assert encoder.encode("x").shape == (64,)
        with pytest.raises(RecipeError, match="leaves the prompt's tokens out of its pooling"):
            encoder.encode_query("x")


def test_a_hundred_thousand_short_strings_take_less_than_a_minute(tiny_bundle: Path) -> None:
    words = sentences(1000, seed=8, shortest=1, longest=3)
    texts = words * 100
    with edgebert.load(tiny_bundle) as encoder:
        begun = time.monotonic()
        vectors = encoder.encode(texts, batch_size=256)
        assert time.monotonic() - begun < 60
        assert vectors.shape == (100_000, 64)
        first = encoder.encode(words, batch_size=256)
    assert row_cosines(vectors, np.tile(first, (100, 1))).min() > 0.99


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_many_threads_may_call_at_once(engine: str, tiny_bundle: Path) -> None:
    parts = [[*TEXTS[i : i + 8], "dog " * 60] for i in range(0, 40, 8)]
    with edgebert.load(tiny_bundle, engine=engine, precision="fp32", threads=1) as encoder:
        wanted = [encoder.encode(part) for part in parts]
        before = encoder.truncated
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(encoder.encode, parts * 10))
        assert encoder.truncated == before + 50
    for i, vectors in enumerate(found):
        assert np.allclose(vectors, wanted[i % 5], atol=1e-5)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_closed_encoder_says_so(engine: str, tiny_bundle: Path) -> None:
    with edgebert.load(tiny_bundle, engine=engine, precision="fp32", threads=1) as encoder:
        kept = encoder.encode(TEXTS)
        copy = kept.copy()
    encoder.close()
    with pytest.raises(EngineError, match=f"this encoder of {tiny_bundle} is closed: load the model again"):
        encoder.encode("x")
    assert (kept == copy).all()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("precision", "least"), [("fp32", 1 - 1e-4), ("int8", 0.97)])
def test_both_engines_agree_with_fp32(
    engine: str, precision: str, least: float, tiny_bundle: Path, encoder: Embedder
) -> None:
    texts = [*TEXTS, "dog " * 60, "今天我们在城市里看书"]
    with edgebert.load(tiny_bundle, engine=engine, precision=precision, threads=1) as other:
        assert (other.engine, other.precision) == (engine, precision)
        cosines = row_cosines(other.encode(texts), encoder.encode(texts))
    assert cosines.min() > least


def test_a_result_is_not_changed_by_the_next_call(encoder: Embedder) -> None:
    first = encoder.encode(TEXTS[:4])
    copy = first.copy()
    encoder.encode(TEXTS[4:])
    assert (first == copy).all()


def test_similarity_is_the_cosine_of_every_pair(encoder: Embedder) -> None:
    found = encoder.similarity([[2, 0], [1, 1]], [[0, 3], [5, 0], [-1, 0]])
    assert np.allclose(found, [[0, 1, -1], [0.5**0.5, 0.5**0.5, -(0.5**0.5)]], atol=1e-6)
    assert np.allclose(encoder.similarity([1, 0], [1, 0]), [[1]])
    with pytest.raises(DataError, match=r"shapes \(1, 2\) and \(1, 3\) cannot be compared"):
        encoder.similarity([1, 0], [1, 0, 0])


def test_its_representation_says_what_it_is(encoder: Embedder, tiny_bundle: Path) -> None:
    assert repr(encoder) == f"Embedder({str(tiny_bundle)!r}, engine='onnxruntime', precision='fp32')"


def test_an_engine_that_another_thread_closed_says_so(tiny_bundle: Path) -> None:
    for name in ("onnxruntime", "openvino"):
        opened = edgebert.load(tiny_bundle, engine=name, precision="fp32", threads=1)
        engine = opened.opened
        assert engine is not None
        opened.close()
        with pytest.raises(EngineError, match="the model is closed"):
            engine.embed(np.ones((1, 8), np.int64), np.ones((1, 8), np.int64))
