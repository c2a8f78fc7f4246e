"""A forked child encodes by itself: with both engines, while threads compute, after the bundle was changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

ENGINES = ["onnxruntime", "openvino"]

# Of every test's process: `encoder`, `wanted`, and `forked(work)`, which gives the child's exit code within 60 s.
_BEGIN = """
import asyncio, os, pathlib, shutil, signal, sys, threading, time
import numpy as np
import edgebert
from edgebert.errors import EngineError
path, engine = sys.argv[1:]
encoder = edgebert.load(path, engine=engine, precision="fp32", threads=2)
texts = ["the dog runs " * (1 + i % 4) for i in range(40)]
wanted = encoder.encode(texts)

def same():
    return np.allclose(encoder.encode(texts), wanted, atol=1e-5)

def forked(work):
    child = os.fork()
    if not child:
        signal.alarm(60)  # a child that hangs is killed
        try:
            work()
            code = 0
        except BaseException as problem:
            print("child:", repr(problem), file=sys.stderr)
            code = 3
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

_ENCODES = """
def work():
    assert same() and same()
    assert asyncio.run(encoder.aencode("x")).shape == (64,)
    encoder.close()
    try:
        encoder.encode("x")
    except EngineError as problem:
        assert "closed" in str(problem)
    else:
        raise AssertionError("it is open")
asyncio.run(encoder.aencode("x"))
assert [forked(work) for _ in range(3)] == [0, 0, 0]
assert same()
"""

_GRANDCHILD = """
def inner():
    assert same()
def outer():
    assert same()
    assert forked(inner) == 0
    assert same()
assert forked(outer) == 0
"""

_UNUSED_CHILD = """
assert forked(encoder.close) == 0  # without ever using it
assert same()
"""

_BUSY = """
stop = threading.Event()
def call(i):
    while not stop.is_set():
        encoder.encode(["the cat sleeps " * (1 + i)] * 4)
callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
[caller.start() for caller in callers]
def work():
    assert same()
codes = []
for i in range(6):
    time.sleep(0.02)
    codes.append(forked(work))
stop.set()
[caller.join() for caller in callers]
assert codes == [0] * 6, codes
assert same()
"""

# As gunicorn's workers end: through the interpreter, with everything torn down.
_ENDS = """
child = os.fork()
if not child:
    signal.alarm(60)
    assert same()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert same()
"""

_POOL = """
import multiprocessing
def length(text):
    return float(np.linalg.norm(encoder.encode(text)))
with multiprocessing.get_context("fork").Pool(2) as pool:
    lengths = pool.map_async(length, texts).get(timeout=60)
assert np.allclose(lengths, 1, atol=1e-5)
"""

_REPLACED = """
def says(part):
    def work():
        try:
            encoder.encode("x")
        except EngineError as problem:
            assert "this process was forked and must open" in str(problem) and part in str(problem), problem
        else:
            raise AssertionError("no error")
    return work
for file in [*pathlib.Path(path).glob("onnx/*"), *pathlib.Path(path).glob("openvino/*")]:
    data = file.read_bytes()
    file.write_bytes(data[:-8] + bytes(8 * [7]))
assert forked(says("was changed since the parent loaded it: load the model in the child")) == 0
assert same()
shutil.rmtree(path)
assert forked(says("cannot be read (No such file or directory)")) == 0
assert same()
"""

_WATCHED = """
handle = edgebert.watch(path, engine=engine, precision="fp32", threads=1, interval=0.05)
def work():
    assert np.allclose(handle.encode(texts), wanted, atol=1e-5)
    assert "edgebert-watch" in [t.name for t in threading.enumerate()]
    manifest = pathlib.Path(path, "edgebert.json")
    manifest.write_bytes(manifest.read_bytes() + b" ")
    deadline = time.monotonic() + 30
    while handle.generation == 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert handle.generation == 2
    assert np.allclose(handle.encode(texts), wanted, atol=1e-5)
    handle.close()
assert forked(work) == 0
"""

# What is found out once about a bundle and its manifest, while a thread is at it.
_FINDING_OUT = """
from edgebert.bundle import Bundle
from edgebert import manifest
times, written, begun = Bundle.times, manifest.manifest_bytes, threading.Barrier(3)
def slow(genuine):
    def found(of):
        if threading.current_thread() is not threading.main_thread():
            begun.wait()
            time.sleep(1)
        return genuine(of)
    return found
Bundle.times, manifest.manifest_bytes = slow(times), slow(written)
bundle = Bundle.open(path)
askers = [threading.Thread(target=getattr, args=one) for one in ((bundle, "touched"), (bundle.manifest, "identity"))]
[asker.start() for asker in askers]
begun.wait()
def work():
    signal.alarm(10)
    other = Bundle.open(path)
    assert other.touched == times(other) and len(other.manifest.identity) == 64
assert forked(work) == 0
[asker.join() for asker in askers]
assert bundle.touched is bundle.touched and bundle.manifest.identity is bundle.manifest.identity
"""

# A rung is being made in another thread, which holds the ladder's lock.
_LADDER = """
from edgebert.engines.static_ladder import StaticLadder
making = threading.Event()
class Rung:
    def __init__(self, width):
        if width == 32:
            making.set()
            time.sleep(1)
        self.width = width
    def embed(self, ids, mask):
        return np.full((1, 1), self.width)
ladder = StaticLadder("toy", "fp32", Rung, max_length=64, pad_token_id=0)
maker = threading.Thread(target=ladder.embed, args=(np.ones((1, 20), int), np.ones((1, 20), int)))
maker.start()
making.wait()
def work():
    signal.alarm(10)
    assert ladder.embed(np.ones((1, 40), int), np.ones((1, 40), int)) == [[64]]
assert forked(work) == 0
maker.join()
assert ladder.compiled == (16, 32)
"""

_SCENES = {
    "encodes": _ENCODES, "a grandchild": _GRANDCHILD, "a child that only closes": _UNUSED_CHILD,
    "threads at work": _BUSY,
    "ends by sys.exit": _ENDS, "a pool": _POOL, "the bundle changed": _REPLACED, "a watched path": _WATCHED,
    "a thread finds out": _FINDING_OUT, "a ladder": _LADDER,
}  # fmt: skip


def run(code: str, bundle: Path, engine: str, **environment: str) -> None:
    """Runs `code` in a process of its own, which may print nothing and must end well."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + code, str(bundle), engine], capture_output=True, text=True, timeout=200,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scene", _SCENES)
def test_a_forked_process_encodes(scene: str, engine: str, copied_bundle: Path) -> None:
    run(_SCENES[scene], copied_bundle, engine)


@pytest.mark.parametrize("stated", ["true", "false"])
def test_what_is_stated_about_tokenizers_threads_stands_in_the_parent(stated: str, copied_bundle: Path) -> None:
    more = f"\nassert os.environ['TOKENIZERS_PARALLELISM'] == {stated!r}"
    run(_ENCODES + more, copied_bundle, "onnxruntime", TOKENIZERS_PARALLELISM=stated)


def test_nothing_is_stated_about_tokenizers_threads_by_a_fork(copied_bundle: Path) -> None:
    run(_ENCODES + "\nassert 'TOKENIZERS_PARALLELISM' not in os.environ", copied_bundle, "onnxruntime")


def test_nothing_is_stated_by_forks_of_several_threads_at_once(copied_bundle: Path) -> None:
    at_once = """
def fork():
    for _ in range(10):
        assert forked(lambda: None) == 0

threads = [threading.Thread(target=fork) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert 'TOKENIZERS_PARALLELISM' not in os.environ
"""
    run(at_once, copied_bundle, "onnxruntime")
