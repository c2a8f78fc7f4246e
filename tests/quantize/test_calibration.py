"""What static quantization measures on: the sample, the ladder of lengths, degenerate inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import sentences

from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_tokenizer
from edgebert.errors import DataError
from edgebert.quantize.calibration import _sample, calibration
from edgebert.quantize.stage import _split
from edgebert.tokenizer import Tokenizer

MAX = 48


@pytest.fixture(scope="module")
def tokenizer(tiny_teacher: Path) -> Tokenizer:
    """The tiny teacher's."""
    return load_tokenizer(Bundle.from_pretrained(tiny_teacher))


def test_the_same_text_gives_the_same_rows(tokenizer: Tokenizer) -> None:
    texts = sentences(300)
    one, again = (calibration(iter(texts), tokenizer, max_length=MAX, samples=40) for _ in range(2))
    assert one == again
    assert one.texts == 40
    other = calibration(sentences(300, seed=1), tokenizer, max_length=MAX, samples=40)
    assert other.rows != one.rows


def test_the_users_texts_come_first_as_their_own_ids(tokenizer: Tokenizer) -> None:
    texts = sentences(20)
    found = calibration(texts, tokenizer, max_length=MAX, samples=50)
    assert found.texts == 20
    assert [list(row) for row in found.rows[:20]] == [tokens.ids for tokens in tokenizer(texts)]


def test_running_text_of_short_and_long_lengths_is_added(tokenizer: Tokenizer) -> None:
    found = calibration(sentences(20), tokenizer, max_length=MAX, samples=50)
    running = found.rows[20 : 20 + 11]
    assert [len(row) for row in running] == [3, 4, 5, 6, 7, 8, 16, 24, 32, 40, 48]
    assert all(row[0] == 2 and row[-1] == 3 for row in running)
    assert all(len(set(row)) > 5 for row in running[6:])


def test_the_empty_text_and_repeated_words_and_signs_are_added(tokenizer: Tokenizer) -> None:
    found = calibration(sentences(20), tokenizer, max_length=MAX, samples=50)
    degenerate = found.rows[31:]
    assert degenerate[0] == (2, 3)
    repeated = degenerate[1:]
    assert all(len(set(row[1:-1])) == 1 for row in repeated)
    tokens = {row[1] for row in repeated}
    for sign in ".!?,":
        assert tokenizer([sign])[0].ids[1] in tokens
    assert len(tokens) > 6
    assert {len(row) for row in repeated} == {4, 8, 16, 32, 48}
    assert max(len(row) for row in found.rows) == MAX


def test_a_model_of_very_short_inputs_gets_none_that_is_longer(tiny_teacher: Path) -> None:
    tokenizer = load_tokenizer(Bundle.from_pretrained(tiny_teacher), max_length=5)
    found = calibration(sentences(40), tokenizer, max_length=5, samples=20)
    assert {len(row) for row in found.rows[1:]} <= {2, 3, 4, 5}
    assert max(len(row) for row in found.rows) == 5


@pytest.mark.parametrize("texts", [[], ["", " "] * 9, sentences(7), ["a dog", "A  dog ", "a dog"] * 9])
def test_too_few_distinct_texts_are_refused(texts: list[str], tokenizer: Tokenizer) -> None:
    usable = len({" ".join(text.lower().split()) for text in texts if text.strip()})
    with pytest.raises(DataError, match=f"has {usable} distinct usable lines; at least 8 are needed"):
        calibration(texts, tokenizer, max_length=MAX, samples=50)


def test_eight_distinct_texts_are_enough(tokenizer: Tokenizer) -> None:
    assert calibration(sentences(8), tokenizer, max_length=MAX, samples=50).texts == 8


def test_the_sample_is_drawn_evenly_from_a_stream(tokenizer: Tokenizer) -> None:
    kept = [int(text) for text in _sample((str(i) for i in range(10_000)), 1000)]
    assert len(set(kept)) == 1000
    counts = [sum(low <= i < low + 2500 for i in kept) for low in range(0, 10_000, 2500)]
    assert all(190 < count < 310 for count in counts)


def test_the_sample_holds_no_text_twice() -> None:
    kept = _sample((str(i % 300) for i in range(5000)), 100)
    assert len(kept) == len(set(kept)) == 100


def test_a_stream_without_end_is_read_only_so_far() -> None:
    import itertools

    assert len(_sample(map(str, itertools.count()), 10)) == 10


def test_texts_to_measure_on_are_not_calibrated_on() -> None:
    seen, unseen = _split([*sentences(2000), "", *sentences(50)], 200)
    assert (len(seen), len(unseen)) == (200, 300)
    assert not set(seen) & set(unseen)
    places = {text: i for i, text in enumerate(sentences(2000))}
    assert max(places[text] for text in unseen) > 1900
    assert _split(sentences(2000), 200) == (seen, unseen)


def test_a_small_calibration_file_is_halved() -> None:
    seen, unseen = _split(sentences(17), 200)
    assert (len(seen), len(unseen)) == (9, 8)
    with pytest.raises(DataError, match="has 15 distinct usable lines; at least 16 are needed"):
        _split([*sentences(15), *sentences(15), " "], 200)


class Heard(list[str]):
    """The lines that were said."""


def english_only(folder: Path, teacher: Path) -> Tokenizer:
    """The tiny tokenizer without its Chinese characters."""
    import json
    import shutil

    shutil.copytree(teacher, folder)
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["model"]["vocab"] = {piece: i for piece, i in data["model"]["vocab"].items() if piece.isascii()}
    path.write_text(json.dumps(data), encoding="utf-8")
    return load_tokenizer(Bundle.from_pretrained(folder))


def test_text_in_a_language_that_the_tokenizer_does_not_know_is_warned_of(tiny_teacher: Path, tmp_path: Path) -> None:
    tokenizer, said = english_only(tmp_path / "english", tiny_teacher), Heard()
    chinese = [f"今天{a}看{b}书" for a in "我们在城市里" for b in "狗猫鸟"]
    found = calibration([*sentences(18), *chinese], tokenizer, max_length=MAX, samples=50, say=said.append)
    rows = [tokens.ids[1:-1] for tokens in tokenizer([*sentences(18), *chinese])]
    assert found.unknown == pytest.approx(sum(row.count(1) for row in rows) / sum(map(len, rows)))
    assert found.unknown > 0.05
    assert said
    with pytest.raises(DataError, match="does not know 100.0 % of the calibration text's tokens; it must"):
        calibration(chinese, tokenizer, max_length=MAX, samples=50)
    only = Heard()
    mixed = [f"{text} 今天我们看书" for text in sentences(20)]
    found = calibration(mixed, tokenizer, max_length=MAX, samples=50, say=only.append)
    rows = [tokens.ids[1:-1] for tokens in tokenizer(mixed)]
    assert found.unknown == pytest.approx(sum(row.count(1) for row in rows) / sum(map(len, rows)))
    assert found.unknown > 0.2
    assert only == [
        f"warning: the tokenizer does not know {100 * found.unknown:.1f} % of the calibration text's tokens: is it in "
        "a language of the model?"
    ]


def test_text_that_the_tokenizer_knows_is_not_warned_of(tokenizer: Tokenizer) -> None:
    said = Heard()
    found = calibration(sentences(20), tokenizer, max_length=MAX, samples=50, say=said.append)
    assert (found.unknown, found.truncated, said) == (0.0, 0, [])


def test_texts_that_were_cut_are_counted(tiny_teacher: Path) -> None:
    tokenizer, said = load_tokenizer(Bundle.from_pretrained(tiny_teacher), max_length=16), Heard()
    long = [" ".join([text.rstrip(".")] * 12) for text in sentences(5, shortest=6)]
    found = calibration([*sentences(20, longest=8), *long], tokenizer, max_length=16, samples=50, say=said.append)
    assert found.truncated == 5
    assert said == ["5 of 25 calibration texts are longer than 16 tokens and were cut"]
    assert max(len(row) for row in found.rows) == 16


def test_one_line_is_too_few(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="has 1 distinct usable lines; at least 16 are needed"):
        _split(["a dog."], 200)
    with pytest.raises(DataError, match="has 0 distinct usable lines; at least 16 are needed"):
        _split([], 200)


def test_the_whole_file_is_drawn_from() -> None:
    first, second = sentences(600, seed=1), sentences(390, seed=2)
    seen, unseen = _split([*first, *second], 200)
    for chosen in (seen, unseen):
        assert abs(len(set(chosen) & set(second)) / len(chosen) - 390 / 990) < 0.1
