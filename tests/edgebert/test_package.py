"""Packages: the same bytes every time, and opened safely whatever they hold."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgebert
from edgebert.bundle import Bundle
from edgebert.errors import BudgetError, BundleError
from edgebert.manifest import MANIFEST_NAME
from edgebert.package import pack, unpack
from edgebert.targets.build import build_package
from edgebert.verify import verify


@pytest.fixture(scope="session")
def package(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 files of the tiny bundle; do not change it."""
    out = tmp_path_factory.mktemp("package") / "tiny.edgebert"
    build_package(Bundle.open(tiny_bundle), out)
    return out


def rebuilt(package: Path, out: Path, change: Callable[[zipfile.ZipFile, str, bytes], object]) -> Path:
    """The package with what `change` writes for each of its entries."""
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(out, "w") as sink:
        for entry in source.infolist():
            change(sink, entry.filename, source.read(entry))
    return out


def added(package: Path, out: Path, name: str, data: bytes = b"x") -> Path:
    shutil.copyfile(package, out)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), data)
    return out


def refuses(path: Path, message: str, cache: Path) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        unpack(path)
    assert str(path) in str(caught.value) or "leads outside" in message or "is damaged" in message
    assert "\n" not in str(caught.value)
    assert list(cache.rglob("*.partial")) == []
    assert not (cache / "packages").exists() or list((cache / "packages").iterdir()) == []


def test_the_same_bundle_gives_the_same_bytes(package: Path, copied_bundle: Path, tmp_path: Path) -> None:
    os.utime(copied_bundle / "config.json", (1, 1))
    (copied_bundle / "config.json").chmod(0o600)
    build_package(Bundle.open(copied_bundle), tmp_path / "again.edgebert")
    assert (tmp_path / "again.edgebert").read_bytes() == package.read_bytes()


def test_the_manifest_comes_first_and_nothing_is_compressed(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    assert names[0] == MANIFEST_NAME
    assert names[1:] == sorted(names[1:])
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert "onnx/model_qint8.onnx" in names
    assert "model.safetensors" not in names
    assert "onnx/model.onnx" not in names


def test_a_package_unpacks_to_the_same_files_once(package: Path, own_cache: Path) -> None:
    folder = unpack(package)
    assert folder.parent == own_cache / "packages"
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            assert (folder / name).read_bytes() == archive.read(name)
    stamp = (folder / MANIFEST_NAME).stat().st_mtime_ns
    assert unpack(package) == folder
    assert (folder / MANIFEST_NAME).stat().st_mtime_ns == stamp
    assert list((own_cache / "packages").iterdir()) == [folder]


def test_packing_what_was_unpacked_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    pack(Bundle.open(unpack(package)), tmp_path / "again.edgebert")
    assert (tmp_path / "again.edgebert").read_bytes() == package.read_bytes()


def test_a_package_loads_and_gives_the_bundles_vectors(package: Path, tiny_bundle: Path) -> None:
    texts = ["the dog sleeps", "", "今天"]
    options = {"engine": "onnxruntime", "precision": "int8", "threads": 1}
    with edgebert.load(package, **options) as a, edgebert.load(tiny_bundle, **options) as b:  # type: ignore[arg-type]
        assert np.array_equal(a.encode(texts), b.encode(texts))
        assert a.bundle.source == str(package)


def test_a_package_is_verified_like_a_bundle(package: Path, cli: Callable[..., object]) -> None:
    report = verify(package, threads=1)
    assert report.ok
    assert [f.what for f in report.findings] == ["files", "tokenizer", "onnxruntime-int8", "openvino-int8"]
    assert report.source == str(package)
    result = cli("verify", package, "--threads", 1)
    assert result.code == 0
    assert "edgebert.load takes " in result.out


def test_an_existing_output_is_kept(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.edgebert"
    out.write_text("mine")
    with pytest.raises(BundleError, match="exists already"):
        pack(Bundle.open(tiny_bundle), out)
    assert out.read_text() == "mine"


def test_a_full_disk_leaves_nothing(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edgebert.package.shutil.copyfileobj", full)
    with pytest.raises(BudgetError, match=r"the disk is full while writing .*out.edgebert"):
        pack(Bundle.open(tiny_bundle), tmp_path / "out.edgebert")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_a_cut_package_is_refused(keep: float, package: Path, tmp_path: Path, own_cache: Path) -> None:
    data = package.read_bytes()
    count = int(len(data) * keep) if isinstance(keep, float) else keep
    (tmp_path / "cut.edgebert").write_bytes(data[:count])
    refuses(tmp_path / "cut.edgebert", "is not a whole EdgeBERT package", own_cache)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_changed_byte_is_refused(place: float, package: Path, tmp_path: Path, own_cache: Path) -> None:
    data = bytearray(package.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    (tmp_path / "changed.edgebert").write_bytes(data)
    refuses(tmp_path / "changed.edgebert", "is not a whole EdgeBERT package: Bad CRC-32", own_cache)


def test_a_changed_byte_of_the_directory_is_refused(package: Path, tmp_path: Path, own_cache: Path) -> None:
    data = bytearray(package.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    path = tmp_path / "changed.edgebert"
    for offset in range(at, len(data)):
        changed = bytearray(data)
        changed[offset] ^= 0xFF
        path.write_bytes(changed)
        try:
            folder = unpack(path)
        except BundleError as problem:
            assert "\n" not in str(problem)
        else:  # a byte that does not matter, such as the time
            Bundle.open(folder).check()
            shutil.rmtree(folder)
    assert list((own_cache / "packages").iterdir()) == []


def test_a_changed_file_with_a_right_checksum_is_refused(package: Path, tmp_path: Path, own_cache: Path) -> None:
    def change(sink: zipfile.ZipFile, name: str, data: bytes) -> None:
        sink.writestr(name, data.replace(b"bert", b"trap") if name == "config.json" else data)

    path = rebuilt(package, tmp_path / "changed.edgebert", change)
    refuses(path, "is damaged: config.json was changed", own_cache)


def test_an_extra_file_is_refused(package: Path, tmp_path: Path, own_cache: Path) -> None:
    refuses(added(package, tmp_path / "a.edgebert", "run.py"), "is damaged: run.py is extra", own_cache)


@pytest.mark.parametrize(
    "name", ["../escaped", "/tmp/escaped-from-package", "a/../../escaped", "..\\escaped", "C:/escaped"]
)
def test_a_name_that_leads_outside_is_refused(name: str, package: Path, tmp_path: Path, own_cache: Path) -> None:
    path = added(package, tmp_path / "bad.edgebert", name)
    refuses(path, "leads outside the bundle", own_cache)
    assert not list(tmp_path.rglob("*escaped*"))
    assert not list(own_cache.rglob("*escaped*"))
    assert not Path("/tmp/escaped-from-package").exists()


def test_a_name_that_is_a_file_and_a_folder_is_refused(package: Path, tmp_path: Path, own_cache: Path) -> None:
    path = added(package, tmp_path / "bad.edgebert", "config.json/inside")
    refuses(path, "cannot be unpacked: .*File exists|cannot be unpacked: .*Not a directory", own_cache)


def test_a_folder_entry_is_refused(package: Path, tmp_path: Path, own_cache: Path) -> None:
    refuses(added(package, tmp_path / "bad.edgebert", "folder/", b""), "'folder/' is not a stored file", own_cache)


def test_a_name_that_comes_twice_is_refused(package: Path, tmp_path: Path, own_cache: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = added(package, tmp_path / "bad.edgebert", "config.json")
    refuses(path, "it holds a name twice", own_cache)


def test_a_compressed_package_is_refused(package: Path, tmp_path: Path, own_cache: Path) -> None:
    def squeeze(sink: zipfile.ZipFile, name: str, data: bytes) -> None:
        sink.writestr(name, data, compress_type=zipfile.ZIP_DEFLATED)

    refuses(rebuilt(package, tmp_path / "bad.edgebert", squeeze), f"'{MANIFEST_NAME}' is not a stored file", own_cache)


def test_an_encrypted_entry_is_refused(package: Path, tmp_path: Path, own_cache: Path) -> None:
    data = bytearray(package.read_bytes())
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "bad.edgebert").write_bytes(data)
    refuses(tmp_path / "bad.edgebert", "is not a stored file", own_cache)


def test_another_zip_archive_is_no_package(tmp_path: Path, own_cache: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.edgebert", "w") as archive:
        archive.writestr("readme.txt", "x")
    refuses(tmp_path / "other.edgebert", f"it does not begin with {MANIFEST_NAME}", own_cache)


def test_an_archive_of_nothing_is_no_package(tmp_path: Path, own_cache: Path) -> None:
    zipfile.ZipFile(tmp_path / "empty.edgebert", "w").close()
    refuses(tmp_path / "empty.edgebert", f"it does not begin with {MANIFEST_NAME}", own_cache)


@pytest.mark.parametrize("command", ["verify", "embed", "export"])
def test_the_command_line_refuses_what_is_no_package(
    command: str, corpus_file: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    out = tmp_path / "out.npy"
    more = {"verify": [], "embed": ["--text", "x"], "export": ["-o", out]}[command]
    refused(command, corpus_file, *more, says=f"{corpus_file} is not a whole EdgeBERT package", out=out)
    missing = tmp_path / "absent.edgebert"
    refused(command, missing, *more, says=f"no such file or folder: {missing}", out=out)


def forbid(monkeypatch: pytest.MonkeyPatch, below: Path, number: int) -> None:
    """Makes `below` a folder that cannot be written, as a read-only disk would."""
    genuine_mkdtemp, genuine_mkdir = tempfile.mkdtemp, Path.mkdir

    def mkdtemp(*args: object, **kwargs: object) -> str:
        if str(kwargs.get("dir", "")).startswith(str(below)):
            raise OSError(number, os.strerror(number))
        return genuine_mkdtemp(*args, **kwargs)  # type: ignore[call-overload, no-any-return]

    def mkdir(self: Path, *args: object, **kwargs: object) -> None:
        if str(self).startswith(str(below)) and not self.exists():
            raise OSError(number, os.strerror(number))
        genuine_mkdir(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(Path, "mkdir", mkdir)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("there", [False, True])
def test_without_a_writable_cache_it_is_unpacked_elsewhere(
    number: int, there: bool, package: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:
        (own_cache / "packages").mkdir()
    forbid(monkeypatch, own_cache, number)
    folder = unpack(package)
    try:
        assert own_cache not in folder.parents
        Bundle.open(folder).check()
    finally:
        shutil.rmtree(folder)
    assert list(own_cache.rglob("*")) == ([own_cache / "packages"] if there else [])


def test_a_cache_below_a_file_is_none(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        monkeypatch.setenv("EDGEBERT_CACHE", str(place))
        with edgebert.load(package, engine="onnxruntime", threads=1) as encoder:
            assert tmp_path not in encoder.bundle.root.parents
            assert encoder.encode("x").shape == (64,)


def test_a_damaged_package_is_refused_without_a_cache_too(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("EDGEBERT_CACHE", str(tmp_path / "file"))
    with pytest.raises(BundleError, match=r"run.py is extra"):
        unpack(added(package, tmp_path / "a.edgebert", "run.py"))
    (tmp_path / "cut.edgebert").write_bytes(package.read_bytes()[:1000])
    with pytest.raises(BundleError, match="is not a whole EdgeBERT package"):
        unpack(tmp_path / "cut.edgebert")


def test_a_package_whose_unpacked_copy_lost_a_file_is_unpacked_again(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.edgebert"
    pack(Bundle.open(tiny_bundle), path)
    folder = unpack(path)
    (folder / "config.json").unlink()
    assert (unpack(path) / "config.json").is_file()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["onnx/model_qint8.onnx", "config.json", MANIFEST_NAME])
def test_a_package_whose_unpacked_copy_was_changed_is_unpacked_again(name: str, package: Path) -> None:
    folder = unpack(package)
    flip(folder / name)
    assert unpack(package) == folder
    Bundle.open(folder).check()
    with edgebert.load(package, engine="onnxruntime", threads=1) as encoder:
        assert encoder.encode("x").shape == (64,)


@pytest.mark.parametrize("times", [None, b"[", b"[1, 2]", b"\xff"])
def test_an_unpacked_copy_whose_times_are_not_known_is_hashed_once_and_kept(
    times: bytes | None, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hashed, check = unpack(package), list[Path](), Bundle.check
    monkeypatch.setattr(Bundle, "check", lambda bundle: (hashed.append(bundle.root), check(bundle))[1])
    unpack(package)
    assert hashed == []
    (folder / ".times.json").unlink() if times is None else (folder / ".times.json").write_bytes(times)
    stamp = (folder / MANIFEST_NAME).stat().st_mtime_ns
    for _ in range(2):
        assert unpack(package) == folder
    assert hashed == [folder]
    assert (folder / MANIFEST_NAME).stat().st_mtime_ns == stamp
