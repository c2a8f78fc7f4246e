"""The frameworks without a network, and a tiny model whose queries and documents differ."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from frameworks import ENGINE

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when haystack is imported


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere is an error that names where: no framework phones home or downloads."""

    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a test wanted to connect to {address!r}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture(scope="session")
def prompted(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    """The tiny bundle with prompts for queries and documents."""
    from edgebert.manifest import manifest_bytes, read_manifest

    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("prompted") / "bundle"))
    prompts = {"query": "the question ", "document": "the answer ", "STS": "the music "}
    manifest = dataclasses.replace(read_manifest(folder), prompts=prompts)
    (folder / "edgebert.json").write_bytes(manifest_bytes(manifest))
    return folder


@pytest.fixture
def encoder(prompted: Path) -> Iterator[object]:
    """What every adapter is compared with."""
    import edgebert

    with edgebert.load(prompted, **ENGINE) as opened:
        yield opened
