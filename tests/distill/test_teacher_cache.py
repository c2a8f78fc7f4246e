"""The teacher's answers on disk: what is in them, what they are named by, and going on after a break."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_teacher, sentences

from edgebert.bundle import Bundle
from edgebert.distill import teacher as module
from edgebert.distill.encoder import encode_ids, load_encoder, load_tokenizer
from edgebert.distill.ragged import Ragged, RaggedWriter
from edgebert.distill.teacher import TeacherCache, fingerprint
from edgebert.errors import BudgetError

ROWS = 40
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def teacher(tiny_teacher: Path) -> Bundle:
    """The tiny teacher, opened."""
    return Bundle.from_pretrained(tiny_teacher)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 16 rows and batches of 5."""
    monkeypatch.setattr(module, "SHARD_ROWS", 16)
    monkeypatch.setattr(module, "_BATCH", 5)


def tokenized(teacher: Bundle, texts: list[str], path: Path) -> Ragged:
    """The ids of those texts on disk."""
    with RaggedWriter(path, np.int32) as writer:
        for tokens in load_tokenizer(teacher)(texts):
            writer.append(tokens.ids)
    return Ragged(path)


@pytest.fixture
def ids(teacher: Bundle, tmp_path: Path) -> Ragged:
    """The ids of 40 sentences."""
    return tokenized(teacher, sentences(ROWS), tmp_path / "ids")


def filled(teacher: Bundle, ids: Ragged, *, hidden: bool = True) -> TeacherCache:
    """A whole cache."""
    cache = TeacherCache(teacher, ids, hidden=hidden, precision="fp32")
    cache.fill(cache.missing())
    return cache


def test_the_cache_holds_the_teachers_vectors_and_states_in_float16(teacher: Bundle, ids: Ragged) -> None:
    cache = filled(teacher, ids)
    encoder = load_encoder(teacher)
    wanted = encode_ids(encoder, list(ids), 0)
    found = cache.vectors(np.array([39, 0, 15, 16, 31, 32]))
    assert found.dtype == np.float16
    assert np.abs(found.astype(np.float32) - wanted[[39, 0, 15, 16, 31, 32]]).max() < 1e-3
    for row in (0, 15, 16, 39):
        with torch.inference_mode():
            alone = torch.from_numpy(ids[row].astype(np.int64))[None]
            states = encoder(alone, torch.ones_like(alone)).last_hidden_state[0].numpy()
        assert cache.states(row).shape == states.shape == (len(ids[row]), 64)
        assert cache.states(row).dtype == np.float16
        assert np.abs(cache.states(row).astype(np.float32) - states).max() < 4e-3


def test_a_whole_cache_misses_nothing_and_is_not_computed_again(
    teacher: Bundle, ids: Ragged, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TeacherCache(teacher, ids, hidden=True, precision="fp32").missing() == [0, 1, 2]
    filled(teacher, ids)
    again = TeacherCache(teacher, ids, hidden=True, precision="fp32")
    assert again.missing() == []
    monkeypatch.setattr(module, "open_teacher", lambda *_, **__: pytest.fail("the teacher was loaded"))
    again.fill(again.missing())


def test_a_broken_run_goes_on_with_the_shard_it_broke_at(teacher: Bundle, ids: Ragged) -> None:
    whole = filled(teacher, ids)
    expected = whole.vectors(np.arange(ROWS)).copy()
    shutil.rmtree(whole.folder)
    broken = TeacherCache(teacher, ids, hidden=True, precision="fp32")
    done = 0

    def interrupt(rows: int) -> None:
        nonlocal done
        done += rows
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.fill(broken.missing(), interrupt)
    assert len(list(broken.folder.iterdir())) == 2  # vectors and states of the first shard, and nothing half written
    told: list[int] = []
    again = TeacherCache(teacher, ids, hidden=True, precision="fp32")
    assert again.missing() == [1, 2]
    again.fill(again.missing(), told.append)
    assert sum(told) == ROWS - 16
    assert np.array_equal(again.vectors(np.arange(ROWS)), expected)


def test_a_shard_without_its_states_is_missing_where_states_are_wanted(teacher: Bundle, ids: Ragged) -> None:
    filled(teacher, ids, hidden=False)
    assert TeacherCache(teacher, ids, hidden=False, precision="fp32").missing() == []
    assert TeacherCache(teacher, ids, hidden=True, precision="fp32").missing() == [0, 1, 2]
    cache = filled(teacher, ids)
    next(cache.folder.glob("*.states.npy")).unlink()
    assert len(TeacherCache(teacher, ids, hidden=True, precision="fp32").missing()) == 1


def test_a_text_that_shares_a_stretch_shares_its_shards(teacher: Bundle, ids: Ragged, tmp_path: Path) -> None:
    filled(teacher, ids)
    changed = sentences(ROWS)
    changed[20] = "a new dog writes."
    other = TeacherCache(teacher, tokenized(teacher, changed, tmp_path / "other"), hidden=True, precision="fp32")
    assert other.missing() == [1]
    longer = tokenized(teacher, [*sentences(ROWS), "one more."], tmp_path / "longer")
    assert TeacherCache(teacher, longer, hidden=True, precision="fp32").missing() == [2]


def test_rows_cut_at_other_places_are_other_texts(teacher: Bundle, tmp_path: Path) -> None:
    caches = []
    for name, rows in (("a", [[2, 5, 3], [2, 3]]), ("b", [[2, 5], [3, 2, 3]])):
        with RaggedWriter(tmp_path / name, np.int32) as writer:
            for row in rows:
                writer.append(row)
        caches.append(TeacherCache(teacher, Ragged(tmp_path / name), hidden=False, precision="fp32"))
    caches[0].fill([0])
    assert caches[1].missing() == [0]


def test_the_cache_is_keyed_by_teacher_and_precision(teacher: Bundle, ids: Ragged, tmp_path: Path) -> None:
    filled(teacher, ids)
    assert TeacherCache(teacher, ids, hidden=True, precision="bf16").missing() == [0, 1, 2]
    other = Bundle.from_pretrained(make_teacher(tmp_path / "other", seed=1))
    assert TeacherCache(other, ids, hidden=True, precision="fp32").missing() == [0, 1, 2]
    copy = Bundle.from_pretrained(shutil.copytree(teacher.root, tmp_path / "copy"))
    assert TeacherCache(copy, ids, hidden=True, precision="fp32").missing() == []


def test_the_fingerprint_changes_with_what_the_vectors_depend_on(teacher: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(teacher.root, tmp_path / "copy"))
    known = fingerprint(teacher)
    (folder / "README.md").write_text("new", encoding="utf-8")
    assert fingerprint(Bundle.from_pretrained(folder)) == known
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text(encoding="utf-8").replace("mean", "max"), encoding="utf-8")
    assert fingerprint(Bundle.from_pretrained(folder)) != known


def test_a_disk_too_small_for_the_cache_is_told_before_anything_is_computed(
    teacher: Bundle, ids: Ragged, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = int(ids.lengths.sum())
    needed = 2 * 64 * (ROWS + tokens)
    monkeypatch.setattr(module, "open_teacher", lambda *_, **__: pytest.fail("the teacher was loaded"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed))
    cache = TeacherCache(teacher, ids, hidden=True, precision="fp32")
    with pytest.raises(BudgetError, match="the cache of the teacher's vectors needs"):
        cache.fill([0, 1, 2])
    assert not cache.folder.exists()
