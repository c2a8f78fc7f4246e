"""What every test may use: a cache of its own, a tiny teacher, its quantized bundle, and the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import make_teacher, sentences


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh cache folder, and no Hub: no test reads or leaves anything in the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EDGEBERT_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `make_teacher`; do not change it."""
    return make_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path) -> Path:
    """The tiny teacher, quantized: a bundle with all four artifacts. Do not change it; see `copied_bundle`."""
    from edgebert.bundle import Bundle
    from edgebert.quantize.stage import quantize

    out = tmp_path_factory.mktemp("bundle") / "tiny"
    quantize(Bundle.from_pretrained(tiny_teacher), sentences(200, seed=1), out)
    return out


@pytest.fixture
def copied_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    """400 made-up sentences, one a line."""
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(sentences(400)) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line in this process, through the entry point that maps errors to exit codes."""
    from edgebert.cli import main

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["edgebert", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run
