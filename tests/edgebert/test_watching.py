"""Hot reload: whole bundles are taken up, nothing else is, and no call is lost."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import sentences

import edgebert
from edgebert import watching
from edgebert.bundle import Bundle, seal
from edgebert.engines.static_ladder import StaticLadder
from edgebert.errors import BundleError, EngineError, RecipeError
from edgebert.package import pack
from edgebert.watching import Watched

TEXTS = sentences(6, seed=9)
KEPT = ("onnxruntime-fp32",)


def variant_of(bundle: Path, out: Path, prompt: str) -> Path:
    """A copy of `bundle` with a default prompt, by which its vectors are told apart."""
    shutil.copytree(bundle, out)
    manifest = Bundle.open(out).manifest
    seal(out, dataclasses.replace(manifest, prompts={"own": prompt}, default_prompt_name="own"))
    return out


def put(new: Path, place: Path) -> None:
    """Renames a copy of `new` to `place`, what lay there aside: as a deployment does it."""
    copy = place.with_name(f"{place.name}.new")
    shutil.copytree(new, copy)
    if place.exists():
        place.rename(place.with_name(f"{place.name}.old-{time.monotonic_ns()}"))
    copy.rename(place)


@pytest.fixture(scope="module")
def cats(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return variant_of(tiny_bundle, tmp_path_factory.mktemp("cats") / "bundle", "cat ")


@pytest.fixture(scope="module")
def dogs(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return variant_of(tiny_bundle, tmp_path_factory.mktemp("dogs") / "bundle", "dog ")


@pytest.fixture
def place(cats: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cats, tmp_path / "served"))


def watched(path: Path, *, interval: float | None = None) -> Watched:
    return edgebert.watch(path, engine="onnxruntime", precision="fp32", threads=1, interval=interval)


def is_by(handle: Watched, prompt: str) -> bool:
    return bool(np.allclose(handle.encode(TEXTS), handle.encode(TEXTS, prompt=prompt), atol=1e-6))


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_it_answers_as_an_encoder_does(place: Path) -> None:
    with watched(place) as handle, edgebert.load(place, engine="onnxruntime", precision="fp32", threads=1) as plain:
        wanted = plain.encode(TEXTS)
        assert np.allclose(handle.encode(TEXTS), wanted, atol=1e-6)
        assert np.allclose(asyncio.run(handle.aencode(TEXTS)), wanted, atol=1e-6)
        assert np.allclose(handle.encode_query(TEXTS), plain.encode_query(TEXTS), atol=1e-6)
        assert np.allclose(handle.encode_document(TEXTS), plain.encode_document(TEXTS), atol=1e-6)
        assert handle.similarity(wanted, wanted).shape == (6, 6)
        assert (handle.dimension, handle.max_length, handle.runs) == (64, 48, "onnxruntime fp32")
        assert (handle.prompts, handle.bundle.manifest) == (plain.prompts, plain.bundle.manifest)
        assert (handle.generation, handle.problem, handle.check()) == (1, "", False)
        assert repr(handle) == f"Watched({str(place)!r}, generation=1, problem='')"


def test_a_new_bundle_is_taken_up_at_the_second_look(place: Path, dogs: Path) -> None:
    with watched(place) as handle:
        put(dogs, place)
        assert not handle.check()
        assert is_by(handle, "cat ")
        assert handle.check()
        assert is_by(handle, "dog ")
        assert (handle.generation, handle.problem, handle.check()) == (2, "", False)


def test_a_link_that_is_switched_is_followed(cats: Path, dogs: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(cats, target_is_directory=True)
    with watched(link) as handle:
        (tmp_path / "next").symlink_to(dogs, target_is_directory=True)
        (tmp_path / "next").replace(link)
        assert [handle.check(), handle.check()] == [False, True]
        assert is_by(handle, "dog ")


def test_a_package_that_is_replaced_is_taken_up(cats: Path, dogs: Path, tmp_path: Path) -> None:
    package = tmp_path / "model.edgebert"
    pack(Bundle.open(cats), package)
    with watched(package) as handle:
        pack(Bundle.open(dogs), tmp_path / "new")
        (tmp_path / "new").replace(package)
        assert [handle.check(), handle.check()] == [False, True]
        assert is_by(handle, "dog ")
        package.write_bytes(package.read_bytes()[:5000])
        assert [handle.check(), handle.check()] == [False, False]
        assert "is not a whole EdgeBERT package" in handle.problem
        assert is_by(handle, "dog ")


def test_the_same_bundle_put_again_is_not_loaded_again(place: Path, cats: Path) -> None:
    with watched(place) as handle:
        put(cats, place)
        assert [handle.check() for _ in range(3)] == [False, False, False]
        assert (handle.generation, handle.problem) == (1, "")


def test_a_thread_looks_every_interval_and_ends_with_close(place: Path, dogs: Path) -> None:
    handle = watched(place, interval=0.05)
    put(dogs, place)
    wait_for(lambda: handle.generation == 2)
    assert is_by(handle, "dog ")
    assert [t.name for t in threading.enumerate()].count("edgebert-watch") == 1
    handle.close()
    handle.close()
    assert "edgebert-watch" not in [t.name for t in threading.enumerate()]
    for call in (lambda: handle.encode("x"), lambda: handle.bundle, handle.check):
        with pytest.raises(EngineError, match=f"this encoder of {place} is closed: watch the path again"):
            call()


def damaged(folder: Path) -> str:
    path = folder / "onnx" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return "onnx/model.onnx was changed"


def half_written(folder: Path) -> str:
    (folder / "onnx" / "model.onnx").write_bytes(b"")
    return "onnx/model.onnx has 0 bytes and must have"


def without_manifest(folder: Path) -> str:
    (folder / "edgebert.json").unlink()
    return "No such file or directory"


def without_the_artifact(folder: Path) -> str:
    manifest = Bundle.open(folder).manifest
    others = {name: artifact for name, artifact in manifest.artifacts.items() if name not in KEPT}
    seal(folder, dataclasses.replace(manifest, artifacts=others))
    return "has no artifact for onnxruntime-fp32"


def of_another_width(folder: Path) -> str:
    seal(folder, dataclasses.replace(Bundle.open(folder).manifest, dimension=32))
    return "gives vectors of width 32 and gave 64: they cannot be compared; watch another path"


def with_wrong_vectors(folder: Path) -> str:
    path = folder / "golden" / "vectors.npy"
    np.save(path, np.load(path)[::-1])
    seal(folder, Bundle.open(folder).manifest)
    return "nothing that was asked for works here"


def gone(folder: Path) -> str:
    shutil.rmtree(folder)
    return "No such file or directory"


@pytest.mark.parametrize(
    "fault", [damaged, half_written, without_manifest, without_the_artifact, of_another_width, with_wrong_vectors, gone]
)
def test_what_is_wrong_never_replaces_what_serves(
    fault: Callable[[Path], str], place: Path, dogs: Path, cats: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(place) as handle:
        put(dogs, place)
        says = fault(place)
        with caplog.at_level(logging.WARNING, logger="edgebert.watching"):
            assert [handle.check() for _ in range(4)] == [False] * 4
        assert says in handle.problem
        assert handle.problem.endswith("what was loaded before keeps serving")
        (record,) = [r for r in caplog.records if r.name == "edgebert.watching"]
        assert record.getMessage() == f"{place} is not taken up: {handle.problem}"
        assert (handle.generation, is_by(handle, "cat ")) == (1, True)
        put(dogs, place)
        assert [handle.check(), handle.check()] == [False, True]
        assert (handle.problem, is_by(handle, "dog ")) == ("", True)


def test_what_serves_is_whole_in_memory_when_its_folder_is_renamed(
    place: Path, dogs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBERT_TUNE", "0")
    with edgebert.watch(place, engine="onnxruntime", precision="fp32", threads=4, interval=None) as handle:
        assert len(handle._now().encoder.plan.layouts) == 2
        wanted = np.stack([handle.encode(text) for text in TEXTS])
        put(dogs, place)
        says = damaged(place)
        assert [handle.check(), handle.check()] == [False, False]
        assert says in handle.problem
        assert np.allclose(handle.encode(TEXTS * 40), np.tile(wanted, (40, 1)), atol=1e-5)


def test_a_ladder_that_serves_is_whole_in_memory(place: Path, dogs: Path) -> None:
    manifest = Bundle.open(place).manifest
    ladder = dataclasses.replace(manifest.artifacts[KEPT[0]], shapes="static")
    seal(place, dataclasses.replace(manifest, artifacts={KEPT[0]: ladder}))
    with watched(place) as handle:
        wanted = handle.encode(TEXTS)
        put(dogs, place)
        shutil.rmtree(place)
        opened = handle._now().encoder.opened
        assert isinstance(opened, StaticLadder)
        assert opened.compiled == opened.rungs
        assert np.allclose(handle.encode([*TEXTS, "dog " * 90])[:-1], wanted, atol=1e-5)


def test_a_damaged_copy_of_what_serves_is_a_problem_until_it_is_whole(place: Path, cats: Path) -> None:
    with watched(place) as handle:
        put(cats, place)
        says = damaged(place)
        assert [handle.check(), handle.check()] == [False, False]
        assert handle.problem == f"{place} is damaged: {says}; what was loaded before keeps serving"
        assert is_by(handle, "cat ")
        put(cats, place)
        assert [handle.check(), handle.check()] == [False, False]
        assert (handle.generation, handle.problem) == (1, "")


def test_a_problem_is_the_present_one(cats: Path, dogs: Path, tmp_path: Path) -> None:
    link, broken = tmp_path / "current", Path(shutil.copytree(dogs, tmp_path / "broken"))
    link.symlink_to(cats, target_is_directory=True)
    with watched(link) as handle:
        for target, says in (
            (broken, damaged(broken)), (tmp_path / "absent", "No such file or directory"),
            (link, "Too many levels of symbolic links"), (tmp_path / "absent", "No such file or directory"),
            (tmp_path / "none", "No such file or directory"), (cats, ""),
        ):  # fmt: skip
            (tmp_path / "next").symlink_to(target)
            (tmp_path / "next").replace(link)
            assert [handle.check(), handle.check()] == [False, False]
            assert says in handle.problem
            assert bool(says) == bool(handle.problem)
            assert is_by(handle, "cat ")


def test_a_fault_that_nobody_foresaw_is_told_and_the_looking_goes_on(
    place: Path, dogs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    genuine = watching.load_bundle

    def unforeseen(*_: object, **__: object) -> None:
        raise IndexError("list index out of range")

    with watched(place, interval=0.05) as handle:
        monkeypatch.setattr(watching, "load_bundle", unforeseen)
        put(dogs, place)
        wait_for(lambda: "IndexError: list index out of range; what was loaded before" in handle.problem)
        (record,) = [r for r in caplog.records if r.name == "edgebert.watching"]
        assert record.exc_info
        assert is_by(handle, "cat ")
        monkeypatch.setattr(watching, "load_bundle", genuine)
        put(dogs, place)
        wait_for(lambda: handle.generation == 2)
        assert (handle.problem, is_by(handle, "dog ")) == ("", True)


def test_a_bundle_that_changes_while_it_is_loaded_is_looked_at_again(
    place: Path, dogs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(place) as handle:
        put(dogs, place)
        check = Bundle.check

        def touched(bundle: Bundle) -> None:
            check(bundle)
            os.utime(place / "config.json", (1, 1))

        monkeypatch.setattr(Bundle, "check", touched)
        assert [handle.check(), handle.check()] == [False, False]
        monkeypatch.setattr(Bundle, "check", check)
        assert (handle.generation, is_by(handle, "cat ")) == (1, True)
        assert [handle.check(), handle.check()] == [False, True]


def test_a_call_ends_on_the_bundle_it_began_with_which_is_then_closed(
    place: Path, dogs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(place) as handle:
        wanted = handle.encode(TEXTS)
        old = handle._now().encoder
        begun, go, found = threading.Event(), threading.Event(), []
        rows = old._rows

        def held(texts: list[str]) -> list[list[int]]:
            begun.set()
            assert go.wait(30)
            return rows(texts)

        monkeypatch.setattr(old._runner, "_tokenize", held)
        caller = threading.Thread(target=lambda: found.append(handle.encode(TEXTS)))
        caller.start()
        assert begun.wait(30)
        put(dogs, place)
        assert [handle.check(), handle.check()] == [False, True]
        assert is_by(handle, "dog ")
        assert old._runner is not None
        go.set()
        caller.join(30)
        assert np.allclose(found[0], wanted, atol=1e-6)
        assert old._runner is None


def test_calls_from_many_threads_never_fail_while_bundles_change(cats: Path, dogs: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(cats, target_is_directory=True)
    with watched(link) as handle:
        right = [handle.encode(TEXTS, prompt=prompt) for prompt in ("cat ", "dog ")]
        stop, faults, calls = threading.Event(), [], []

        def call() -> None:
            while not stop.is_set():
                vectors = handle.encode(TEXTS)
                calls.append(1)
                if not any(np.allclose(vectors, wanted, atol=1e-5) for wanted in right):
                    faults.append(vectors)

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        for i in range(6):
            (tmp_path / "next").symlink_to((dogs, cats)[i % 2], target_is_directory=True)
            (tmp_path / "next").replace(link)
            assert [handle.check(), handle.check()] == [False, True]
        stop.set()
        for caller in callers:
            caller.join(30)
        assert (handle.generation, faults) == (7, [])
        assert len(calls) > 8


def test_it_ends_when_nobody_holds_it_any_more(place: Path) -> None:
    handle = watched(place, interval=0.02)
    thread = handle._thread
    assert thread is not None
    del handle
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), "2", True])
def test_an_interval_beyond_sense_is_refused(interval: object, place: Path) -> None:
    with pytest.raises(RecipeError, match=f"interval is {interval!r}; it must be seconds, more than 0"):
        edgebert.watch(place, interval=interval)  # type: ignore[arg-type]


def test_only_a_local_bundle_can_be_watched(tmp_path: Path, tiny_teacher: Path) -> None:
    with pytest.raises(BundleError, match="no such file or folder: some/model; only a local path can be watched"):
        edgebert.watch("some/model")
    for name, says in (("~nobody-of-that-name/x", "home directory"), ("x" * 5000, "File name too long")):
        with pytest.raises(BundleError, match=f"'{name[:200]}'? is no path: .*{says}") as caught:
            edgebert.watch(name)
        assert len(str(caught.value)) < 300
    with pytest.raises(RecipeError, match="threads is 0"):
        edgebert.watch(tiny_teacher, threads=0)
    with pytest.raises(BundleError, match="is no bundle: it has no edgebert.json"):
        edgebert.watch(tiny_teacher)


_RELOADING = """
import sys, pathlib, edgebert
link, cats, dogs = map(pathlib.Path, sys.argv[1:])
handle = edgebert.watch(link, engine="onnxruntime", precision="fp32", threads=1, interval=None)
print("ready", flush=True)
for i in range(1000):
    (link.parent / "next").symlink_to((dogs, cats)[i % 2])
    (link.parent / "next").replace(link)
    handle.check()
    assert handle.check()
"""


def test_being_killed_while_reloading_leaves_nothing_broken(
    cats: Path, dogs: Path, tmp_path: Path, own_cache: Path
) -> None:
    packages = [tmp_path / f"{folder.parent.name[:4]}.edgebert" for folder in (cats, dogs)]
    for folder, package in zip((cats, dogs), packages, strict=True):
        pack(Bundle.open(folder), package)
    link = tmp_path / "current"
    for i, pause in enumerate((0.0, 0.05, 0.15)):
        shutil.rmtree(own_cache / "packages", ignore_errors=True)  # so that unpacking is killed, too
        link.unlink(missing_ok=True)
        (tmp_path / "next").unlink(missing_ok=True)
        link.symlink_to(packages[i % 2])
        command = [sys.executable, "-c", _RELOADING, link, packages[i % 2], packages[(i + 1) % 2]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        with watched(link) as handle:
            assert handle.problem == ""
            assert is_by(handle, "cat ") or is_by(handle, "dog ")
            Bundle.open(handle.bundle.root).check()
