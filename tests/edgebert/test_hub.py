"""Models by Hub id, from a small server that speaks the Hub's protocol."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TAGGED = "89abcdef0123456789abcdef0123456789abcdef"


class Hub(ThreadingHTTPServer):
    """Repositories `org/NAME`, each a folder. `asked`: the files that were fetched."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.asked = repositories, list[str]()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(self.path.split("?")[0]).strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main", "tree" in parts)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _info(self, repository: str, revision: str, tree: bool) -> None:
        folder = self.server.repositories.get(repository)
        if folder is None:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", "v1", COMMIT, TAGGED):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        if tree:
            rows = [{"type": "file", "path": n, "size": (folder / n).stat().st_size, "oid": "0" * 40} for n in names]
            return self._send(200, json.dumps(rows).encode())
        commit = TAGGED if revision in ("v1", TAGGED) else COMMIT
        facts = {"id": repository, "sha": commit, "siblings": [{"rfilename": n} for n in names], "tags": []}
        return self._send(200, json.dumps(facts | {"private": False, "downloads": 0, "likes": 0}).encode())

    def _file(self, repository: str, revision: str, name: str) -> None:
        path = self.server.repositories[repository] / name
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = path.read_bytes()
        if self.command == "GET":
            self.server.asked.append(name)
        tag = hashlib.sha256(data).hexdigest()
        commit = TAGGED if revision in ("v1", TAGGED) else COMMIT
        return self._send(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": commit})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@pytest.fixture
def hub(tiny_teacher: Path, copied_bundle: Path, tmp_path: Path) -> Iterator[Hub]:
    """A running Hub with org/teacher, a plain folder, org/bundle, and org/foreign, which has engine files alone."""
    (copied_bundle / ".gitattributes").write_text("*.bin filter=lfs\n", encoding="utf-8")
    foreign = Path(shutil.copytree(copied_bundle, tmp_path / "foreign"))
    (foreign / "edgebert.json").unlink()
    shutil.copy(foreign / "onnx" / "model_qint8.onnx", foreign / "onnx" / "model_qint8_arm64.onnx")
    server = Hub({"org/teacher": tiny_teacher, "org/bundle": copied_bundle, "org/foreign": foreign})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def edgebert(hub: Hub, own_cache: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own that knows only that Hub; offline=True: knows none."""
    import os

    def run(*arguments: object, offline: bool = False) -> subprocess.CompletedProcess[str]:
        settings = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "1" if offline else "0",
            "HF_HUB_DISABLE_XET": "1",
            "no_proxy": "*",
        }
        words = [sys.executable, "-m", "edgebert", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **settings})

    return run


def test_a_bundle_is_loaded_by_its_hub_id_and_later_offline(
    hub: Hub, edgebert: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    online = edgebert("embed", "org/bundle", "--text", "the dog runs")
    assert online.returncode == 0, online.stderr
    assert len(json.loads(online.stdout)) == 64
    assert "onnx/model_qint8.onnx" in hub.asked
    before = list(hub.asked)
    offline = edgebert("embed", "org/bundle", "--text", "the dog runs", offline=True)
    assert (offline.returncode, offline.stdout) == (0, online.stdout)
    assert hub.asked == before


def test_a_teacher_by_its_hub_id_brings_safetensors_and_no_files_of_other_runtimes(
    hub: Hub, edgebert: Callable[..., subprocess.CompletedProcess[str]], corpus_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "student"
    done = edgebert(
        "distill", "org/teacher", "--revision", "v1", "--corpus", corpus_file, "--layers", 2, "--epochs", 0.2, "-o", out
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "edgebert.json").read_text(encoding="utf-8"))["lineage"]["teacher"] == "org/teacher"
    assert "model.safetensors" in hub.asked
    assert not [name for name in hub.asked if name.startswith(("onnx/", "openvino/"))]


def test_an_unknown_revision_and_an_unknown_model_are_one_clear_error(
    edgebert: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for words, value in ((("org/bundle", "--revision", "v9"), "org/bundle"), (("org/nothing",), "org/nothing")):
        done = edgebert("verify", *words)
        assert done.returncode == 1, done.stdout
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("edgebert: ")
        assert value in line


def test_a_model_that_is_not_in_the_cache_is_an_error_offline(
    edgebert: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = edgebert("verify", "org/bundle", offline=True)
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE" in done.stderr


def engine_files_in(names: list[str]) -> set[str]:
    return {name for name in names if name.endswith((".onnx", ".xml", ".bin", ".safetensors"))}


def test_of_a_repository_without_manifest_only_the_engine_file_that_runs_is_downloaded(
    hub: Hub, edgebert: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    words = ("embed", "org/foreign", "--text", "the dog runs", "--engine", "onnxruntime")
    online = edgebert(*words)
    assert online.returncode == 0, online.stderr
    assert engine_files_in(hub.asked) == {"onnx/model.onnx"}
    before = list(hub.asked)
    offline = edgebert(*words, offline=True)
    assert (offline.returncode, offline.stdout) == (0, online.stdout)
    assert hub.asked == before
    done = edgebert(*words, "--precision", "int8", offline=True)
    assert done.returncode == 1
    assert "has no int8 file for onnxruntime on this processor; it has onnx/model.onnx (fp32)" in done.stderr
    named = edgebert(*words, "--artifact", "onnx/model_qint8_arm64.onnx")
    assert named.returncode == 0, named.stderr
    assert engine_files_in(hub.asked) == {"onnx/model.onnx", "onnx/model_qint8_arm64.onnx"}


def test_the_workshop_still_gets_the_weights_of_such_a_repository(
    hub: Hub, edgebert: Callable[..., subprocess.CompletedProcess[str]], corpus_file: Path, tmp_path: Path
) -> None:
    words = ("--corpus", corpus_file, "--layers", 2, "--epochs", 0.2, "-o", tmp_path / "student")
    done = edgebert("distill", "org/foreign", *words)
    assert done.returncode == 0, done.stderr
    assert engine_files_in(hub.asked) == {"model.safetensors"}
