"""What the tests of the runtime share: a check of the one line an error is, and an open encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgebert
from edgebert.embedder import Embedder


@pytest.fixture
def refused(cli: Callable[..., object]) -> Callable[..., str]:
    """Runs a command that must fail with exit code 1 and one line that holds `says`, and leave nothing of `out`."""

    def run(*arguments: object, says: str, out: Path | None = None) -> str:
        there = set(out.parent.iterdir()) if out is not None and out.parent.is_dir() else set()
        result = cli(*arguments)
        lines = result.err.strip().splitlines()
        assert result.code == 1, result
        assert len(lines) == 1, lines
        assert lines[0].startswith("edgebert: ")
        assert says in lines[0]
        if out is not None:
            assert not out.exists()
            assert (set(out.parent.iterdir()) if out.parent.is_dir() else set()) == there
        return lines[0]

    return run


@pytest.fixture(scope="session")
def encoder(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    """The tiny bundle in ONNX Runtime, fp32; do not close it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEBERT_CACHE", str(tmp_path_factory.mktemp("encoder-cache")))
        opened = edgebert.load(tiny_bundle, engine="onnxruntime", precision="fp32", threads=1)
    with opened:
        yield opened
