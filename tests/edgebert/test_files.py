"""Writing whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from edgebert.errors import BudgetError, BundleError, EdgeBertError
from edgebert.files import _umask, new_file, new_folder, refuse_existing, sha256


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def forbidden(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as partial:
        (partial / "a").write_text("x")
        assert partial.parent == out.parent
        assert not out.exists()
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert (out / "a").read_text() == "x"
    assert out.stat().st_mode & 0o777 == 0o777 & ~umask()


def test_what_can_be_run_in_a_folder_stays_so_and_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch(mode=0o600)
    with new_folder(tmp_path / "out") as partial:
        (partial / "program").touch(mode=0o700)
        (partial / "text").touch(mode=0o600)
        (partial / "link").symlink_to(other)
        (partial / "broken").symlink_to("nowhere")
    modes = {p.name: p.lstat().st_mode & 0o777 for p in (tmp_path / "out").iterdir() if not p.is_symlink()}
    assert modes == {"program": 0o777 & ~umask(), "text": 0o666 & ~umask()}
    assert other.stat().st_mode & 0o777 == 0o600


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out.txt"
    with new_file(out) as partial:
        partial.write_text("x")
        assert not out.exists()
    assert [p.name for p in out.parent.iterdir()] == ["out.txt"]
    assert out.read_text() == "x"
    assert out.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the umask without setting it")
def test_the_umask_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask of the whole process was set"))
            with new_file(tmp_path / "a") as file, new_folder(tmp_path / "b"):
                file.write_text("x")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o640, 0o750]


@pytest.mark.parametrize("told", [None, "Name:\tpython\n", "Umask:\n", "Umask:\tx\n"])
def test_where_the_system_does_not_tell_threads_leave_the_umask_as_it_is(
    told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, wanted, interval = Path.read_text, umask(), sys.getswitchinterval()

    def read_text(self: Path, *args: Any, **more: Any) -> str:
        if str(self) != "/proc/self/status":
            return genuine(self, *args, **more)
        if told is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(self))
        return told

    monkeypatch.setattr(Path, "read_text", read_text)
    found: set[int] = set()
    threads = [threading.Thread(target=lambda: found.update(_umask() for _ in range(2000))) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        left = os.umask(wanted)
    assert (found, left) == ({wanted}, wanted)


@pytest.mark.parametrize("make", [new_file, new_folder])
@pytest.mark.parametrize("problem", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), BundleError("x")])
def test_nothing_is_left_when_the_block_fails(make: Any, problem: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(problem)), make(tmp_path / "out") as partial:
        (partial / "a" if partial.is_dir() else partial).write_text("half")
        raise problem
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_while_a_folder_is_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(BudgetError, match=f"the disk is full while writing {out}: free some space; nothing was"), \
            new_folder(out) as partial:  # fmt: skip
        (partial / "first").write_text("fits")
        monkeypatch.setattr(Path, "write_text", full)
        (partial / "second").write_text("does not")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_while_a_file_is_written_leaves_nothing(tmp_path: Path) -> None:
    class FullDisk(io.FileIO):
        def write(self, data: Any) -> int:
            return int(full())

    out = tmp_path / "out.bin"
    with pytest.raises(BudgetError, match="the disk is full while writing"), new_file(out) as partial, \
            FullDisk(partial, "w") as stream:  # fmt: skip
        stream.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_already_is_the_same_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", full)
    monkeypatch.setattr("tempfile.mkdtemp", full)
    for make in (new_file, new_folder):
        with pytest.raises(BudgetError, match="the disk is full"), make(tmp_path / "out"):
            pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []


def test_a_spent_quota_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="the disk is full"), new_file(tmp_path / "out"):
        forbidden(errno.EDQUOT)()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
@pytest.mark.parametrize("make", [new_file, new_folder])
def test_a_forbidden_folder_is_one_clear_error(
    make: Any, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkstemp", forbidden(number))
    monkeypatch.setattr("tempfile.mkdtemp", forbidden(number))
    out = tmp_path / "out"
    with pytest.raises(EdgeBertError, match=f"cannot write {out}: {os.strerror(number)}"), make(out):
        pytest.fail("the block must not run")


def test_another_fault_of_the_system_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"), new_file(tmp_path / "out"):
        forbidden(errno.EIO)()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [new_file, new_folder])
@pytest.mark.parametrize("place", ["file/out", "file/deep/out"])
def test_a_place_below_a_file_is_one_clear_error(make: Any, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EdgeBertError, match=f"cannot write {tmp_path / place}"), make(tmp_path / place):
        pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("make", [new_file, new_folder])
def test_an_existing_output_is_refused_and_kept(make: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(BundleError, match=f"the output {out} exists already: choose another name"), make(out):
        pytest.fail("the block must not run")
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_and_a_dead_link_exist_too(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "link"):
        with pytest.raises(BundleError, match="exists already"):
            refuse_existing(tmp_path / name)
    refuse_existing(tmp_path / "free")


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BundleError, match="exists already"), new_folder(out) as partial:
        (partial / "a").write_text("ours")
        out.mkdir()
        (out / "b").write_text("theirs")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (out / "b").read_text() == "theirs"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BundleError, match="exists already"), new_file(out) as partial:
        partial.write_text("ours")
        out.write_text("theirs")
    assert out.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [out]


def test_replacing_is_possible_where_it_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("old")
    with new_file(out, replace=True) as partial:
        partial.write_text("new")
        assert out.read_text() == "old"
    assert out.read_text() == "new"
    with pytest.raises(ValueError, match="x"), new_file(out, replace=True) as partial:
        raise ValueError("x")
    assert out.read_text() == "new"
