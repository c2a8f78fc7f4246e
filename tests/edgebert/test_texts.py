"""Reading text files: every format, packed or not, standard input, and files that cannot be used."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgebert.errors import DataError, MissingExtraError
from edgebert.texts import read_rows, read_texts

TEXTS = ["one", 'two, "quoted"', "drei äöü 水", "four\u2028still four"]


def as_lines(texts: list[str]) -> bytes:
    return "\n".join(texts).encode() + b"\n"


def as_jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)).encode()


def as_csv(texts: list[str]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["id", "text"], *([i, text] for i, text in enumerate(texts))])
    return stream.getvalue().encode()


def as_tsv(texts: list[str]) -> bytes:
    return "".join(f"{a}\t{b}\n" for a, b in [("id", "text"), *((i, text) for i, text in enumerate(texts))]).encode()


def as_parquet(texts: list[str]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"id": list(range(len(texts))), "text": texts}), stream)
    return stream.getvalue()


FORMATS: dict[str, Callable[[list[str]], bytes]] = {
    "txt": as_lines, "jsonl": as_jsonl, "ndjson": as_jsonl, "csv": as_csv, "tsv": as_tsv, "parquet": as_parquet,
}  # fmt: skip


def stdin_of(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_texts(suffix: str, packed: bool, tmp_path: Path) -> None:
    data = FORMATS[suffix](TEXTS)
    path = tmp_path / f"texts.{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(read_texts([path])) == TEXTS


@pytest.mark.parametrize("suffix", [s for s in FORMATS if s != "txt"])
def test_rows_keep_every_column(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"texts.{suffix}"
    path.write_bytes(FORMATS[suffix](TEXTS))
    rows = list(read_rows(path))
    assert [row["text"] for row in rows] == TEXTS
    assert [int(row["id"]) for row in rows] == [0, 1, 2, 3]


def test_the_suffix_is_read_without_regard_to_case(tmp_path: Path) -> None:
    path = tmp_path / "TEXTS.JSONL"
    path.write_bytes(as_jsonl(TEXTS))
    assert list(read_texts([path])) == TEXTS


def test_several_files_follow_each_other(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(f"{name} 1\n{name} 2\n")
    found = list(read_texts([tmp_path / "b.txt", tmp_path / "a.txt"]))
    assert found == ["b.txt 1", "b.txt 2", "a.txt 1", "a.txt 2"]


def test_blank_lines_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("one\n\n  \ntwo")
    assert list(read_texts([path])) == ["one", "two"]
    assert list(read_texts([path], keep_blank=True)) == ["one", "", "  ", "two"]


def test_line_ends_of_windows_and_a_byte_order_mark_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert list(read_texts([path])) == ["one", "two"]


def test_a_byte_order_mark_does_not_hide_a_column(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\r\none,1\r\n")
    assert list(read_rows(path)) == [{"text": "one", "label": "1"}]


def test_a_csv_cell_may_hold_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text('text,label\n"one\ntwo",1\n\nthree,2\n')
    assert [row["text"] for row in read_rows(path)] == ["one\ntwo", "three"]


def test_a_quote_in_a_tsv_is_a_character_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text('text\tlabel\n"one\t1\n\ntwo"\t2\n\n')
    assert [row["text"] for row in read_rows(path)] == ['"one', 'two"']


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin_of(b"one\ntwo\n", monkeypatch)
    assert list(read_texts(["-"])) == ["one", "two"]


def test_standard_input_may_stand_between_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("file\n")
    stdin_of(b"piped\n", monkeypatch)
    assert list(read_texts([tmp_path / "a.txt", "-", tmp_path / "a.txt"])) == ["file", "piped", "file"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_the_column_can_be_chosen(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"texts.{suffix}"
    if suffix == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": ["wrong"], "body": ["right"]}), path)
    else:
        forms = {"jsonl": '{"text": "wrong", "body": "right"}\n', "csv": "text,body\nwrong,right\n"}
        path.write_text(forms.get(suffix, "text\tbody\nwrong\tright\n"))
    assert list(read_texts([path], column="body")) == ["right"]
    assert list(read_texts([path])) == ["wrong"]


def test_the_only_column_is_taken_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("sentence\none\ntwo\n")
    assert list(read_texts([path])) == ["one", "two"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_a_missing_column_is_named_with_those_there_are(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"texts.{suffix}"
    path.write_bytes(FORMATS[suffix](TEXTS))
    with pytest.raises(DataError, match=r"has no column 'body'; it has 'id', 'text'") as caught:
        list(read_texts([path], column="body"))
    assert str(path) in str(caught.value)


def test_without_a_text_column_one_of_several_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"no column 'text'; it has 'a', 'b'.*--column"):
        list(read_texts([path]))


@pytest.mark.parametrize("value", [7, None, ["x"], {"a": 1}])
def test_a_cell_that_is_no_text_names_its_row_and_value(value: object, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "fine"}\n' + json.dumps({"text": value}) + "\n")
    with pytest.raises(DataError) as caught:
        list(read_texts([path]))
    assert "row 2, column 'text'" in str(caught.value)
    assert repr(value) in str(caught.value)


def test_a_null_in_parquet_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    path.write_bytes(as_parquet(["fine", None]))  # type: ignore[list-item]
    with pytest.raises(DataError, match="row 2, column 'text' holds None"):
        list(read_texts([path]))


@pytest.mark.parametrize("packed", [False, True])
def test_an_encoding_error_names_file_and_line(packed: bool, tmp_path: Path) -> None:
    data = b"fine\nfine too\nk\xe4se\n"
    path = tmp_path / ("texts.txt.gz" if packed else "texts.txt")
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(DataError, match=r"line 3 is not UTF-8.*0xe4") as caught:
        list(read_texts([path]))
    assert str(path) in str(caught.value)


def test_the_texts_before_an_encoding_error_are_given(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"fine\nk\xe4se\n")
    texts = read_texts([path])
    assert next(texts) == "fine"
    with pytest.raises(DataError, match="line 2"):
        next(texts)


def test_a_binary_file_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "texts.bin"
    path.write_bytes(b"\x7fELF\x02\x00\x00\x00")
    with pytest.raises(DataError, match=r"texts.bin: line 1 holds NUL bytes: this is a binary file"):
        list(read_texts([path]))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file: .*absent.txt"):
        list(read_texts([tmp_path / "absent.txt"]))


def test_a_file_below_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"no such file: .*below.txt"):
        list(read_texts([tmp_path / "file" / "below.txt"]))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; a file is needed"):
        list(read_texts([tmp_path]))


@pytest.mark.parametrize("name", ["texts.txt.gz", "texts.jsonl.gz", "texts.parquet.gz"])
def test_a_cut_gzip_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    data = FORMATS[name.split(".")[1]]([f"text number {i}" for i in range(500)])
    path.write_bytes(gzip.compress(data)[:-20])
    with pytest.raises(DataError, match=f"{name} is not a whole"):
        list(read_texts([path]))


def test_a_file_that_only_is_called_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt.gz"
    path.write_text("plain\n")
    with pytest.raises(DataError, match=r"texts.txt.gz is not a whole gzip file"):
        list(read_texts([path]))


@pytest.mark.parametrize("line", ["not json", '{"text": "cut', "[" * 100_000, "1" * 5000 + "x"])
def test_a_line_that_is_not_json_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=r"texts.jsonl: line 2 is not JSON"):
        list(read_texts([path]))


def test_a_json_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('["one"]\n')
    with pytest.raises(DataError, match=r"line 1 is not a JSON object but '\[\"one\"\]'"):
        list(read_texts([path]))


@pytest.mark.parametrize(("suffix", "sep"), [("csv", ","), ("tsv", "\t")])
def test_a_row_with_too_many_cells_is_named(suffix: str, sep: str, tmp_path: Path) -> None:
    path = tmp_path / f"texts.{suffix}"
    path.write_text(f"text{sep}label\none{sep}1\none{sep}two{sep}2\n")
    with pytest.raises(DataError, match="row 2 has 3 cells and the header 2"):
        list(read_texts([path]))


def test_a_cell_beyond_the_limit_is_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text\n" + "x" * (csv.field_size_limit() + 1) + "\n")
    with pytest.raises(DataError, match="is not a CSV table"):
        list(read_texts([path]))


@pytest.mark.parametrize("place", [4, 41, 226])
def test_a_parquet_file_with_a_changed_byte_is_refused_in_one_line(place: int, tmp_path: Path) -> None:
    data = bytearray(as_parquet([f"text number {i}" for i in range(5000)]))
    data[place] ^= 0xFF
    path = tmp_path / "texts.parquet"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"texts.parquet is not a whole Parquet file: .") as caught:
        list(read_texts([path]))
    assert "\n" not in str(caught.value)


def test_text_that_is_called_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    path.write_text("one\ntwo\n")
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        list(read_texts([path]))


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "texts.parquet"
    path.write_bytes(as_parquet(TEXTS))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgebert\[parquet\]'"):
        list(read_texts([path]))


def test_plain_lines_have_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one\n")
    with pytest.raises(DataError, match="a file with columns is needed"):
        list(read_rows(path))


def test_an_endless_file_is_read_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "one,1\n" * 100_000 + "bad\n")
    texts = read_texts([path])
    assert [next(texts) for _ in range(3)] == ["one"] * 3
    texts.close()  # type: ignore[attr-defined]


def test_a_blank_line_of_a_one_column_table_is_a_blank_text(tmp_path: Path) -> None:
    for name in ("one.csv", "one.tsv"):
        (tmp_path / name).write_text("text\na\n\nb\n", encoding="utf-8")
        assert list(read_texts([tmp_path / name], keep_blank=True)) == ["a", "", "b"]


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "two.tsv").write_text("text\ttext\na\tb\n", encoding="utf-8")
    with pytest.raises(DataError, match="two.tsv: the header names a column twice"):
        list(read_texts([tmp_path / "two.tsv"]))


def test_the_column_of_the_first_row_holds_for_all(tmp_path: Path) -> None:
    (tmp_path / "mixed.jsonl").write_text('{"text": "a"}\n{"body": "b"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="mixed.jsonl has no column 'text'; it has 'body'"):
        list(read_texts([tmp_path / "mixed.jsonl"]))


def test_a_cell_of_a_million_characters_is_read(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("text,n\n" + "x" * 1_000_000 + ",1\n", encoding="utf-8")
    assert [len(text) for text in read_texts([tmp_path / "long.csv"])] == [1_000_000]
