"""What engines made of a model is kept, used again, and never believed when it is damaged."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgebert.bundle import Bundle, seal
from edgebert.compiled import Compiled
from edgebert.engines import Engine, open_engine

ENGINES = pytest.mark.parametrize("name", ["onnxruntime-int8", "openvino-int8"])
IDS = np.array([[2, 30, 31, 32, 3]])


def vectors(bundle: Path, name: str, **options: Any) -> Any:
    engine: Engine = open_engine(Bundle.open(bundle), name, **{"threads": 1, **options})
    found = engine.embed(IDS, np.ones_like(IDS))
    engine.close()
    return found


def kept(cache: Path) -> list[Path]:
    folder = cache / "compiled"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def largest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


@ENGINES
def test_it_is_made_once_and_gives_the_same_vectors(
    name: str, tiny_bundle: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBERT_COMPILED", "0")
    plain = vectors(tiny_bundle, name)
    assert kept(own_cache) == []
    monkeypatch.delenv("EDGEBERT_COMPILED")
    first = vectors(tiny_bundle, name)
    (folder,) = kept(own_cache)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = vectors(tiny_bundle, name)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    assert np.abs(first - plain).max() < 1e-5
    assert (again == first).all()


def test_other_layouts_of_openvino_are_other_models(tiny_bundle: Path, own_cache: Path) -> None:
    found = [vectors(tiny_bundle, "openvino-int8", threads=t, streams=s) for t, s in ((1, 1), (2, 1), (1, 2))]
    assert len(kept(own_cache)) == 3
    assert all(np.abs(one - found[0]).max() < 1e-4 for one in found)


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(255 - b for b in data[at : at + 64]) + data[at + 64 :]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda folder: largest(folder).write_bytes(b""),
    "noise": lambda folder: largest(folder).write_bytes(os.urandom(5000)),
    "half": lambda folder: os.truncate(largest(folder), largest(folder).stat().st_size // 2),
    "zeros": lambda folder: largest(folder).write_bytes(bytes(largest(folder).stat().st_size)),
    "one place": lambda folder: largest(folder).write_bytes(
        changed(largest(folder).read_bytes(), largest(folder).stat().st_size // 2)
    ),
    "no model": lambda folder: largest(folder).unlink(),
    "no facts": lambda folder: (folder / "facts.json").unlink(),
    "facts of nothing": lambda folder: (folder / "facts.json").write_text("{}"),
    "facts are a list": lambda folder: (folder / "facts.json").write_text("[1]"),
    "facts are deep": lambda folder: (folder / "facts.json").write_text("[" * 100_000),
    "facts are bytes": lambda folder: (folder / "facts.json").write_bytes(b"\xff\xfe"),
    "a file": lambda folder: (shutil.rmtree(folder), folder.write_text("x")),
}


@ENGINES
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_thrown_away_and_made_again(
    damage: str, name: str, tiny_bundle: Path, own_cache: Path
) -> None:
    wanted = vectors(tiny_bundle, name)
    (folder,) = kept(own_cache)
    DAMAGES[damage](folder)
    assert np.abs(vectors(tiny_bundle, name) - wanted).max() < 1e-5
    assert kept(own_cache) == [folder]
    assert folder.is_dir()
    before = largest(folder).stat().st_mtime_ns
    vectors(tiny_bundle, name)
    assert largest(folder).stat().st_mtime_ns == before


@ENGINES
def test_what_the_engine_cannot_read_though_it_is_whole_is_thrown_away(
    name: str, tiny_bundle: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one that another build of the same version made."""
    from edgebert.compiled import _facts

    wanted = vectors(tiny_bundle, name)
    (folder,) = kept(own_cache)
    model = next(path for path in folder.iterdir() if path.suffix in (".onnx", ".blob"))
    model.write_bytes(b"from elsewhere" * 100)
    facts = {path.name: _facts(path) for path in folder.iterdir() if path.name != "facts.json"}
    (folder / "facts.json").write_text(json.dumps(facts))
    assert np.abs(vectors(tiny_bundle, name) - wanted).max() < 1e-5
    assert "cannot be read and is made again" in caplog.text
    assert kept(own_cache) == []
    vectors(tiny_bundle, name)
    assert kept(own_cache) == [folder]


@ENGINES
def test_a_process_keeps_what_it_has_open_when_another_throws_it_away(
    name: str, tiny_bundle: Path, own_cache: Path
) -> None:
    engine = open_engine(Bundle.open(tiny_bundle), name, threads=1)
    wanted = engine.embed(IDS, np.ones_like(IDS))
    shutil.rmtree(own_cache / "compiled")
    assert (engine.embed(IDS, np.ones_like(IDS)) == wanted).all()
    engine.close()


@pytest.mark.parametrize("cache", ["below-a-file", "no-home", "full"])
@ENGINES
def test_without_a_place_it_is_made_at_each_load(
    name: str, cache: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    wanted = vectors(tiny_bundle, name)
    shutil.rmtree(own_cache)
    if cache == "below-a-file":
        (tmp_path / "file").write_text("x")
        monkeypatch.setenv("EDGEBERT_CACHE", str(tmp_path / "file" / "cache"))
    elif cache == "no-home":

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("EDGEBERT_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
    if cache != "full":
        with caplog.at_level(logging.INFO, "edgebert.compiled"):
            assert (vectors(tiny_bundle, name) == wanted).all()
        assert "is not kept" in caplog.text
        return
    code = f"""
import resource, signal
import numpy as np
from edgebert.bundle import Bundle
from edgebert.engines import open_engine
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
ids = np.array({IDS.tolist()})
print(open_engine(Bundle.open({str(tiny_bundle)!r}), {name!r}, threads=1).embed(ids, np.ones_like(ids)).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.abs(np.array(eval(done.stdout)) - wanted).max() < 1e-5
    assert kept(own_cache) == []


@ENGINES
def test_two_processes_that_make_it_at_once_both_work(name: str, tiny_bundle: Path, own_cache: Path) -> None:
    code = f"""
import numpy as np
from edgebert.bundle import Bundle
from edgebert.engines import open_engine
ids = np.array({IDS.tolist()})
print(open_engine(Bundle.open({str(tiny_bundle)!r}), {name!r}, threads=1).embed(ids, np.ones_like(ids)).tolist())
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0] == told[1]
    assert len(kept(own_cache)) == 1


def test_what_a_killed_process_left_is_cleared_away_after_a_day(tiny_bundle: Path, own_cache: Path) -> None:
    folder = own_cache / "compiled"
    for name, hours in ((".old.partial", 25), (".new.partial", 1)):
        (folder / name).mkdir(parents=True)
        (folder / name / "half").write_bytes(b"x")
        os.utime(folder / name, times=(time.time() - hours * 3600,) * 2)
    vectors(tiny_bundle, "onnxruntime-int8")
    assert [path.name for path in kept(own_cache) if path.name.startswith(".")] == [".new.partial"]


def test_two_names_for_one_artifact_are_one(copied_bundle: Path, own_cache: Path) -> None:
    import dataclasses

    manifest = Bundle.open(copied_bundle).manifest
    twice = {**manifest.artifacts, "openvino-again": manifest.artifacts["openvino-int8"]}
    seal(copied_bundle, dataclasses.replace(manifest, artifacts=twice))
    assert (vectors(copied_bundle, "openvino-int8") == vectors(copied_bundle, "openvino-again")).all()
    assert len(kept(own_cache)) == 1


@ENGINES
def test_where_no_thread_can_start_the_bytes_are_summed_without_one(
    name: str, tiny_bundle: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    wanted = vectors(tiny_bundle, name)
    (folder,) = kept(own_cache)
    monkeypatch.setattr(threading.Thread, "start", none)
    before = largest(folder).stat().st_mtime_ns
    assert (vectors(tiny_bundle, name) == wanted).all()
    assert largest(folder).stat().st_mtime_ns == before
    DAMAGES["one place"](folder)
    assert np.abs(vectors(tiny_bundle, name) - wanted).max() < 1e-5
    assert kept(own_cache) == [folder]


def test_a_fault_of_the_summing_is_no_trace_on_the_screen_and_the_model_is_made_again(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    seen: list[object] = []
    wanted = vectors(tiny_bundle, "openvino-int8")
    with monkeypatch.context() as patch:
        patch.setattr(threading, "excepthook", seen.append)
        patch.setattr("edgebert.compiled.json", SimpleNamespace(loads=full, dumps=json.dumps))
        assert np.abs(vectors(tiny_bundle, "openvino-int8") - wanted).max() < 1e-5
    assert seen == []


def test_what_is_not_in_the_manifest_is_not_kept(tiny_bundle: Path) -> None:
    import dataclasses

    bundle = Bundle.open(tiny_bundle)
    other = dataclasses.replace(bundle.manifest.artifacts["openvino-int8"], inputs=("x",))
    kept_so = Compiled(bundle, other, "how")
    assert kept_so.opened(lambda folder: folder, lambda folder: pytest.fail("it was made"), ()) is None


def test_an_interrupt_leaves_nothing_half_made(tiny_bundle: Path, own_cache: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise KeyboardInterrupt

    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(KeyboardInterrupt):
        Compiled(bundle, bundle.manifest.artifacts["openvino-int8"], "how").opened(lambda folder: folder, make, ())
    assert kept(own_cache) == []
