"""`encode_stream`: lazy, in order, endless, and strict about options at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import sentences

from edgebert.embedder import Embedder
from edgebert.errors import DataError, RecipeError
from edgebert.memory import resident_mb

TEXTS = sentences(50, seed=6)


@pytest.mark.parametrize("chunk_size", [1, 7, 50, 1024, np.int64(9)])
def test_vectors_come_in_order_as_encode_gives_them(chunk_size: int, encoder: Embedder) -> None:
    found = list(encoder.encode_stream(iter(TEXTS), chunk_size=chunk_size))
    assert np.abs(np.stack(found) - encoder.encode(TEXTS)).max() < 1e-6
    cut = list(encoder.encode_stream(TEXTS, chunk_size=chunk_size, truncate_dim=8, normalize_embeddings=False))
    assert np.abs(np.stack(cut) - encoder.encode(TEXTS, truncate_dim=8, normalize_embeddings=False)).max() < 1e-6


def test_nothing_gives_nothing(encoder: Embedder) -> None:
    assert list(encoder.encode_stream([])) == []


def test_it_reads_a_chunk_when_it_is_needed_and_no_more(encoder: Embedder) -> None:
    read = 0

    def source() -> Iterator[str]:
        nonlocal read
        for text in itertools.cycle(TEXTS):
            read += 1
            yield text

    stream = encoder.encode_stream(source(), chunk_size=8)
    assert read == 0
    for given in range(1, 30):
        next(stream)
        assert given <= read <= given + 7


@pytest.mark.skipif(resident_mb() is None, reason="this system does not tell resident memory")
def test_an_endless_input_is_held_a_chunk_at_a_time(encoder: Embedder) -> None:
    stream = encoder.encode_stream((f"dog {i} " + "cat " * 3000 for i in itertools.count()), chunk_size=16)
    for _ in itertools.islice(stream, 64):
        pass
    before = resident_mb()
    for _ in itertools.islice(stream, 3000):  # 36 MB of text
        pass
    after = resident_mb()
    assert before is not None and after is not None
    assert after - before < 12


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"chunk_size": 0}, "chunk_size is 0; it must be 1 or more"),
        ({"chunk_size": 2.0}, "chunk_size is 2.0; it must be 1 or more"),
        ({"chunk_size": True}, "chunk_size is True; it must be 1 or more"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"truncate_dim": 65}, "truncate_dim is 65"),
        ({"prompt_name": "absent"}, "the model has no prompt 'absent'"),
    ],
)
def test_a_wrong_option_is_named_at_once(options: dict[str, Any], says: str, encoder: Embedder) -> None:
    with pytest.raises(RecipeError, match=says):
        encoder.encode_stream(iter(TEXTS), **options)


@pytest.mark.parametrize("value", ["text", b"bytes", 7, None])
def test_what_gives_no_strings_is_named_at_once(value: Any, encoder: Embedder) -> None:
    with pytest.raises(DataError, match="something that gives strings one by one is needed"):
        encoder.encode_stream(value)


def test_what_is_no_string_is_named_by_its_place_in_the_stream(encoder: Embedder) -> None:
    stream = encoder.encode_stream([*TEXTS[:21], None, *TEXTS], chunk_size=8)  # type: ignore[list-item]
    assert len(list(itertools.islice(stream, 16))) == 16
    with pytest.raises(DataError, match=r"sentences\[21\] is None \(NoneType\)"):
        next(stream)


def test_an_error_of_the_source_comes_through(encoder: Embedder) -> None:
    def source() -> Iterator[str]:
        yield from TEXTS[:9]
        raise OSError("the line is dead")

    stream = encoder.encode_stream(source(), chunk_size=4)
    assert len(list(itertools.islice(stream, 8))) == 8
    with pytest.raises(OSError, match="the line is dead"):
        next(stream)
