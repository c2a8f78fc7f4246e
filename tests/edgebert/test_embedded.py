"""In another program: silent, without network, home or working folder; unharmed by faults, and without leaks."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import sentences
from tools import missing_tool

import edgebert
from edgebert.embedder import Embedder
from edgebert.errors import EngineError
from edgebert.vectors import row_cosines

ENGINES = ["onnxruntime", "openvino"]
TEXTS = sentences(8, seed=3)
NAUGHTY = [
    "", " ", "\t\r\n", "\0", "\0" * 500, "\ud800", "a\udfffb", "\ufeff", "\u202eabc\u202c", "\u200d\u200b",
    "e\u0301" * 40, "Z\u0361\u035c" * 60, "👩‍👩‍👧‍👦" * 20, "\U0010ffff", "\uffff", "[CLS] [SEP] [MASK] [PAD]",
    "##a ##b", "%s%n{}${x}",
    "'; DROP TABLE users; --", "今天" * 100, "a" * 5000, "the " * 3000, "﷽" * 30, "１２３", "ﬁ ß İ ı",
    "\x1b[31m", "-1e309",
]  # fmt: skip

_USE = """
import os, sys, socket, logging
def never(*a, **k): raise AssertionError("the network was used")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = never
path, engine = sys.argv[1:]
import edgebert
for precision in ("fp32", "int8"):
    with edgebert.load(path, engine=engine, precision=precision) as encoder:
        assert encoder.encode(["the dog", "a cat " * 100]).shape == (2, 64)
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1" and "openvino_telemetry" not in sys.modules
assert not logging.getLogger("edgebert").handlers and not logging.getLogger().handlers
"""


def use(bundle: Path, engine: str, *, drop: tuple[str, ...] = (), before: str = "", **environment: str) -> None:
    """Loads, encodes and closes in a process of its own, where nothing may be printed and no address be looked up."""
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    done = subprocess.run(
        [sys.executable, "-c", before + _USE, str(bundle), engine], capture_output=True, text=True, timeout=120,
        env={**kept, **environment}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_it_prints_nothing_and_never_calls_home(engine: str, tiny_bundle: Path) -> None:
    use(tiny_bundle, engine, drop=("HF_HUB_OFFLINE",))


@pytest.mark.parametrize("engine", ENGINES)
def test_it_needs_no_home_folder(engine: str, tiny_bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    use(tiny_bundle, engine, drop=("EDGEBERT_CACHE", "XDG_CACHE_HOME", "HF_HOME"), HOME=str(home))
    assert home.read_text() == "a file"


@pytest.mark.skipif(sys.platform == "win32", reason="a working folder cannot be removed there")
@pytest.mark.parametrize("engine", ENGINES)
def test_it_needs_no_working_folder(engine: str, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    # Python itself cannot import OpenVINO there: that is done before.
    before = f"from edgebert.engines.quiet import quiet_import; quiet_import({engine!r})\n"
    before += f"import os; os.chdir({str(folder)!r}); os.rmdir({str(folder)!r})\n"
    use(tiny_bundle, engine, before=before, PYTHONPATH=str(Path(edgebert.__file__).parent.parent))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_library_underneath_calls_home_either(engine: str, tiny_bundle: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        missing_tool("strace is not installed: apt-get install strace")
    log = tmp_path / "calls"
    trace = ["strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(log)]
    code = _USE + "import time; time.sleep(1)"
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "HF_HUB_OFFLINE")}
    subprocess.run([*trace, sys.executable, "-c", code, str(tiny_bundle), engine], env=kept, check=True, timeout=120)
    assert [line for line in log.read_text().splitlines() if "AF_INET" in line] == []


def test_nothing_is_written_into_the_bundle(copied_bundle: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copied_bundle.rglob("*")}
    for engine in ENGINES:
        use(copied_bundle, engine)
    assert {p: p.stat().st_mtime_ns for p in copied_bundle.rglob("*")} == before


def garbage(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(bytes(path.stat().st_size))


def cut_short(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(64)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("fault", [garbage, cut_short, Path.unlink])
def test_files_written_over_while_loaded_change_nothing(
    fault: Callable[[Path], None], precision: str, engine: str, copied_bundle: Path
) -> None:
    with edgebert.load(copied_bundle, engine=engine, precision=precision, threads=1) as encoder:
        wanted = encoder.encode(TEXTS)
        for path in [
            *copied_bundle.glob("onnx/*"),
            *copied_bundle.glob("openvino/*"),
            copied_bundle / "tokenizer.json",
        ]:
            fault(path)
        assert np.allclose(encoder.encode(TEXTS), wanted, atol=1e-6)
        assert np.isfinite(encoder.encode(["dog " * n for n in range(1, 40)])).all()  # shapes not met before


def same_alone(encoder: Embedder, texts: list[str]) -> None:
    batch = encoder.encode(texts, batch_size=16)
    alone = np.stack([encoder.encode(text) for text in texts])
    assert np.isfinite(batch).all()
    assert np.allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-4)
    assert row_cosines(batch, alone).min() > 0.9999


@pytest.mark.parametrize("engine", ENGINES)
def test_naughty_strings_are_the_same_alone_and_in_a_batch(engine: str, tiny_bundle: Path) -> None:
    with edgebert.load(tiny_bundle, engine=engine, precision="fp32", threads=1) as encoder:
        same_alone(encoder, NAUGHTY)


def test_the_big_list_of_naughty_strings(encoder: Embedder) -> None:
    path = Path(os.environ.get("EDGEBERT_DATA", "data")) / "blns" / "strings.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is missing: set EDGEBERT_DATA")
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").rstrip("\n").split("\n")
    same_alone(encoder, [json.loads(line)["text"] for line in lines])


@pytest.mark.parametrize("text", ["the dog runs " * 800_000, "\0" * 10_000_000, "\ud800" * 10_000_000])
def test_ten_megabytes_are_one_text(text: str, encoder: Embedder) -> None:
    vectors = encoder.encode([text, "the dog"])
    assert np.isfinite(vectors).all()
    assert row_cosines(vectors[:1], encoder.encode([text])).min() > 0.9999


@pytest.mark.parametrize("engine", ENGINES)
def test_close_while_64_threads_call_gives_vectors_or_the_clear_error(engine: str, tiny_bundle: Path) -> None:
    encoder = edgebert.load(tiny_bundle, engine=engine, precision="fp32", threads=1)
    wanted, faults, right, closed = encoder.encode(TEXTS), [], [], []

    def call() -> None:
        try:
            while True:
                (right if np.allclose(encoder.encode(TEXTS), wanted, atol=1e-5) else faults).append(1)
        except EngineError as problem:
            (closed if "closed" in str(problem) else faults).append(1)

    callers = [threading.Thread(target=call) for _ in range(64)]
    for caller in callers:
        caller.start()
    while len(right) < 64:
        time.sleep(0.001)
    encoder.close()
    for caller in callers:
        caller.join(60)
    assert (len(closed), faults) == (64, [])


def test_cancelled_calls_among_64_threads_harm_none(tiny_bundle: Path) -> None:
    before, rng = threading.active_count(), random.Random(4)
    with edgebert.load(tiny_bundle, engine="onnxruntime", precision="fp32", threads=1) as encoder:
        wanted = encoder.encode(TEXTS)
        found: list[bool] = []

        async def one() -> None:
            task = asyncio.create_task(encoder.aencode(TEXTS))
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() / 50)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                found.append(np.allclose(await task, wanted, atol=1e-5))

        async def many() -> None:
            await asyncio.gather(*(one() for _ in range(4)))

        callers = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(64)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        assert len(found) > 64
        assert all(found)
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


_LEAKS = """
import gc, os, sys, time
import edgebert
def facts():
    gc.collect()
    time.sleep(0.5)  # a thread that was joined is still listed for a moment
    rss = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return rss, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
for i in range(51):
    with edgebert.load(sys.argv[1], engine=sys.argv[2], precision="int8", threads=2) as encoder:
        encoder.encode(["the dog", "a cat " * 20])
    if i == 10:
        begun = facts()
ended = facts()
assert ended[0] - begun[0] < 16 and ended[1:] == begun[1:], (begun, ended)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not count threads and files so")
@pytest.mark.parametrize("engine", ENGINES)
def test_loading_fifty_times_leaks_nothing(engine: str, tiny_bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LEAKS, str(tiny_bundle), engine],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
