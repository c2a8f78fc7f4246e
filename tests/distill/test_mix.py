"""The mix of domains: at most so many of each source, the same ones in any order, and what is wrong with a mix."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result
from helpers import assert_refused

from edgebert.distill.corpus import open_corpus
from edgebert.distill.mix import Mix, mixed
from edgebert.errors import DataError

Cli = Callable[..., Result]
ROWS = [{"text": f"text {i} of {source}", "source": source} for i in range(60) for source in ("a", "b", "c")]


def written(rows: list[dict[str, str]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_each_source_gives_what_the_mix_says(tmp_path: Path) -> None:
    path = written(ROWS, tmp_path / "rows.jsonl")
    found = list(mixed([path], Mix({"a": 7, "b": 100}, "source")))
    assert Counter(text[-1] for text in found) == {"a": 7, "b": 60}
    corpus = open_corpus([path], mix=Mix({"a": 7, "b": 100}, "source"))
    assert [corpus[i] for i in range(len(corpus))] == found
    assert len(open_corpus([path])) == len(ROWS)  # another corpus, not the kept one


def test_the_seed_draws_and_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    path, turned = written(ROWS, tmp_path / "rows.jsonl"), written(ROWS[::-1], tmp_path / "turned.jsonl")
    first, again, other = (set(mixed([p], Mix({"a": 9}, "source", s))) for p, s in ((path, 0), (turned, 0), (path, 1)))
    assert first == again
    assert len(other) == 9
    assert other != first


def test_repeats_are_counted_once_and_nothing_is_nothing(tmp_path: Path) -> None:
    path = written([*ROWS, *ROWS], tmp_path / "rows.jsonl")
    assert len(set(mixed([path], Mix({"a": 9, "b": 0}, "source")))) == 9


def test_a_mix_needs_columns_and_sources_that_are_there(tmp_path: Path) -> None:
    path, lines = written(ROWS, tmp_path / "rows.jsonl"), tmp_path / "lines.txt"
    lines.write_text("one\ntwo\n", encoding="utf-8")
    for paths, mix, message in (
        ([lines], Mix({"a": 1}, "source"), f"{lines} has no column 'source': the mix in [data.mix] needs files with "
         "columns (JSONL, CSV, TSV or Parquet), not plain lines or standard input"),
        (["-"], Mix({"a": 1}, "source"), "- has no column 'source': the mix in [data.mix] needs files with "
         "columns (JSONL, CSV, TSV or Parquet), not plain lines or standard input"),
        ([path], Mix({"a": 1, "d": 1}, "source"), f"no row of {path} has 'd' in the column 'source'"),
        ([path], Mix({"a": 1}, "domain"), f"{path} has no column 'domain'; it has 'text', 'source'"),
    ):  # fmt: skip
        with pytest.raises(DataError) as refused:
            list(mixed(paths, mix))
        assert str(refused.value) == message


def test_a_recipe_with_a_mix(tiny_teacher: Path, tmp_path: Path, cli: Cli) -> None:
    path, recipe, out = written(ROWS, tmp_path / "rows.jsonl"), tmp_path / "recipe.toml", tmp_path / "student"
    recipe.write_text("[data.mix]\na = 20\nb = 30\n", encoding="utf-8")
    options = ["--recipe", recipe, "--epochs", 1, "--batch-size", 8]
    done = cli("distill", tiny_teacher, "--corpus", path, "-o", out, *options, "--take-layers", "0")
    assert done.code == 0, done.err
    corpus = json.loads((out / "edgebert.json").read_text(encoding="utf-8"))["lineage"]["corpus"]
    assert (corpus["read"], corpus["kept"]) == (50, 50)
    recipe.write_text("[data.mix]\na = -1\n", encoding="utf-8")
    refused = cli("distill", tiny_teacher, "--corpus", path, "-o", tmp_path / "x" / "s", "--recipe", recipe)
    assert_refused(refused, tmp_path / "x" / "s", "data.mix.a is -1; it must be a finite number of at least 0")
