"""Compact vectors: codes and their bounds, packing, choosing, files, what encode gives, and every error."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert.compact import BinaryVectors, Int8Vectors, concatenate, int8_scale, to_binary, to_int8
from edgebert.compact_files import compact_file, load, save
from edgebert.embedder import Embedder
from edgebert.errors import BundleError, DataError, RecipeError
from edgebert.scores import scores
from edgebert.vectors import Vectors

DIMS = st.sampled_from([1, 2, 7, 8, 9, 37, 64, 100, 384])
TEXTS = sentences(12, seed=4)
FP32 = ["--engine", "onnxruntime", "--precision", "fp32", "--threads", "1"]


def drawn(seed: int, rows: int, dim: int, *, spread: float = 1.0) -> Vectors:
    """Vectors whose components are normal to the power `spread`: above 1 some stand out and are clipped."""
    normal = np.random.default_rng(seed).standard_normal((rows, dim))
    return (np.sign(normal) * np.abs(normal) ** spread).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 2**32), DIMS, st.sampled_from([0.5, 1.0, 3.0]))
def test_the_dot_product_of_codes_is_the_cosine_within_its_bound(seed: int, dim: int, spread: float) -> None:
    vectors = drawn(seed, 6, dim, spread=spread)
    coded = to_int8(vectors)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    dots = coded.codes.astype(np.int64) @ coded.codes.astype(np.int64).T
    left = np.abs(coded.codes * coded.scale - unit)
    reached = (np.abs(unit) <= 127 * coded.scale).all(axis=1)
    assert (left[reached] <= coded.scale / 2 * (1 + 1e-9)).all()  # half a step where nothing is clipped
    lost = np.linalg.norm(left, axis=1)
    bound = lost[:, None] + lost[None, :] + lost[:, None] * lost[None, :]  # by Cauchy and Schwarz
    assert (np.abs(dots * coded.scale**2 - unit @ unit.T) <= bound + 1e-9).all()
    worst = 6 / 127 + (3 / 127) ** 2  # the bound of two vectors that are not clipped, of any dimension
    assert (np.abs(dots * coded.scale**2 - unit @ unit.T)[np.ix_(reached, reached)] <= worst + 1e-9).all()


@pytest.mark.parametrize("dim", [64, 384, 768, 1025])
def test_real_distances_are_far_below_the_bound(dim: int) -> None:
    vectors = drawn(1, 400, dim)
    wrong = scores(to_int8(vectors), to_int8(vectors)) - scores(vectors, vectors)
    assert np.sqrt((wrong**2).mean()) < 0.021 / np.sqrt(dim)
    assert to_int8(vectors).floats().dtype == np.float32


@pytest.mark.parametrize("dim", [3, 1024, 1025, 4096])
def test_the_largest_codes_do_not_overflow(dim: int) -> None:
    codes = np.full((2, dim), 127, np.int8)
    codes[1] = -127
    found = scores(Int8Vectors(codes, 1.0), Int8Vectors(codes, 1.0))
    assert found.tolist() == [[16129.0 * dim, -16129.0 * dim], [-16129.0 * dim, 16129.0 * dim]]


def test_the_scale_is_a_fact_of_the_dimension() -> None:
    assert int8_scale(384) == 6 / 384**0.5 / 127
    assert int8_scale(36) == int8_scale(2) == 1 / 127
    assert to_int8(drawn(0, 2, 100)).scale == to_int8(drawn(5, 9, 100)).scale == int8_scale(100)
    assert to_int8(drawn(0, 2, 100), scale=0.5).scale == 0.5


def test_a_code_and_its_negative_are_both_codes_and_what_is_beyond_is_clipped() -> None:
    peak = np.zeros(384, np.float32)
    peak[0] = 1
    assert to_int8(peak).codes[:2].tolist() == [127, 0]
    assert to_int8(-peak).codes[:2].tolist() == [-127, 0]
    vectors = drawn(3, 50, 100, spread=3)
    assert (to_int8(-vectors).codes == -to_int8(vectors).codes).all()


def test_the_length_does_not_matter_and_a_zero_vector_is_zero() -> None:
    vectors = drawn(2, 5, 48)
    for factor in (1e-30, 1e30):
        assert (to_int8(vectors * np.float32(factor)).codes == to_int8(vectors).codes).all()
        assert (to_binary(vectors * np.float32(factor)).bits == to_binary(vectors).bits).all()
    nothing = np.zeros((2, 12))
    assert not to_int8(nothing).codes.any() and not to_binary(nothing).bits.any()
    assert scores(to_int8(nothing), to_int8(drawn(0, 3, 12))).tolist() == [[0, 0, 0]] * 2


@settings(deadline=None)
@given(st.integers(0, 2**32), DIMS)
def test_packing_keeps_every_sign(seed: int, dim: int) -> None:
    vectors = drawn(seed, 5, dim)
    packed = to_binary(vectors)
    assert packed.bits.shape == (5, -(-dim // 8))
    assert (np.unpackbits(packed.bits, axis=1)[:, :dim] == (vectors > 0)).all()
    assert not np.unpackbits(packed.bits, axis=1)[:, dim:].any()
    assert (np.sign(packed.floats()) == np.where(vectors > 0, 1, -1)).all()
    assert np.allclose(np.linalg.norm(packed.floats(), axis=1), 1, atol=1e-5)
    assert (to_binary(packed.floats()).bits == packed.bits).all()


@pytest.mark.parametrize("code", [to_int8, to_binary])
def test_vectors_are_chosen_as_from_an_array(code: Callable[[Any], Any]) -> None:
    whole = code(drawn(0, 10, 20))

    def array(v: Any) -> Any:
        return v.codes if isinstance(v, Int8Vectors) else v.bits

    assert (len(whole), len(whole[3]), len(whole[2:5]), len(whole[:0])) == (10, 1, 3, 0)
    assert array(whole[3]).shape == array(whole)[3].shape
    mask = np.arange(10) % 3 == 0
    for index in (3, -1, slice(2, 5), [1, 1, 7], np.array([4, 0]), np.int64(3), mask):
        assert np.array_equal(array(whole[index]), array(whole)[index])
        assert whole[index].dimension == 20
    assert np.array_equal(array(whole[5, 2]), array(whole)[[5, 2]]) and array(whole[[]]).shape == array(whole[:0]).shape
    assert [array(v).tolist() for v in whole] == array(whole).tolist()
    assert np.array_equal(array(concatenate([whole[:4], whole[4], whole[5:]])), array(whole))
    assert whole.floats().shape == (10, 20) and whole[0].floats().shape == (20,)
    with pytest.raises(IndexError):
        whole[10]
    with pytest.raises(DataError, match="this is one vector; it has no vector 0"):
        whole[0][0]
    for wrong in (None, [[0, 1]], 1.5, "a"):
        with pytest.raises(DataError, match="vectors are chosen by"):
            whole[wrong]


@pytest.mark.parametrize("code", [to_int8, to_binary])
def test_what_is_no_finite_vector_is_refused(code: Callable[[Any], Any]) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        vectors = drawn(0, 5000, 8)
        vectors[4321, 3] = bad
        with pytest.raises(DataError, match="vector 4321 holds NaN or infinite values"):
            code(vectors)
    with pytest.raises(DataError, match=r"vectors of shape \(1, 2, 3\) cannot be used"):
        code(np.zeros((1, 2, 3)))
    for none in (5.0, np.zeros((3, 0))):
        with pytest.raises(DataError, match="cannot be used"):
            code(none)
    with pytest.raises(DataError, match="these are no vectors"):
        code([["a"]])


def test_parts_that_differ_are_refused() -> None:
    floats = drawn(0, 3, 20)
    with pytest.raises(DataError, match="at least one part"):
        concatenate([])
    for parts in (
        [to_int8(floats), to_int8(floats, scale=0.5)],
        [to_int8(floats), to_int8(floats[:, :9])],
        [to_binary(floats), to_binary(floats[:, :19])],
        [to_int8(floats), to_binary(floats)],
    ):
        with pytest.raises(DataError, match="differ in kind, dimension or scale"):
            concatenate(parts)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Int8Vectors(np.zeros((2, 3), np.int16), 1.0), "codes are int16 of shape"),  # type: ignore[arg-type]
        (lambda: Int8Vectors([1, 2], 1.0), "codes are list"),  # type: ignore[arg-type]
        (lambda: Int8Vectors(np.zeros((2, 3), np.int8), 0.0), "scale of int8 vectors is 0.0"),
        (lambda: Int8Vectors(np.zeros((2, 3), np.int8), float("nan")), "scale of int8 vectors is nan"),
        (lambda: to_int8(np.ones((2, 3)), scale="a"), "scale of int8 vectors is 'a'; a number above 0"),  # type: ignore[arg-type]
        (lambda: to_int8(np.ones(3), scale=True), "scale of int8 vectors is True"),
        (lambda: to_int8(np.ones(3), scale=float("inf")), "scale of int8 vectors is inf"),
        (lambda: Int8Vectors(np.zeros((2, 3), np.int8), [1.0]), r"scale of int8 vectors is \[1.0\]"),  # type: ignore[arg-type]
        (lambda: BinaryVectors(np.zeros((2, 3), np.int8), 24), "bits are int8"),  # type: ignore[arg-type]
        (lambda: BinaryVectors(np.zeros((2, 3), np.uint8), 25), "3 bytes a vector do not hold 25 bits"),
        (lambda: BinaryVectors(np.zeros((2, 3), np.uint8), 16), "3 bytes a vector do not hold 16 bits"),
    ],
)
def test_codes_that_do_not_fit_are_refused(made: Callable[[], object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        made()


@pytest.mark.parametrize("rows", [0, 1, 7, None])
@pytest.mark.parametrize("code", [to_int8, to_binary])
def test_a_file_gives_back_what_was_saved(code: Callable[[Any], Any], rows: int | None, tmp_path: Path) -> None:
    vectors = code(drawn(0, rows, 20) if rows is not None else drawn(0, 1, 20)[0])
    save(vectors, tmp_path / "v.npz")
    found = load(tmp_path / "v.npz")
    assert type(found) is type(vectors) and vars(found).keys() == vars(vectors).keys()
    for name, value in vars(vectors).items():
        assert np.array_equal(value, vars(found)[name]), name
    with pytest.raises(BundleError, match="exists already"):
        save(vectors, tmp_path / "v.npz")
    with pytest.raises(RecipeError, match=r"v.npy has an unknown format; compact vectors are written to .npz"):
        save(vectors, tmp_path / "v.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["v.npz"]


@pytest.mark.parametrize("code", [to_int8, to_binary])
def test_a_file_written_in_pieces_is_the_same(code: Callable[[Any], Any], tmp_path: Path) -> None:
    vectors = code(drawn(0, 10, 20))
    with compact_file(tmp_path / "v.npz", vectors[:0]) as write:
        for part in (vectors[:4], vectors[4:4], vectors[4:]):
            write((), part)
        assert not (tmp_path / "v.npz").exists()
    found = load(tmp_path / "v.npz")
    assert all(np.array_equal(value, vars(found)[name]) for name, value in vars(vectors).items())
    with pytest.raises(DataError, match="takes .* vectors with"), compact_file(tmp_path / "w.npz", vectors) as write:
        write((), code(drawn(0, 3, 50)))
    with pytest.raises(ZeroDivisionError), compact_file(tmp_path / "w.npz", vectors) as write:
        write((), vectors)
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["v.npz"]


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    with pytest.raises(DataError, match=f"no such file: {path}"):
        load(path)
    save(to_int8(drawn(0, 30, 20)), path)
    whole = path.read_bytes()
    for bad in (b"", b"nonsense", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"v.npz holds no compact vectors that can be read"):
            load(path)
    for arrays in ({"codes": np.zeros((2, 2), np.int8)}, {"codes": np.zeros((2, 2)), "scale": np.float64(1)}, {}):
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="holds no compact vectors that can be read"):
            load(path)
    np.savez(path, codes=np.array([{}], dtype=object), scale=np.float64(1))
    with pytest.raises(DataError, match="holds no compact vectors that can be read"):
        load(path)  # a pickle is not opened
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(DataError, match="it is no .npz"):
        load(path)


def test_encode_gives_the_codes_of_its_vectors(encoder: Embedder) -> None:
    for method in (encoder.encode, encoder.encode_query, encoder.encode_document):
        floats = method(TEXTS)
        int8, binary = method(TEXTS, precision="int8"), method(TEXTS, precision="binary")
        assert np.array_equal(int8.codes, to_int8(floats).codes) and int8.scale == int8_scale(64)
        assert np.array_equal(binary.bits, to_binary(floats).bits) and binary.dimension == 64
        assert np.array_equal(method(TEXTS, precision="float32"), floats)


def test_codes_of_different_calls_compare(encoder: Embedder) -> None:
    floats = encoder.encode(TEXTS)
    one, rest = encoder.encode(TEXTS[0], precision="int8"), encoder.encode(TEXTS[1:], precision="int8")
    assert one.codes.shape == (64,) and one.scale == rest.scale
    assert np.abs(scores(one, rest) - floats[:1] @ floats[1:].T).max() < 0.02
    assert encoder.encode(TEXTS[0], precision="binary").bits.shape == (8,)


def test_truncated_vectors_are_coded_at_unit_length(encoder: Embedder) -> None:
    for dim in (5, 40):
        cut = encoder.encode(TEXTS, truncate_dim=dim)
        coded = encoder.encode(TEXTS, truncate_dim=dim, precision="int8")
        assert coded.scale == int8_scale(dim) and np.array_equal(coded.codes, to_int8(cut).codes)
        own = np.diagonal(scores(coded, coded))
        assert np.abs(own - 1).max() < 0.03
        assert encoder.encode(TEXTS, truncate_dim=dim, precision="binary").bits.shape == (12, -(-dim // 8))


def test_no_texts_give_no_codes(encoder: Embedder) -> None:
    assert encoder.encode([], precision="int8").codes.shape == (0, 64)
    assert encoder.encode([], precision="binary", truncate_dim=9).bits.shape == (0, 2)


def test_precisions_that_do_not_fit_are_refused(encoder: Embedder) -> None:
    for bad in ("int4", "uint8", None, 8):
        with pytest.raises(RecipeError, match=f"precision is {bad!r}; vectors have one of float32, int8, binary"):
            encoder.encode(TEXTS, precision=bad)  # type: ignore[call-overload]
    with pytest.raises(RecipeError, match="int8 codes unit vectors alone"):
        encoder.encode(TEXTS, precision="int8", normalize_embeddings=False)
    signs = encoder.encode(TEXTS, precision="binary", normalize_embeddings=False)
    assert np.array_equal(signs.bits, encoder.encode(TEXTS, precision="binary").bits)


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_the_command_writes_codes(
    precision: str, tiny_bundle: Path, tmp_path: Path, encoder: Embedder, cli: Callable[..., Any]
) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "v.npz"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    result = cli("embed", tiny_bundle, texts, "-o", out, "--vectors", precision, "--truncate-dim", 20, *FP32)
    assert (result.code, result.err) == (0, f"{out}: 12 vectors of 20, {precision}, by onnxruntime fp32\n")
    found, wanted = load(out), encoder.encode(TEXTS, truncate_dim=20)
    assert len(found) == 12 and found.dimension == 20
    with zipfile.ZipFile(out) as archive:
        assert set(archive.namelist()) in ({"codes.npy", "scale.npy"}, {"bits.npy", "dimension.npy"})
    if isinstance(found, Int8Vectors):
        assert np.abs(found.codes - to_int8(wanted).codes.astype(int)).max() <= 1
    else:
        assert (found.bits == to_binary(wanted).bits).mean() > 0.99


def test_the_command_refuses_what_does_not_fit(
    tiny_bundle: Path, tmp_path: Path, cli: Callable[..., Any], refused: Callable[..., str]
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("dog\n")
    command = ["embed", tiny_bundle, texts, "--vectors", "int8", *FP32]
    refused(*command, "-o", tmp_path / "v.npy", says="compact vectors are written to .npz", out=tmp_path / "v.npy")
    out = tmp_path / "v.npz"
    refused(*command, "-o", out, "--no-normalize", says="int8 codes unit vectors alone", out=out)
    refused("embed", tiny_bundle, texts, "-o", out, *FP32, says="unknown format", out=out)
    result = cli("embed", tiny_bundle, "--text", "dog", "--vectors", "binary", *FP32)
    assert result.code == 2 and "--vectors binary is written to -o OUT.npz" in result.err
