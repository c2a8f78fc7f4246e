"""Exact search: it is brute force, whatever the blocks, for every mixture of kinds; Hamming distances; errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert import nearest
from edgebert import scores as scoring
from edgebert.compact import to_binary, to_int8
from edgebert.errors import DataError, RecipeError
from edgebert.nearest import search
from edgebert.scores import hamming, scores
from edgebert.vectors import Vectors, similarity

FORMS: dict[str, Any] = {"float": lambda v: v, "int8": to_int8, "binary": to_binary}


def drawn(seed: int, rows: int, dim: int) -> Vectors:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def brute(values: np.ndarray[Any, Any], k: int) -> np.ndarray[Any, Any]:
    """The columns of the k largest values of every row, ties by number."""
    return np.argsort(-values, axis=1, kind="stable")[:, :k]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (nearest, scoring):
        monkeypatch.setattr(module, "QUERIES", 3)
        monkeypatch.setattr(module, "DOCUMENTS", 7)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.sampled_from([1, 8, 13, 65, 130]), st.integers(1, 70))
def test_int8_search_is_brute_force(seed: int, rows: int, dim: int, k: int) -> None:
    queries, documents = to_int8(drawn(seed, 5, dim)), to_int8(drawn(seed + 1, rows, dim))
    dots = queries.codes.astype(np.int64) @ documents.codes.astype(np.int64).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "DOCUMENTS", 7)
        found = search(queries, documents, k)
    assert np.array_equal(found.indices, brute(dots, k))
    wanted = np.take_along_axis(dots, found.indices, axis=1) * queries.scale * documents.scale
    assert np.allclose(found.scores, wanted, rtol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.sampled_from([1, 8, 13, 64, 65, 130]), st.integers(1, 70))
def test_binary_search_is_brute_force_also_without_numpy_2(seed: int, rows: int, dim: int, k: int) -> None:
    a, b = drawn(seed, 5, dim), drawn(seed + 1, rows, dim)
    differ = ((a > 0)[:, None] != (b > 0)[None]).sum(axis=2)
    for count in {scoring._COUNT, None}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scoring, "_COUNT", count)
            patch.setattr(nearest, "DOCUMENTS", 7)
            assert np.array_equal(hamming(to_binary(a), to_binary(b)), differ)
            for queries in (a, to_binary(a)):
                found = search(queries, to_binary(b), k)
                assert np.array_equal(found.indices, brute(-differ, k))
                assert np.allclose(found.scores, 1 - 2 * np.take_along_axis(differ, found.indices, axis=1) / dim)


@pytest.mark.parametrize("query_form", ["float", "int8"])
@pytest.mark.parametrize("document_form", ["float", "int8"])
def test_forms_mix(query_form: str, document_form: str, small_blocks: None) -> None:
    queries, documents = drawn(0, 8, 50), drawn(1, 40, 50)
    given = FORMS[query_form](queries), FORMS[document_form](documents)
    cosines = scores(*given)
    assert np.abs(cosines - similarity(queries, documents)).max() < 0.02
    found = search(*given, k=6)
    assert np.array_equal(found.indices, brute(cosines, 6))
    assert np.allclose(found.scores, np.take_along_axis(cosines, found.indices, axis=1), atol=1e-6)


@pytest.mark.parametrize("form", ["float", "int8"])
def test_rescoring_ranks_the_candidates_by_cosine(form: str, small_blocks: None) -> None:
    queries, documents = drawn(0, 8, 50), drawn(1, 200, 50)
    rescore = FORMS[form](documents)
    cosines = scores(queries, rescore)
    near = brute(-hamming(to_binary(queries), to_binary(documents)), 12)
    found = search(queries, to_binary(documents), 4, rescore=rescore, oversample=3)
    for i in range(8):
        chosen = np.sort(near[i])
        assert found.indices[i].tolist() == chosen[brute(cosines[i : i + 1, chosen], 4)[0]].tolist()
    every = search(queries, to_binary(documents), 4, rescore=rescore, oversample=50)
    assert np.array_equal(every.indices, brute(cosines, 4))


def test_equal_documents_come_by_number_and_fewer_than_k_are_all(small_blocks: None) -> None:
    one = drawn(0, 1, 16)
    same = np.repeat(one, 20, axis=0)
    for name, form in FORMS.items():
        if name != "float":  # whose products may differ in the last bit from block to block
            coded = form(one)
            assert search(coded, form(same), 5).indices.tolist() == [[0, 1, 2, 3, 4]]
            assert search(coded, form(same), 50).indices.tolist() == [list(range(20))]
        assert sorted(search(one, form(same), 50).indices[0].tolist()) == list(range(20))
        assert search(one, form(same[:0]), 5).indices.shape == (1, 0)
        assert search(one[:0], form(same), 5).scores.shape == (0, 5)


@pytest.mark.parametrize("form", ["float", "int8", "binary"])
def test_one_query_gives_one_row(form: str) -> None:
    queries, documents = drawn(0, 1, 16), drawn(1, 9, 16)
    one = FORMS[form](queries[0])
    found = search(one, FORMS[form](documents), 3)
    assert found.indices.shape == found.scores.shape == (3,)
    assert found.indices.tolist() == search(FORMS[form](queries), FORMS[form](documents), 3).indices[0].tolist()


def test_float_documents_may_lie_in_a_file(tmp_path: Any) -> None:
    documents = drawn(1, 90, 16)
    np.save(tmp_path / "v.npy", documents)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    assert np.array_equal(search(drawn(0, 4, 16), mapped, 3).indices, search(drawn(0, 4, 16), documents, 3).indices)
    found = search(drawn(0, 4, 16), to_binary(documents), 3, rescore=mapped, oversample=30)
    assert np.array_equal(found.indices, brute(similarity(drawn(0, 4, 16), documents), 3))


def test_what_does_not_fit_is_refused(small_blocks: None) -> None:
    floats, other = drawn(0, 20, 16), drawn(0, 20, 15)
    binary, int8 = to_binary(floats), to_int8(floats)
    for option, bad in (("k", 0), ("k", 2.0), ("k", True), ("oversample", 0), ("oversample", None)):
        options: dict[str, Any] = {option: bad}
        with pytest.raises(RecipeError, match=f"{option} is {bad!r}; it must be 1 or more"):
            search(floats, binary, rescore=floats, **options)
    with pytest.raises(RecipeError, match="the documents are not binary: rescoring must go with BinaryVectors"):
        search(floats, int8, rescore=floats)
    with pytest.raises(RecipeError, match="the documents are not binary: binary queries must go with BinaryVectors"):
        search(binary, int8)
    with pytest.raises(RecipeError, match="rescoring needs more of the queries than signs"):
        search(binary, binary, rescore=floats)
    with pytest.raises(DataError, match="binary vectors have no cosine"):
        scores(binary, int8)
    with pytest.raises(DataError, match="19 vectors to rescore with do not fit 20 documents"):
        search(floats, binary, rescore=int8[:19])
    for call in (
        lambda: search(other, int8),
        lambda: search(floats, binary, rescore=other),
        lambda: scores(other, int8),
    ):
        with pytest.raises(DataError, match=r"of dimensions \d+ and \d+ cannot be compared"):
            call()
    with pytest.raises(DataError, match="binary vectors of dimensions 15 and 16 cannot be compared"):
        search(other, binary)
    floats[17, 2] = np.nan
    with pytest.raises(DataError, match="vector 17 holds NaN"):
        search(int8, floats)
    with pytest.raises(DataError, match="vector 17 holds NaN"):
        search(int8, binary, 20, rescore=floats)
