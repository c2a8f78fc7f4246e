"""What a teacher's head said of rows, kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_teacher, sentences
from tasks import made

from edgebert.bundle import Bundle
from edgebert.distill.course import reader_of
from edgebert.distill.encoder import load_encoder
from edgebert.distill.kept_answers import ImitationCollator, KeptAnswers
from edgebert.distill.task_model import Master
from edgebert.distill.teacher import fingerprint
from edgebert.errors import BudgetError
from edgebert.tasks.reading import Row
from edgebert.tasks.task import IGNORED, Lesson


@pytest.fixture(params=["AutoModelForSequenceClassification", "AutoModelForTokenClassification"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> KeptAnswers:
    base = make_teacher(tmp_path / "base", layers=2)
    made.with_head(base, tmp_path / "teacher", request.param, num_labels=3)
    teacher = Bundle.from_pretrained(tmp_path / "teacher")
    texts = [text[: 10 + 7 * (i % 5)] for i, text in enumerate(sentences(40))]
    rows = reader_of(teacher).pairs([(one, other) for one, other in zip(texts, reversed(texts), strict=True)])[0]
    over_tokens = request.param.endswith("TokenClassification")
    master = Master(load_encoder(teacher, fused_attention=True), 0, over_tokens, hidden=True)
    return KeptAnswers(master, rows, weights=fingerprint(teacher), precision="fp32")


def _live(kept: KeptAnswers, row: Row) -> tuple[Any, Any]:
    with torch.inference_mode():
        encoded = kept.master.encoder(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.int64),
                                      torch.tensor([row.types]))  # fmt: skip
    return encoded.logits[0][0].numpy(), encoded.last_hidden_state[0].numpy()


def test_they_are_what_the_teacher_says(kept: KeptAnswers) -> None:
    rows: list[int] = []
    kept.fill(kept.missing(), rows.append)
    assert sum(rows) == len(kept.asked)
    for number, row in enumerate(kept.asked):
        logits, states = _live(kept, row)
        np.testing.assert_allclose(kept.logits(number), logits, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(kept.states(number), states, atol=4e-3)


def test_a_batch_has_them_where_its_tokens_are(kept: KeptAnswers) -> None:
    kept.fill(kept.missing())
    lessons = [Lesson(row, np.asarray(IGNORED)) for row in kept.asked]
    before = [Lesson(Row([2, 3], [0, 0]), np.asarray(IGNORED))] * 3
    collator = ImitationCollator(before + lessons, [0, len(before)], [kept, kept], pad_token_id=0)
    chosen = [4, 30]
    batch = collator([len(before) + number for number in chosen])
    assert batch["head"] == 1
    for place, number in enumerate(chosen):
        length = len(kept.asked[number])
        assert batch["attention_mask"][place].sum() == length
        logits, states = _live(kept, kept.asked[number])
        found = batch["wanted"][place][:length] if kept.master.over_tokens else batch["wanted"][place]
        np.testing.assert_allclose(found, logits, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(batch["states"][place][:length], states, atol=4e-3)
        assert not batch["states"][place][length:].any()


def test_what_is_there_is_not_computed_again_and_what_is_torn_is(
    kept: KeptAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgebert.distill.kept_answers.SHARD_ROWS", 16)
    few = KeptAnswers(kept.master, kept.asked, weights="w", precision="fp32")
    assert few.missing() == [0, 1, 2]
    assert few.count(few.missing()) == 40
    few.fill([0, 2])
    again = KeptAnswers(kept.master, kept.asked, weights="w", precision="fp32")
    assert again.missing() == [1]
    again.fill([1])
    np.testing.assert_allclose(again.logits(20), _live(kept, kept.asked[20])[0], rtol=1e-6, atol=1e-5)
    torn = next(again.folder.glob("*.states.npy"))
    torn.write_bytes(torn.read_bytes()[:-8])
    assert len(KeptAnswers(kept.master, kept.asked, weights="w", precision="fp32").missing()) == 1
    assert KeptAnswers(kept.master, kept.asked, weights="other", precision="fp32").missing() == [0, 1, 2]


def test_a_full_disk_is_said_before_anything_is_computed(kept: KeptAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("edgebert.distill.corpus.shutil.disk_usage", lambda path: usage)
    with pytest.raises(BudgetError, match=r"task\.hidden = 0"):
        kept.fill(kept.missing())
    assert kept.missing() == [0]
