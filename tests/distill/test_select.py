"""Which texts are trained on: lengths, excluded texts, near repeats, and that all is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result
from runs import command

from edgebert.bundle import Bundle
from edgebert.distill.corpus import open_corpus
from edgebert.distill.recipe import Data, Recipe, override
from edgebert.distill.select import Selected, bands, content_of, select
from edgebert.errors import DataError, RecipeError
from edgebert.progress import Progress

Cli = Callable[..., Result]


def chosen(lines: list[str], tmp_path: Path, teacher: Path, **data: Any) -> tuple[list[str], Selected]:
    """The texts that are left, and what was counted."""
    (tmp_path / "corpus.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = open_corpus([tmp_path / "corpus.txt"])
    found = select(text, Data(**data), Bundle.from_pretrained(teacher), Progress())
    return [text[int(row)] for row in found.rows], found


def test_texts_of_other_lengths_are_left_out(tiny_teacher: Path, tmp_path: Path) -> None:
    lines = ["dog", "dog cat", "dog cat bird", "dog cat bird horse"]
    left, found = chosen(lines, tmp_path, tiny_teacher, min_tokens=4, max_tokens=5)  # with [CLS] and [SEP]
    assert (left, found.counts["length"]) == (lines[1:3], 2)
    left, found = chosen(lines, tmp_path, tiny_teacher, min_characters=4, max_characters=7)
    assert (left, found.counts["length"]) == (lines[1:2], 3)


def test_near_repeats_are_left_out_and_the_first_one_stays(tiny_teacher: Path, tmp_path: Path) -> None:
    long = "the committee rejected the budget because the figures for march were missing from the annual report"
    lines = [long, long.upper() + "!", long.replace("annual", "annua"), "another text about dogs", "!!!", "???"]
    left, found = chosen(lines, tmp_path, tiny_teacher, near_duplicates="normalised")
    assert (left, found.counts["near_duplicate"]) == ([long, *lines[2:]], 1)
    left, found = chosen(lines, tmp_path, tiny_teacher, near_duplicates="minhash")
    assert (left, found.counts["near_duplicate"]) == ([long, *lines[3:]], 2)


def test_near_texts_share_bands_about_as_often_as_the_formula_says() -> None:
    rng = np.random.default_rng(0)
    words = [f"{a}{b}" for a in "bcdfghjklm" for b in ("ako", "eli", "ibu")]
    near = far = 0
    for _ in range(100):
        text = rng.choice(words, 60).tolist()
        other, place = list(text), int(rng.integers(60))
        other[place] = "zzz"
        near += bool(set(bands(" ".join(text))) & set(bands(" ".join(other))))
        far += bool(set(bands(" ".join(text))) & set(bands(" ".join(rng.permutation(text)))))
    assert near >= 75
    assert far <= 15


def test_excluded_texts_and_those_that_share_eight_words_are_left_out(tiny_teacher: Path, tmp_path: Path) -> None:
    pair = {
        "text": "A man is playing a flute.",
        "text_pair": "one two three four five six seven eight nine",
        "score": 3,
    }
    (tmp_path / "test.jsonl").write_text(json.dumps(pair) + "\n", encoding="utf-8")
    (tmp_path / "more.txt").write_text("今天我们在城市里看书\n", encoding="utf-8")
    lines = [
        "a man is playing a FLUTE", "a man is playing a flute today", "zero two three four five six seven eight nine",
        "two three four five six seven eight", "我今天我们在城市里听", "今天我们在城市",
    ]  # fmt: skip
    files = (str(tmp_path / "test.jsonl"), str(tmp_path / "more.txt"))
    left, found = chosen(lines, tmp_path, tiny_teacher, exclude=files)
    assert left == [lines[1], lines[3], lines[5]]
    assert (found.counts["excluded"], found.counts["excluded_overlap"]) == (1, 2)
    before = content_of(files)
    (tmp_path / "more.txt").write_text("看书\n", encoding="utf-8")
    assert content_of(files) != before
    with pytest.raises(DataError, match="no such file"):
        chosen(lines, tmp_path, tiny_teacher, exclude=(str(tmp_path / "none.txt"),))


def test_what_was_left_out_is_told_in_the_lineage_without_folders(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    lines = corpus_file.read_text(encoding="utf-8").splitlines()
    (tmp_path / "eval.txt").write_text("\n".join(line.upper() for line in lines[:10]) + "\n", encoding="utf-8")
    out = tmp_path / "student"
    result = cli(*command(tiny_teacher, corpus_file, out, "--exclude", tmp_path / "eval.txt", "--epochs", "0.1"))
    assert result.code == 0, result.err
    lineage = Bundle.open(out).manifest.lineage
    assert lineage["corpus"]["left_out"]["excluded"] == 10
    assert lineage["recipe"]["data"]["exclude"] == ["eval.txt"]
    few = cli(*command(tiny_teacher, corpus_file, tmp_path / "few", "--min-tokens", "47"))
    assert few.code == 1
    assert "0 distinct sentences (400 were left out by the rules in [data]) are too few" in few.err


def test_limits_that_leave_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"data.min_tokens is 9 and data.max_tokens 8: no text is left"):
        override(Recipe(), "data", min_tokens=9, max_tokens=8)
    with pytest.raises(RecipeError, match=r"data.min_characters is 0; it must be"):
        override(Recipe(), "data", min_characters=0)
