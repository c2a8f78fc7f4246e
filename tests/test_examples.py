"""The examples do what they say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers import sentences

import edgebert
from edgebert.compact import to_binary, to_int8
from edgebert.nearest import search

STORE = Path(__file__).resolve().parent.parent / "examples" / "vector_store.py"


@pytest.fixture(scope="module")
def store() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vector_store", STORE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dim", [64, 100])
def test_the_store_finds_what_exact_search_finds(store: ModuleType, dim: int) -> None:
    draw = np.random.default_rng(0)
    documents = draw.standard_normal((300, dim)).astype(np.float32)
    queries = documents[:20] + draw.standard_normal((20, dim)).astype(np.float32) / 2
    int8, binary = to_int8(documents), to_binary(documents)
    indices, signs = store.store(int8), store.store(binary)
    wanted = search(to_int8(queries), int8, 3)
    for i, query in enumerate(to_int8(queries)):
        keys, cosines = store.by_codes(indices, query, 3)
        assert keys[0] == wanted.indices[i, 0] == i
        assert keys.tolist() == wanted.indices[i].tolist()
        assert np.allclose(cosines, wanted.scores[i], atol=1e-6)
        keys, cosines = store.by_signs(signs, to_binary(queries)[i], query, int8, 3)
        assert keys[0] == i
        assert np.allclose(cosines[0], wanted.scores[i, 0], atol=1e-6)


def test_the_example_prints_the_nearest_texts(tiny_bundle: Path, tmp_path: Path) -> None:
    texts = sentences(30, seed=8)
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    command = [sys.executable, STORE, tiny_bundle, texts[7], "--texts", tmp_path / "texts.txt", "-k", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with edgebert.load(tiny_bundle) as encoder:
        width = encoder.dimension
    lines = done.stdout.splitlines()
    assert lines[0] == f"int8, {width} bytes a text"
    assert lines[3] == f"binary, {width // 8} bytes a text, ranked again by int8"
    assert len(lines) == 6
    assert lines[1].endswith(texts[7]) and lines[4].endswith(texts[7])
    own = subprocess.run([*command[:3], "cat", "-k", "3"], capture_output=True, text=True, check=False)
    assert own.returncode == 0 and len(own.stdout.splitlines()) == 8, own.stderr
