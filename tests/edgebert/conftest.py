"""What the tests of the runtime share: a check of the one line an error is, an open encoder, a pretended bf16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edgebert
from edgebert import engines, variants
from edgebert.bundle import Bundle
from edgebert.embedder import Embedder
from edgebert.engines import Engine, Hint
from edgebert.engines.base import precision_of


@pytest.fixture(autouse=True)
def f32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every processor as one that computes in f32 alone, so that what is listed and chosen is the same on all."""
    monkeypatch.setattr(variants, "offered_hints", lambda engine: ("f32",))


class Pretended:
    """OpenVINO under bf16 on any processor: it is f32, but vectors of the shapes that `wrong` names are reversed.

    `opened`: the names and hints asked for, in turn. `only`: the artifacts that are wrong; None for all.
    """

    def __init__(self) -> None:
        self.wrong: Callable[[tuple[int, ...]], bool] = lambda shape: False
        self.only: tuple[str, ...] | None = None
        self.opened: list[tuple[str, Hint]] = []
        self._genuine = engines.open_engine

    def open(
        self, bundle: Bundle, name: str, *, hint: Hint = "f32", threads: int | None = None, streams: int = 1,
        beside: Callable[[], None] | None = None,
    ) -> Engine:  # fmt: skip
        self.opened.append((name, hint))
        engine: Any = self._genuine(bundle, name, threads=threads, streams=streams, beside=beside)
        if hint != "f32":
            embed = engine.embed
            engine.precision = precision_of(bundle.manifest.artifacts[name], hint)
            if self.only is None or name in self.only:
                engine.embed = lambda ids, mask: embed(ids, mask)[:, :: -1 if self.wrong(ids.shape) else 1]
        opened: Engine = engine
        return opened


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch, f32_alone: None) -> Pretended:
    """A processor for which OpenVINO offers bf16."""
    pretended = Pretended()
    monkeypatch.setattr(variants, "offered_hints", lambda e: ("f32", "bf16") if e == "openvino" else ("f32",))
    monkeypatch.setattr(variants, "open_engine", pretended.open)
    return pretended


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
