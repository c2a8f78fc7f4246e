"""The training text: counting, cleaning, caching, standard input, and what cannot be used."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgebert.distill.corpus import Corpus, CorpusCounts, Seen, open_corpus, require_disk
from edgebert.errors import BudgetError, DataError

Usage = namedtuple("Usage", "total used free")
TICKS = itertools.count()


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a text what standard input gives next."""

    def give(text: str) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))

    return give


def leftovers(cache: Path) -> list[str]:
    """What lies in the corpora's folder of the cache."""
    return sorted(path.name for path in (cache / "corpora").glob("*"))


def test_blank_repeated_and_kept_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n  \t \ntwo\none\n  one \nt wo\nt  wo\n", encoding="utf-8")
    text = open_corpus([tmp_path / "a.txt"])
    assert text.counts == CorpusCounts(read=8, blank=2, duplicate=3, kept=3)
    assert [text[i] for i in range(len(text))] == ["one", "two", "t wo"]


def test_repeats_are_found_across_files_and_formats(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("猫は寝る\nCafé 😀\n", encoding="utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write('{"text": "Café 😀"}\n{"text": "new"}\n')
    text = open_corpus([tmp_path / "a.txt", tmp_path / "b.jsonl.gz"])
    assert text.counts == CorpusCounts(read=4, blank=0, duplicate=1, kept=3)
    assert [text[i] for i in range(3)] == ["猫は寝る", "Café 😀", "new"]


def test_the_same_files_are_read_once_and_changed_files_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n", encoding="utf-8")
    first = open_corpus([path])
    with monkeypatch.context() as patched:
        patched.setattr("edgebert.distill.corpus._write", lambda *_: pytest.fail("the files were read again"))
        assert open_corpus([path]).fingerprint == first.fingerprint
    path.write_text("one\nsix\n", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert open_corpus([path])[1] == "six"
    assert first[1] == "two"


def test_the_fingerprint_is_that_of_the_kept_lines_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("one\n\none\ntwo\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text("onet\nwo\n", encoding="utf-8")
    a, b, c = (open_corpus([tmp_path / name]).fingerprint for name in ("a.txt", "b.txt", "c.txt"))
    assert a == b
    assert a != c


@pytest.mark.parametrize("content", ["", "\n\n", " \n\t\n\r\n"])
def test_a_corpus_without_a_usable_line_is_refused_and_leaves_nothing(
    content: str, tmp_path: Path, own_cache: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content.encode())
    lines = content.count("\n")
    with pytest.raises(
        DataError, match=f"a.txt: no usable line: {lines} lines were read and {lines} of them are blank"
    ):
        open_corpus([path])
    assert leftovers(own_cache) == []


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file: .*nowhere.txt"):
        open_corpus([tmp_path / "nowhere.txt"])


def test_a_binary_file_is_no_corpus(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good line\n\x00\x01\x02")
    with pytest.raises(DataError, match="a.txt: line 2 holds NUL bytes: this is a binary file"):
        open_corpus([tmp_path / "a.txt"])
    (tmp_path / "b.txt").write_bytes(b"good line\n\xff\xfe\n")
    with pytest.raises(DataError, match="b.txt: line 2 is not UTF-8"):
        open_corpus([tmp_path / "b.txt"])
    assert leftovers(own_cache) == []


def test_a_wrong_column_is_named_with_the_known_ones(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,hello\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a.csv has no column 'title'; it has 'id', 'body': choose with --column"):
        open_corpus([tmp_path / "a.csv"], column="title")
    assert leftovers(own_cache) == []
    assert open_corpus([tmp_path / "a.csv"], column="body")[0] == "hello"
    assert open_corpus([tmp_path / "a.csv"], column="id")[0] == "1"


def test_two_texts_from_standard_input_do_not_disturb_each_other(stdin: Callable[[str], None], own_cache: Path) -> None:
    stdin("one\ntwo\n")
    first = open_corpus(["-"])
    stdin("three\n\nfour\nfive\n")
    second = open_corpus(["-"])
    assert [first[i] for i in range(len(first))] == ["one", "two"]
    assert [second[i] for i in range(len(second))] == ["three", "four", "five"]
    assert second.counts == CorpusCounts(read=4, blank=1, duplicate=0, kept=3)
    # both can still be opened by name, as a process that starts later does
    folders = [own_cache / "corpora" / name for name in leftovers(own_cache)]
    assert sorted(len(Corpus(folder)) for folder in folders) == [2, 3]


def test_the_same_text_from_standard_input_is_kept_once_and_counted_anew(
    stdin: Callable[[str], None], own_cache: Path
) -> None:
    stdin("one\ntwo\n")
    first = open_corpus(["-"])
    stdin("one\ntwo\n")
    assert open_corpus(["-"]).counts == first.counts
    assert len(leftovers(own_cache)) == 1
    stdin("one\none\ntwo\n")
    repeated = open_corpus(["-"])
    assert repeated.counts == CorpusCounts(read=3, blank=0, duplicate=1, kept=2)
    assert repeated.fingerprint == first.fingerprint


def test_an_empty_standard_input_is_refused_and_leaves_nothing(stdin: Callable[[str], None], own_cache: Path) -> None:
    stdin("")
    with pytest.raises(DataError, match="-: no usable line: 0 lines were read"):
        open_corpus(["-"])
    assert leftovers(own_cache) == []


def test_standard_input_and_a_file_make_one_corpus(stdin: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    stdin("two\none\n")
    assert open_corpus([tmp_path / "a.txt", "-"]).counts == CorpusCounts(read=3, blank=0, duplicate=1, kept=2)


def test_another_process_that_writes_the_same_corpus_first_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgebert.distill import corpus

    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n", encoding="utf-8")
    write = corpus._write

    def raced(folder: Path, lines: object, source: str) -> None:
        write(folder, ["one", "two"], source)
        monkeypatch.setattr(corpus, "_write", write)
        open_corpus([path])

    monkeypatch.setattr(corpus, "_write", raced)
    assert open_corpus([path]).counts.kept == 2


def test_a_disk_too_small_is_told_before_anything_is_read(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0123456789\n" * 1000, encoding="utf-8")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 11_000))
    with pytest.raises(BudgetError, match=r"the corpus needs 0.01 MB of disk in .*EDGEBERT_CACHE.*--max-sentences"):
        open_corpus([path])
    assert leftovers(own_cache) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 12_101))
    assert open_corpus([path]).counts.kept == 1


def test_a_packed_corpus_is_expected_to_unpack_to_five_times_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(1000).hex().encode()))
    size = path.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 5 * size))
    with pytest.raises(BudgetError, match="the corpus needs"):
        open_corpus([path])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 6 * size))
    assert open_corpus([path]).counts.kept == 1


def test_the_disk_of_a_folder_that_does_not_exist_is_that_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def usage(folder: Path) -> Usage:
        asked.append(folder)
        return Usage(0, 0, 10**9)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    require_disk(tmp_path / "not" / "yet", 10**8, "a test")
    assert asked == [tmp_path]
    with pytest.raises(BudgetError, match="a test needs 2000.00 MB of disk in .*, and 1000.00 MB are free"):
        require_disk(tmp_path, 2 * 10**9, "a test")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    keys=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 40), max_size=200),
    buffer=st.integers(1, 9),
)
def test_seen_tells_new_keys_like_a_set_does(keys: list[int], buffer: int) -> None:
    seen, known = Seen(buffer=buffer), set()
    for key in keys:
        assert seen.add(key) == (key not in known)
        known.add(key)
    assert [seen.add(key) for key in known] == [False] * len(known)


def test_seen_keeps_few_sorted_runs() -> None:
    seen = Seen(buffer=8)
    assert all(seen.add(key * 7919 % 100_003) for key in range(5000))
    assert not any(seen.add(key) for key in [0, 7919, 4999 * 7919 % 100_003])
    assert len(seen._runs) <= 10
    assert all((run[:-1] < run[1:]).all() for run in seen._runs)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.text(st.characters(exclude_characters="\n\0\ufeff", exclude_categories=["Cs"]), max_size=8)))
def test_the_corpus_holds_each_distinct_line_once_in_the_order_of_the_file(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    tick = next(TICKS)  # the cache's key is of name, size and time, and examples may have all three in common
    os.utime(path, ns=(tick, tick))
    kept = list(dict.fromkeys(clean for line in lines if (clean := " ".join(line.rstrip("\r").split()))))
    if not kept:
        with pytest.raises(DataError, match="no usable line"):
            open_corpus([path])
        return
    text = open_corpus([path])
    assert [text[i] for i in range(len(text))] == kept
    counts = text.counts
    assert counts.read == len(lines) == counts.blank + counts.duplicate + counts.kept
